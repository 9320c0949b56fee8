"""Bounded integers and TCP sequence arithmetic.

A field's annotation is more than a hint: its range is a proof obligation for every rule that writes the field, and the
domain from which Hypothesis and the search draw. Sequence numbers are plain integers in [0, 2**32); they are compared
only through `before` and `after` and advanced only through `add`, as in the kernel's include/net/tcp.h.
"""

from typing import Annotated, Any, Final, NamedTuple

from refmodel.rule import pure

M32: Final = 0xFFFFFFFF
H32: Final = 0x80000000


class Range(NamedTuple):
    """Inclusive bounds of an integer field."""

    lo: int
    hi: int


class Near(NamedTuple):
    """States that a 32-bit field usually lies near one of `bases`, in the direction of `sign`.

    It restricts nothing: the prover substitutes field = base + sign * d (mod 2**32), which is a bijection, and samplers
    prefer values close to the base. The first base that is a field of the state under proof is taken.
    """

    bases: tuple[str, ...]
    sign: int = 1


def near(*bases: str, sign: int = 1) -> Near:
    """Builds the `Near` annotation: `Annotated[int, Range(0, M32), near("snd_una")]`."""
    return Near(bases, sign)


u8 = Annotated[int, Range(0, 0xFF)]
u16 = Annotated[int, Range(0, 0xFFFF)]
u32 = Annotated[int, Range(0, M32)]

# Time is microseconds since an arbitrary origin. 2**53 us is 285 years: any bound does that keeps sums linear.
TIME_MAX: Final = 1 << 53
NEVER: Final = TIME_MAX
usec = Annotated[int, Range(0, TIME_MAX)]


@pure
def add(a: int, n: int) -> int:
    """Advances sequence number `a` by `n` (mod 2**32)."""
    return (a + n) & M32


@pure
def before(a: int, b: int) -> bool:
    """Sequence number `a` is earlier than `b`; source include/net/tcp.h:before."""
    return ((a - b) & M32) >= H32


@pure
def after(a: int, b: int) -> bool:
    """Sequence number `a` is later than `b`; source include/net/tcp.h:after."""
    return ((b - a) & M32) >= H32


@pure
def between(seq: int, low: int, high: int) -> bool:
    """low <= seq <= high in sequence space; source include/net/tcp.h:between."""
    return ((high - low) & M32) >= ((seq - low) & M32)


@pure
def distance(a: int, b: int) -> int:
    """How far sequence number `b` lies after `a`, in [0, 2**32)."""
    return (b - a) & M32


def bounds(metadata: tuple[Any, ...]) -> tuple[int, int] | None:
    """The (lo, hi) of the first annotation that carries bounds: a Range or a profile's Sysctl; None without one."""
    for m in metadata:
        if hasattr(m, "lo") and hasattr(m, "hi"):
            return m.lo, m.hi
    return None
