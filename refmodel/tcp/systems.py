"""Systems for the search: two TCP machines and a faulty wire, a handshake, a machine and a peer that sends anything.

Time stands still: every event happens at NOW, an armed timer is always due, and `timeless` forgets when things were,
so that states differ by what they can do and not by their stamps. What needs time to pass (the end of retransmission
in an open connection, rate limits) is therefore outside these searches; how often timers fire is bounded by budgets.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from refmodel.engine.difference import difference
from refmodel.engine.explore_system import Budget, Component, System, Wire, machine_component
from refmodel.profile import REFERENCE, profile
from refmodel.rule import PROPERTIES, Event, Property
from refmodel.tcp.checks import in_flight, readable, unsent
from refmodel.tcp.events import (
    CallResult,
    Close,
    Connect,
    DelackTimer,
    KeepaliveTimer,
    Output,
    Read,
    ReqTimer,
    Seg,
    Shutdown,
    TwTimer,
    Tx,
    Wake,
    Write,
    WriteTimer,
)
from refmodel.tcp.machine import TCP
from refmodel.tcp.output import may_send
from refmodel.tcp.params import tcp_params
from refmodel.tcp.state import OPEN, SYNC, TCP_TIMEOUT_INIT, Pending, Req, Sock, St, Tw
from refmodel.types import M32, NEVER, add

NOW: Final = 1_000_000
SPACE: Final = 4096
OPENED: Final = "a.type == 'Sock' and b.type == 'Sock' and a.state == ESTABLISHED and b.state == ESTABLISHED"
GIVEN_UP: Final = "a.type == 'Sock' and a.state == CLOSE"
OVER: Final = "a.type == 'Sock' and b.type == 'Sock' and a.state in (CLOSE, LISTEN) and b.state in (CLOSE, LISTEN)"
ISN_A: Final = 0xFFFF_FFFD  # so close to the wrap that every run crosses it
ISN_B: Final = 300

CONNECTS, WRITES, CLOSES, TIMERS = range(4)
FOREVER: Final = -1
BUDGETS: Final = "a budget is (connects, writes, closes and shutdowns, timers), -1 without end; time stands still"
PLAIN: Final = {"net.ipv4.tcp_timestamps": 0, "net.ipv4.tcp_sack": 0, "net.ipv4.tcp_window_scaling": 0}


def timeless(s: Any) -> Any:
    """The state with its stamps forgotten: an armed timer is due, and the RTO is the first one."""
    if isinstance(s, Sock):
        return replace(
            s,
            icsk_timeout=_armed(s.icsk_timeout),
            ack_timeout=_armed(s.ack_timeout),
            keepalive_timeout=_armed(s.keepalive_timeout),
            icsk_rto=TCP_TIMEOUT_INIT,
            icsk_backoff=0,
            icsk_probes_tstamp=min(s.icsk_probes_tstamp, NOW),
            retrans_stamp=min(s.retrans_stamp, NOW),
            lrcvtime=0,
            rcv_tstamp=0,
            last_oow_ack_time=0,
        )
    if isinstance(s, Req):
        return replace(s, rsk_timeout=_armed(s.rsk_timeout), timeout=TCP_TIMEOUT_INIT, last_oow_ack_time=0)
    if isinstance(s, Tw):
        return replace(s, tw_timeout=_armed(s.tw_timeout), tw_last_oow_ack_time=0)
    return s


def countless(s: Any) -> Any:
    """As `timeless`, and the number of retransmissions forgotten but for whether there were any."""
    t = timeless(s)
    return replace(t, icsk_retransmits=min(t.icsk_retransmits, 1)) if isinstance(t, Sock) else t


def _armed(deadline: int) -> int:
    return NEVER if deadline == NEVER else NOW


def spend(budget: Budget, what: int) -> Budget | None:
    """The budget after one more of `what`, or None if it is used up; FOREVER never is."""
    if budget[what] == FOREVER:
        return budget
    return (*budget[:what], budget[what] - 1, *budget[what + 1 :]) if budget[what] else None


def surroundings(isn: int) -> Callable[[Any, Budget], Iterable[tuple[Event, Budget]]]:
    """An application that connects, writes single bytes, reads, shuts and closes, and the machine's timers."""

    def moves(s: Any, budget: Budget) -> Iterable[tuple[Event, Budget]]:
        for what, event in proposed(s, isn):
            left = budget if what is None else spend(budget, what)
            if left is not None:
                yield event, left

    return moves


