"""Short runs of one entry: what tests of the rules are written in."""

from typing import Any

from refmodel.engine.run import pick
from refmodel.neigh import NEIGH
from refmodel.neigh.entry import Entry
from refmodel.neigh.parms import Family, NeighParms
from refmodel.neigh.types import NUD, Create, Neigh, Override, Timer, Update

SECOND = 1_000_000
START = 1_000 * SECOND
MAC, OTHER = 0x020000000002, 0x020000000003
SKB = 768
STRICT = pick(NEIGH, check=True).apply


class Run(Entry):
    """An entry at a clock of its own (us)."""

    def __init__(self, family: Family = Family.INET, **parms: Any) -> None:
        super().__init__(NeighParms(family=family, **parms), STRICT)
        self.now = START
        self.did("create", self.feed(Create(self.now)))

    def did(self, name: str, fed: Any) -> tuple[Any, ...]:
        rule, effects = fed
        self.rule = rule.id.rsplit(".", 1)[1]
        assert name in ("", self.rule)
        return tuple(effects)

    @property
    def n(self) -> Neigh:
        assert isinstance(self.state, Neigh)
        return self.state

    def wait(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    def send(self, truesize: int = SKB, **more: bool) -> tuple[Any, ...]:
        return self.did("", self.output(self.now, truesize, **more))

    def do(self, kind: Any, *args: Any, **more: Any) -> tuple[Any, ...]:
        return self.did("", self.feed(kind(self.now, *args, **more)))

    def timer(self) -> tuple[Any, ...]:
        """Waits for the timer."""
        self.now = max(self.now, self.n.timer)
        return self.do(Timer)

    def reply(self, lladdr: int = MAC, override: Override = Override.AFTER_LOCKTIME) -> tuple[Any, ...]:
        """A unicast ARP reply of the peer."""
        return self.do(Update, NUD.REACHABLE, lladdr=lladdr, override=override)

    def request(self, lladdr: int = MAC) -> tuple[Any, ...]:
        """The peer asks for us."""
        return self.do(Update, NUD.STALE, lladdr=lladdr, override=Override.YES)

    def admin(self, new: NUD, lladdr: int | None = None, **flags: bool) -> tuple[Any, ...]:
        given = {"has_lladdr": False} if lladdr is None else {"lladdr": lladdr}
        return self.do(Update, new, override=Override.YES, admin=True, **given, **flags)


def reachable(**parms: Any) -> Run:
    """A resolved entry through which one packet went."""
    r = Run(**parms)
    r.send()
    r.reply()
    r.send()
    return r


def stale(**parms: Any) -> Run:
    """The same after its reachable time, unused."""
    r = reachable(**parms)
    r.timer()
    r.timer()
    assert r.n.nud_state == NUD.STALE
    return r


def kinds(effects: tuple[Any, ...]) -> list[str]:
    return [type(x).__name__ for x in effects]
