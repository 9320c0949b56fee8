"""The steps that send: from the name that a label carries to its citation and sentence in the registry."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from msgspec import Struct

from refmodel.rule import STEPS, Step

WHOLE: Final = "tcp.whole."


class Sends(Struct, frozen=True):
    """A function of the kernel that sends: its id in the registry, its citations, what it does in one sentence."""

    name: str
    id: str
    kernel: tuple[str, ...]
    rfc: tuple[str, ...]
    says: str


@cache
def _whole() -> tuple[Step, ...]:
    """The functions of the whole of TCP."""
    import refmodel.tcp.whole as package

    for m in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{m.name}")
    return tuple(s for s in STEPS.values() if s.id.startswith(WHOLE))


@cache
def sender(name: str) -> Sends:
    """The step called `name`, as `Packet.by` has it; a name that the registry does not know has no citation."""
    found = [s for s in _whole() if s.id.endswith(f".{name}")]
    found += [s for s in _whole() if any(k.rpartition(":")[2] == name for k in s.kernel)]
    if not found:
        return Sends(name, name, (), (), "")
    s = found[0]
    return Sends(name, s.id, s.kernel, s.rfc, s.says)
