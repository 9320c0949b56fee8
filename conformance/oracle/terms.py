"""What the parts of an end say to each other: labels, excuses, refusals, and what is known of a host.

These are plain records. `end.py` hands them on, so that a part needs that module alone.
"""

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct, field

from conformance.check.setup import Host

Interval = tuple[int, int]
UNKNOWN: Final = 1 << 62

Kind = Literal["dropped", "late", "unseen", "unheard", "overtaken"]


class Excuse(Struct, frozen=True):
    """A hypothesis that would excuse a frame, with its evidence.

    `dropped`: input `frame` was lost behind the tap. `late`: input `frame` was processed only after frame `until` left.
    `unseen`: this end sent something before `frame` that the tap did not see; `unheard`: `frame` answers something that
    it did not see. `overtaken`: `frame` left this end before frames that the tap saw earlier. The cheapest
    (`cost`) is tried first. `also`: other frames of which the same is taken for true at once.
    """

    kind: Kind
    frame: int
    evidence: str
    until: int = 0
    cost: int = 1
    also: tuple[int, ...] = ()

    @property
    def frames(self) -> tuple[int, ...]:
        """All frames that it is about."""
        return (self.frame, *self.also)


class Refusal(Exception):
    """A frame that the specification does not allow here.

    `constraint` is an id of `constraints.CONSTRAINTS`; `what` says it with the figures; `allowed` what could have been
    sent instead; `near` the steps that came close, each with what stood against it.
    """

    def __init__(
        self,
        constraint: str,
        what: str,
        allowed: Iterable[str] = (),
        near: Iterable[tuple[str, str]] = (),
        excuses: Iterable[Excuse] = (),
    ) -> None:
        super().__init__(f"{constraint}: {what}")
        self.constraint, self.what = constraint, what
        self.side: int | None = None  # the end that refused, where it was not the frame's sender
        self.allowed, self.near = tuple(allowed), tuple(near)
        self.excuses = tuple(sorted(excuses, key=lambda e: e.cost))


class Label(Struct, frozen=True):
    """Which function of the kernel sent the frame (as `Packet.by` of the whole TCP names it), and what told it."""

    by: str
    note: str = ""


class Stack(Struct):
    """What is taken for granted of an end's host; the parts may sharpen it as they learn.

    `linux`: held to Linux's rules, else to the RFCs' only. `sure`: a sidecar, the caller or the handshake shows a
    kernel that is modelled. `near`: the tap is on this host (None: not known).
    `exact`: nothing is lost between this host's TCP and the tap. Times in us. `told` are the sysctls that are known,
    `given` whether a sidecar gave them. `lossy`: inputs may be lost behind the tap (None: not known);
    `presumed`: that they are not is taken for granted until the capture shows otherwise; `close`: that the tap is on
    this host is. `plain`: the recorder knows that nothing is lost between the tap and this host, either way. `whole`:
    the recorder says that the tap missed nothing of what passed it. `doubles`: the recorder
    says whether the network gave an end frames twice (None: not known). `ordered`: the recorder knows of no queue on
    this host that frames leave in another order. `cached`: the host may know of the path from connections before
    (tcp_metrics). `sheds`: the recorder counted frames of the host that were lost before its tap. `falls`: when (us)
    ICMP told it of a smaller path MTU, and which.
    """

    kernel: str = "6.12"
    hz: int = 250
    linux: bool = True
    sure: bool = False
    why_not: str = ""
    near: bool | None = None
    late: int = 50_000
    base: int = 0
    given: bool = False
    lossy: bool | None = None
    presumed: bool = False
    close: bool = False
    exact: bool = False
    whole: bool = False
    plain: bool = False
    doubles: bool | None = None
    ordered: bool = False
    cached: bool = False
    sheds: bool = False
    falls: tuple[tuple[int, int], ...] = ()
    told: dict[str, int] = field(default_factory=dict)
    host: Host | None = None
    evidence: list[str] = field(default_factory=list)

    @property
    def in_order(self) -> bool:
        """Whether the tap saw this host's frames in the order in which they left."""
        return self.exact or self.ordered

    @property
    def jiffy(self) -> int:
        """The length of a jiffy in us."""
        return 1_000_000 // self.hz
