"""Systems for the search: a lockless discipline between two processors, the softirq and a driver that stops and wakes.

What the proof shows for any number of packets the search shows for a few, from the very beginning: that the states
which the proof speaks of are reached, and that whatever happened everything can be sent in the end.
"""

from collections.abc import Iterable
from typing import Final

from refmodel.engine.explore_system import Budget, System, machine_component
from refmodel.rule import Event
from refmodel.sched.nolock import NOLOCK, NetTx, Nolock, NolockParams, Pc, Send, Step, Wake, WakeStep, at

GONE: Final = "qdisc.a == Pc.IDLE and qdisc.b == Pc.IDLE and not qdisc.sched and not qdisc.waking"
NOTHING_LEFT: Final = f"{GONE} and not qdisc.stopped and qdisc.queued == 0 and qdisc.back == 0"
NO_LOST_WAKEUP: Final = f"not ({GONE}) or qdisc.stopped or (qdisc.queued == 0 and qdisc.back == 0)"


def nolock(*, packets: int = 3, refusals: int = 2, quota: bool = True) -> System:
    """A lockless discipline to which two processors send `packets`, before a driver that refuses `refusals` times.

    A refusal may stop the queue, as may a packet that the driver takes. `quota`: a run may end before all is sent.
    """

    def moves(s: Nolock, budget: Budget) -> Iterable[tuple[Event, Budget]]:
        left, busy = budget
        for b in (False, True):
            if at(s, b) == Pc.IDLE:
                if left:
                    yield Send(b=b), (left - 1, busy)
                if s.sched:
                    yield NetTx(b=b), budget
                continue
            yield Step(b=b), budget
            if at(s, b) == Pc.XMIT:
                if busy:
                    for stops in (False, True):
                        yield Step(b=b, busy=True, stops=stops), (left, busy - 1)
                    yield Step(b=b, stops=True), (left, busy - 1)
                if quota:
                    yield Step(b=b, quota=True), budget
        if s.stopped and not s.waking:
            yield Wake(), budget
        if s.waking:
            yield WakeStep(), budget

    part = machine_component("qdisc", NOLOCK, Nolock(), NolockParams(), moves=moves, budget=(packets, refusals))
    about = f"{packets} packets from two processors, {refusals} refusals or stops, runs cut short: {quota}"
    return System(name="a lockless discipline", components=(part,), sources=(__name__,), about=about)
