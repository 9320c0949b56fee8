"""What an end consists of, and what its first frames tell of its stack."""

from collections.abc import Sequence

from conformance.check.setup import Setup
from conformance.oracle.end import End, Stack
from conformance.oracle.identity import Identity
from conformance.oracle.life import Life
from conformance.oracle.receiver import Receiver
from conformance.oracle.sender import Sender
from conformance.oracle.stacks import infer_stack
from conformance.oracle.vantage import infer_vantage, quick
from refmodel.packet.segment import Segment


def equip(e: End, setup: Setup, opens: bool, known: bool) -> None:
    """Gives an end its parts. `opens`: the capture has its connection from the first SYN; `known`: from before it."""
    e.ident = Identity(e)
    e.life = Life(e, setup, opens, known)
    e.tx = Sender(e)
    e.rx = Receiver(e)


def infer(
    early: Sequence[Segment], sides: Sequence[tuple[bytes, int]], setup: Setup, before: Sequence[End] | None
) -> tuple[Stack, Stack]:
    """The stacks of both ends, from the sidecar or else from the first frames."""
    a, b = (infer_stack(early, who, setup) for who in sides)
    if before is not None:
        for new in (a, b):
            for old in before:
                if old.stack.host is new.host and new.host is not None:
                    new.base = old.stack.base
    infer_vantage(early, sides, (a, b), setup)
    for who, stack in zip(sides, (a, b), strict=True):
        if stack.lossy is None:
            stack.lossy, stack.presumed = False, True
        if stack.near is None:
            stack.near, stack.close = True, True
            if quick(early, who):
                stack.late = setup.late
        if stack.close:
            stack.exact = stack.lossy is False
    return a, b