def proposed(s: Any, isn: int) -> Iterable[tuple[int | None, Event]]:
    """(which budget it costs, event) of everything that may happen to a connection but segments."""
    if isinstance(s, Req):
        yield TIMERS, ReqTimer(now=NOW)
        return
    if isinstance(s, Tw):
        yield TIMERS, TwTimer(now=NOW)
        return
    if s.state == St.CLOSE and not s.dead:
        yield CONNECTS, Connect(isn=isn, now=NOW, space=SPACE, rcv_wscale=0)
    if s.state in (St.ESTABLISHED, St.CLOSE_WAIT) and not s.snd_shut and not s.dead:
        yield WRITES, Write(n=1, now=NOW)
    if not s.dead and s.state not in (St.LISTEN, St.CLOSE):
        yield CLOSES, Close(now=NOW, space=SPACE)
        if not s.snd_shut and s.state in (St.ESTABLISHED, St.CLOSE_WAIT):
            yield CLOSES, Shutdown(wr=True, now=NOW)
    if s.state in OPEN:
        if unsent(s) and may_send(s, unsent(s)):
            yield None, Output(n=unsent(s), now=NOW, space=SPACE)
        if readable(s) and not s.dead:
            yield None, Read(n=readable(s), now=NOW, space=SPACE)
        if s.ack_sched and s.ack_timeout != NEVER:
            yield None, DelackTimer(now=NOW, space=SPACE)
    if s.icsk_pending != Pending.NONE:
        yield TIMERS, WriteTimer(n=max(in_flight(s), 1), now=NOW, space=SPACE)
    if s.keepalive_timeout != NEVER:
        yield TIMERS, KeepaliveTimer(now=NOW, space=SPACE)


def carry(effect: Any) -> Seg | None:
    """A segment on the wire, as the other side receives it."""
    if not isinstance(effect, Tx):
        return None
    return Seg(
        seq=effect.seq,
        ack_seq=effect.ack_seq,
        len=effect.len,
        syn=effect.syn,
        ack=effect.ack,
        rst=effect.rst,
        fin=effect.fin,
        win=effect.win,
        mss=effect.mss,
        now=NOW,
        space=SPACE,
    )


def receiver(isn: int, delayed: bool) -> Callable[[Any, Seg], Iterable[Event]]:
    """What may become of a segment that arrives: acknowledged at once, or (if `delayed`) later."""

    def deliver(s: Any, m: Seg) -> Iterable[Event]:
        yield replace(m, isn=isn, rcv_wscale=0)
        if delayed and m.len and isinstance(s, Sock) and s.state in SYNC:
            yield replace(m, isn=isn, rcv_wscale=0, ack_now=False)

    return deliver


def side(
    name: str,
    start: Any,
    isn: int,
    budget: Budget,
    *,
    kernel: str = REFERENCE,
    canonical: Callable[[Any], Any] = timeless,
    moves: Callable[[Any, Budget], Iterable[tuple[Event, Budget]]] | None = None,
    extra: tuple[Property, ...] = (),
    sysctls: dict[str, int] | None = None,
) -> Component:
    """One TCP machine with its application and timers."""
    p = tcp_params(profile(kernel, sysctls=PLAIN | (sysctls or {})))
    return machine_component(
        name,
        TCP,
        start,
        p,
        moves=moves or surroundings(isn),
        budget=budget,
        canonical=canonical,
        kernel=kernel,
        extra=extra,
    )


def wires(capacity: int, delayed: bool = False, loss: bool = True, duplicate: bool = True, reorder: bool = True) -> Any:
    """A wire each way between a and b."""
    return tuple(
        Wire(
            source=x,
            target=y,
            carry=carry,
            deliver=receiver(isn, delayed),
            capacity=capacity,
            loss=loss,
            duplicate=duplicate,
            reorder=reorder,
        )
        for x, y, isn in (("a", "b", ISN_B), ("b", "a", ISN_A))
    )


def two_tcps(
    *,
    writes: int = 1,
    closes: int = 1,
    timers: int = 1,
    capacity: int = 3,
    simultaneous: bool = False,
    delayed: bool = False,
    kernel: str = REFERENCE,
    loss: bool = True,
    duplicate: bool = True,
    reorder: bool = True,
) -> System:
    """Two TCP machines back to back: a connects, b listens (or connects too), each writes and closes in its budget."""
    budget = (1, writes, closes, timers)
    other = Sock() if simultaneous else Sock(state=St.LISTEN)
    return System(
        name="two TCPs" + (", both connect" if simultaneous else ""),
        components=(
            side("a", Sock(), ISN_A, budget, kernel=kernel),
            side("b", other, ISN_B, budget if simultaneous else (0, *budget[1:]), kernel=kernel),
        ),
        wires=wires(capacity, delayed, loss, duplicate, reorder),
        sources=(__name__,),
        about=f"{BUDGETS}; delayed acknowledgments: {delayed}",
    )


