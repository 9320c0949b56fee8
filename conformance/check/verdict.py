"""What a check says: verdicts, labels and divergences, as values that print as text and as JSON."""

from enum import StrEnum

from msgspec import Struct, field


class Outcome(StrEnum):
    """The four verdicts; only CONFORMS is a pass."""

    CONFORMS = "conforms"
    DIVERGES = "diverges"
    INCONCLUSIVE = "inconclusive"
    NOT_MODELLED = "not modelled"


SEVERITY = {Outcome.CONFORMS: 0, Outcome.NOT_MODELLED: 1, Outcome.INCONCLUSIVE: 2, Outcome.DIVERGES: 3}


class FrameLabel(Struct, frozen=True):
    """`host` sent frame `number` by the rule `by`, in its step `step`; `note` names the inferred hidden event.

    `state` is the sender's state behind the frame, with the kernel's name; '' where the layer has none.
    """

    number: int
    host: str
    by: str
    step: str = ""
    note: str = ""
    state: str = ""


class NearMiss(Struct, frozen=True):
    """A rule that could have sent the frame, and the guard or field that stood against it."""

    rule: str
    why: str


class Divergence(Struct, frozen=True):
    """The first frame (or missing frame) that the specification does not allow.

    `time` is in seconds on the capture's clock. `allowed` lists what could have been sent then; `state` holds the
    model's state in words; `around` the frames before and after, as one line each; `constraint` is the id of what was
    violated.
    """

    frame: int
    time: float
    host: str
    what: str
    allowed: tuple[str, ...] = ()
    near: tuple[NearMiss, ...] = ()
    state: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    constraint: str = ""


class Verdict(Struct, frozen=True):
    """The judgement on one subject: a connection, a neighbour or a ring.

    `unmodelled` counts frames of classes that the specification does not cover yet; `inferred` says what was taken for
    granted, with its evidence; `events` are the hidden events that explain the frames, in order. `counters` are by host
    the kernel's MIB counters as far as the labels give them, each as the interval that holds its value.
    """

    layer: str
    subject: str
    outcome: Outcome
    reason: str = ""
    labels: tuple[FrameLabel, ...] = ()
    divergence: Divergence | None = None
    unmodelled: dict[str, int] = field(default_factory=dict)
    inferred: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    counters: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)


class FileReport(Struct):
    """The judgement on one capture.

    `notices` are what the reader met on the way (a truncated end, packets that the capture dropped); `error` says why
    nothing, or no more, could be read.
    """

    path: str
    profile: str = ""
    frames: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def outcome(self) -> Outcome:
        """The worst verdict; INCONCLUSIVE if there is none."""
        if not self.verdicts:
            return Outcome.INCONCLUSIVE
        return max((v.outcome for v in self.verdicts), key=SEVERITY.__getitem__)

    @property
    def exit_status(self) -> int:
        """0 all conform, 1 something diverges, 2 unreadable, 3 inconclusive or not modelled."""
        if self.outcome is Outcome.DIVERGES:
            return 1
        if self.error:
            return 2
        return 0 if self.outcome is Outcome.CONFORMS else 3
