"""Profiles: which kernel, with which sysctls, is being modelled.

A `Sysctl` stands in the annotation of each parameter field that a rule reads, so its range is what the proofs quantify
over and its default is what a run takes. `Profile.params` fills any layer's parameters; layers never look sysctls up.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

from msgspec import Struct

from refmodel.rule import Params

KERNELS: Final = ("6.1", "6.12", "6.18")
REFERENCE: Final = "6.12"

P = TypeVar("P", bound=Params)


class UnknownProfile(ValueError):
    """No profile has that name."""


class UnknownSysctl(ValueError):
    """No rule reads a sysctl of that name."""


class OutOfRange(ValueError):
    """A value lies outside the range that the kernel accepts."""


class Sysctl(Struct, frozen=True):
    """One tunable: its range as the kernel enforces it, its default, and the unit in which rules read it.

    `scale` converts the sysctl's own unit to the rule's (a sysctl in seconds, a rule in us: 1_000_000); `lo`, `hi` and
    `default` are in the sysctl's unit; `changed` holds defaults of kernels that differ from the reference.
    """

    name: str
    default: int
    min: int
    max: int
    cite: str
    scale: int = 1
    changed: tuple[tuple[str, int], ...] = ()

    @property
    def lo(self) -> int:
        """The smallest value in the rule's unit."""
        return self.min * self.scale

    @property
    def hi(self) -> int:
        """The largest value in the rule's unit."""
        return self.max * self.scale

    def default_in(self, kernel: str) -> int:
        """The default of one kernel version, in the sysctl's own unit."""
        return dict(self.changed).get(kernel, self.default)


class Profile(Struct, frozen=True):
    """A kernel version, its HZ, and the sysctls that differ from its defaults."""

    kernel: str = REFERENCE
    hz: int = 250
    sysctls: Mapping[str, int] = {}

    def value(self, sysctl: Sysctl) -> int:
        """The value of `sysctl` under this profile, in the rule's unit; raises OutOfRange."""
        v = self.sysctls.get(sysctl.name, sysctl.default_in(self.kernel))
        if not sysctl.min <= v <= sysctl.max:
            raise OutOfRange(f"{sysctl.name} = {v}: the kernel takes {sysctl.min} to {sysctl.max}")
        return v * sysctl.scale

    def params(self, kind: type[P], **given: Any) -> P:
        """Fills `kind`: sysctls from the profile, `kernel` and `hz` by name, the rest from `given` or default."""
        values: dict[str, Any] = {}
        for name, hint in get_type_hints(kind, include_extras=True).items():
            s = sysctl_of(hint)
            if s is not None:
                v = self.value(s)
                values[name] = bool(v) if get_args(hint)[0] is bool else v
            elif name == "kernel":
                values[name] = version_number(self.kernel)
            elif name == "hz":
                values[name] = self.hz
        return kind(**(values | given))


def sysctl_of(hint: Any) -> Sysctl | None:
    """The Sysctl in an annotation, or None."""
    if get_origin(hint) is Annotated:
        for m in get_args(hint)[1:]:
            if isinstance(m, Sysctl):
                return m
    return None


def version_number(kernel: str) -> int:
    """'6.12' as 612: versions compare as integers in rules."""
    major, minor = kernel.split(".")[:2]
    return int(major) * 100 + int(minor)


def profile(kernel: str = REFERENCE, hz: int = 250, sysctls: Mapping[str, int] | None = None) -> Profile:
    """The profile of `kernel` ('6.1', '6.12', '6.18') with `sysctls` set; raises UnknownProfile."""
    if kernel not in KERNELS:
        raise UnknownProfile(f"no profile for kernel {kernel!r}; there are {', '.join(KERNELS)}")
    return Profile(kernel, hz, dict(sysctls or {}))


def nearest(release: str) -> str:
    """The profile's name for a `uname -r` release: the newest kernel not newer than it, else the oldest."""
    parts = release.split("-")[0].split(".")
    n = version_number(".".join(parts[:2]))
    older = [k for k in KERNELS if version_number(k) <= n]
    return older[-1] if older else KERNELS[0]