def handshake(*, simultaneous: bool = False, capacity: int = 2, writes: int = 1, kernel: str = REFERENCE) -> System:
    """A handshake over a faulty wire with timers that fire as often as the machine lets them, and one retry each."""
    few = {f"net.ipv4.tcp_{n}": v for n, v in (("syn_retries", 1), ("synack_retries", 1), ("syn_linear_timeouts", 0))}
    budget = (1, writes, 0, FOREVER)
    other = Sock() if simultaneous else Sock(state=St.LISTEN)
    passive = budget if simultaneous else (0, 0, 0, FOREVER)
    return System(
        name="handshake" + (", both connect" if simultaneous else ""),
        components=(
            side("a", Sock(), ISN_A, budget, sysctls=few, canonical=countless, kernel=kernel),
            side("b", other, ISN_B, passive, sysctls=few, canonical=countless, kernel=kernel),
        ),
        wires=wires(capacity),
        sources=(__name__,),
        about=BUDGETS,
    )


def transfer(*, capacity: int = 1, writes: int = 1, kernel: str = REFERENCE) -> System:
    """A whole connection, every timer as often as one likes: what is lost can be sent again, however often."""
    budget = (1, writes, FOREVER, FOREVER)
    return System(
        name="transfer",
        components=(
            side("a", Sock(), ISN_A, budget, canonical=countless, kernel=kernel),
            side("b", Sock(state=St.LISTEN), ISN_B, (0, *budget[1:]), canonical=countless, kernel=kernel),
        ),
        wires=wires(capacity),
        sources=(__name__,),
        about=BUDGETS,
    )


# ---------------------------------------------------------------- a peer that may send anything

FLAGS: Final = (
    {"syn": True, "ack": True},
    {"ack": True},
    {"syn": True, "ack": False},
    {"fin": True, "ack": True},
    {"rst": True, "ack": False},
    {"rst": True, "ack": True},
)


def hostile(s: Any, budget: Budget) -> Iterable[tuple[Event, Budget]]:
    """What an application and timers do, and any segment near the window's left edge; the last budget counts those."""
    own, segments = budget[:-1], budget[-1]
    for e, left in surroundings(ISN_A)(s, own):
        yield e, (*left, segments)
    if not segments:
        return
    expected, sent = _edges(s)
    for flags in FLAGS:
        for off in (0, -1, 1):
            for length in (0, 1):
                for ack_seq in sent if flags["ack"] else (0,):
                    seq = (expected + off) & M32
                    e = Seg(seq=seq, ack_seq=ack_seq, len=length, win=SPACE, now=NOW, space=SPACE, isn=ISN_B, **flags)
                    yield replace(e, rcv_wscale=0), (*own, segments - 1)


def _edges(s: Any) -> tuple[int, tuple[int, ...]]:
    """(the sequence number that a machine expects next, the acknowledgments that mean something to it)."""
    if isinstance(s, Req):
        return add(s.rcv_isn, 1), (add(s.snt_isn, 1),)
    if isinstance(s, Tw):
        return s.tw_rcv_nxt, (s.tw_snd_nxt,)
    if s.state in (St.CLOSE, St.LISTEN, St.SYN_SENT):
        return ISN_B, (s.snd_nxt,)
    return s.rcv_nxt, tuple(dict.fromkeys((s.snd_nxt, s.snd_una)))


def any_peer(
    *,
    segments: int = 4,
    listens: bool = False,
    closes: int = 1,
    timers: int = 0,
    wanted: tuple[str, ...] = (),
    kernel: str = REFERENCE,
) -> System:
    """One TCP machine and a peer that may send anything; `wanted` names properties to check though Linux lacks them."""
    start = Sock(state=St.LISTEN) if listens else Sock()
    budget = (0 if listens else 1, 0, closes, timers, segments)
    extra = tuple(PROPERTIES[w] for w in wanted)
    return System(
        name="TCP and any peer",
        components=(side("a", start, ISN_A, budget, moves=hostile, extra=extra, kernel=kernel),),
        sources=(__name__,),
        about=BUDGETS,
    )


# ---------------------------------------------------------------- two kernels


def observed(effect: Any) -> Any:
    """What a wire and an application see of an effect."""
    return replace(effect, by="") if isinstance(effect, Tx | CallResult | Wake) else None


QUIET: Final[dict[str, Any]] = {"writes": 0, "closes": 0, "timers": 12, "capacity": 1, "duplicate": False}


def two_kernels(one: str, other: str, **bound: Any) -> System:
    """The two TCPs under two kernels in lockstep. `bound` is as for `two_tcps`; by default nobody writes or closes, and
    timers fire often enough for either kernel to give its SYN up."""
    bound = {**QUIET, **bound}
    return difference(two_tcps(kernel=one, **bound), two_tcps(kernel=other, **bound), observed, (one, other))
