"""Whether a small segment may leave: Nagle's rule as Minshall changed it, and corks.

The law: only a partial segment at the tail of the queue is ever held. Without a cork it is held exactly while a small
segment sent earlier is unacknowledged; so an acknowledgment of everything lets it go. A cork holds it until it is
pulled, or until the probe timer sends it. `nonagle` is 0, or the sum of the three flags below.
"""

from enum import IntEnum
from typing import Annotated, Any, ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import (
    Effect,
    Event,
    Machine,
    Params,
    State,
    assume,
    invariant,
    machine,
    pure,
    require,
    rule,
    transition,
)
from refmodel.types import H32, M32, Range, add, after, near

Effects = tuple[Any, ...]
TCP_NAGLE_OFF: Final = 1  # TCP_NODELAY
TCP_NAGLE_CORK: Final = 2
TCP_NAGLE_PUSH: Final = 4  # an explicit push overrides both, once
LARGEST: Final = 1 << 16
QUEUE: Final = 1 << 30


class Tail(IntEnum):
    """What stands at the tail of the write queue."""

    NOTHING = 0
    PARTIAL = 1
    FULL = 2


class NagleParams(Params, frozen=True):
    """Nothing is tunable."""

    kernel: int = 612


class Nagle(State, frozen=True):
    """The sender's sequence numbers, its options, and the segment that waits at the tail."""

    AT: ClassVar[str] = "tail"

    tail: Tail = Tail.NOTHING
    snd_una: Annotated[int, Range(0, M32)] = 0
    snd_nxt: Annotated[int, Range(0, M32), near("snd_una")] = 0
    snd_sml: Annotated[int, Range(0, M32), near("snd_una")] = 0
    nodelay: bool = False
    cork: bool = False
    push: bool = False


class SendTail(Event, frozen=True):
    """tcp_write_xmit comes to the tail of the queue. `n`: its length; `fin`: it ends in a FIN; `urg`: urgent mode."""

    n: Annotated[int, Range(1, LARGEST)] = 1
    fin: bool = False
    urg: bool = False


class Queued(Event, frozen=True):
    """The application wrote: the tail is now partial or full."""

    full: bool = False


class Acked(Event, frozen=True):
    """An acknowledgment of something new arrives."""

    ack: Annotated[int, Range(0, M32), near("snd_una")] = 0


class SetNodelay(Event, frozen=True):
    """setsockopt(TCP_NODELAY)."""

    on: bool = True


class SetCork(Event, frozen=True):
    """setsockopt(TCP_CORK)."""

    on: bool = True


class Sent(Effect, frozen=True):
    """The tail leaves."""


@pure
def tcp_minshall_check(snd_sml: int, snd_una: int, snd_nxt: int) -> bool:
    """A small segment that was sent is unacknowledged; source net/ipv4/tcp_output.c:tcp_minshall_check."""
    return after(snd_sml, snd_una) and not after(snd_sml, snd_nxt)


@pure
def tcp_nagle_check(partial: bool, nodelay: bool, cork: bool, out: bool, small: bool) -> bool:
    """The segment has to wait. `out`: something is unacknowledged; `small`: see `tcp_minshall_check`.

    Source: net/ipv4/tcp_output.c:tcp_nagle_check.
    """
    return partial and (cork or (not nodelay and out and small))


@pure
def tcp_nagle_test(partial: bool, nonagle: int, fin: bool, urg: bool, out: bool, small: bool) -> bool:
    """The segment may leave; source net/ipv4/tcp_output.c:tcp_nagle_test."""
    nodelay, cork, push = nonagle % 2 != 0, nonagle // 2 % 2 != 0, nonagle // 4 % 2 != 0
    # TCP_NAGLE_CORK alone, without NODELAY, is a nonagle that isn't zero: only the cork holds then.
    return push or urg or fin or not tcp_nagle_check(partial, nodelay or push, cork, out, small and nonagle == 0)


@pure
def may_leave(s: Nagle, e: SendTail) -> bool:
    """The tail may leave now."""
    nonagle = (1 if s.nodelay else 0) + (2 if s.cork else 0) + (4 if s.push else 0)
    small = tcp_minshall_check(s.snd_sml, s.snd_una, s.snd_nxt)
    return tcp_nagle_test(s.tail == Tail.PARTIAL, nonagle, e.fin, e.urg, s.snd_una != s.snd_nxt, small)


@rule("net/ipv4/tcp_output.c:tcp_write_xmit", "RFC 9293 3.7.4", at=(Tail.PARTIAL, Tail.FULL))
def leaves(s: Nagle, e: SendTail, p: NagleParams) -> tuple[Nagle, Effects]:
    """The tail leaves; a partial one is remembered as small."""
    require(may_leave(s, e), "Nagle's rule and the cork let it go")
    nxt = add(s.snd_nxt, e.n)
    small = nxt if s.tail == Tail.PARTIAL else s.snd_sml
    return replace(s, snd_nxt=nxt, snd_sml=small, tail=Tail.NOTHING, push=False), (Sent(),)


@rule("net/ipv4/tcp_output.c:tcp_nagle_test", "RFC 9293 3.7.4", at=(Tail.PARTIAL, Tail.FULL))
def is_held(s: Nagle, e: SendTail, p: NagleParams) -> tuple[Nagle, Effects]:
    """The tail waits."""
    require(not may_leave(s, e), "Nagle's rule or the cork holds it")
    return s, ()


@rule("net/ipv4/tcp_output.c:tcp_write_xmit", at=Tail.NOTHING)
def nothing_there(s: Nagle, e: SendTail, p: NagleParams) -> tuple[Nagle, Effects]:
    """An empty queue has nothing to send."""
    return s, ()


@rule("net/ipv4/tcp.c:tcp_sendmsg_locked")
def queued(s: Nagle, e: Queued, p: NagleParams) -> tuple[Nagle, Effects]:
    """Data joins the tail, which may become full."""
    return replace(s, tail=Tail.FULL if e.full else Tail.PARTIAL), ()


@rule("net/ipv4/tcp_input.c:tcp_ack")
def acked(s: Nagle, e: Acked, p: NagleParams) -> tuple[Nagle, Effects]:
    """snd_una moves."""
    return replace(s, snd_una=e.ack), ()


@rule("net/ipv4/tcp.c:__tcp_sock_set_nodelay", "RFC 1122 4.2.3.4")
def nodelay_set(s: Nagle, e: SetNodelay, p: NagleParams) -> tuple[Nagle, Effects]:
    """Switching the rule off pushes what waits, through a cork too."""
    return replace(s, nodelay=e.on, push=s.push or e.on), ()


@rule("net/ipv4/tcp.c:__tcp_sock_set_cork")
def cork_set(s: Nagle, e: SetCork, p: NagleParams) -> tuple[Nagle, Effects]:
    """Pulling the cork pushes what waits where NODELAY is on."""
    return replace(s, cork=e.on, push=s.push or (not e.on and s.nodelay)), ()


@assume
def acks_are_new(s: Nagle, e: Acked) -> bool:
    """The acknowledgment is of something that was sent and was unacknowledged."""
    return 0 < ((e.ack - s.snd_una) & M32) <= ((s.snd_nxt - s.snd_una) & M32)


@assume
def queues_are_short(s: Nagle, e: SendTail) -> bool:
    """No more than 2**30 bytes are out."""
    return ((s.snd_nxt - s.snd_una) & M32) <= QUEUE


@invariant()
def out_is_short(s: Nagle) -> bool:
    """What is out is less than half the sequence space."""
    return ((s.snd_nxt - s.snd_una) & M32) < H32


@transition(SendTail)
def full_segments_are_never_held(s: Nagle, e: SendTail, t: Nagle, effects: Effects) -> bool:
    """A full segment always leaves."""
    return s.tail != Tail.FULL or any(isinstance(x, Sent) for x in effects)


@transition(SendTail)
def nothing_out_lets_go(s: Nagle, e: SendTail, t: Nagle, effects: Effects) -> bool:
    """With everything acknowledged and no cork a partial segment leaves: Nagle never blocks for ever."""
    idle = s.snd_una == s.snd_nxt and s.tail != Tail.NOTHING and not s.cork
    return not idle or any(isinstance(x, Sent) for x in effects)


@transition(SendTail)
def fin_and_urgent_data_are_never_held(s: Nagle, e: SendTail, t: Nagle, effects: Effects) -> bool:
    """A FIN and urgent data leave at once."""
    return s.tail == Tail.NOTHING or not (e.fin or e.urg) or any(isinstance(x, Sent) for x in effects)


@transition(SendTail)
def nodelay_is_never_held(s: Nagle, e: SendTail, t: Nagle, effects: Effects) -> bool:
    """With TCP_NODELAY only a cork holds a segment."""
    free = s.nodelay and not s.cork and s.tail != Tail.NOTHING
    return not free or any(isinstance(x, Sent) for x in effects)


@transition(SendTail)
def one_small_segment_is_out(s: Nagle, e: SendTail, t: Nagle, effects: Effects) -> bool:
    """Without options a second small segment never leaves while the first is unacknowledged."""
    plain = not (s.nodelay or s.cork or s.push or e.fin or e.urg)
    small = s.tail == Tail.PARTIAL and tcp_minshall_check(s.snd_sml, s.snd_una, s.snd_nxt)
    return not (plain and small and s.snd_una != s.snd_nxt) or t.snd_nxt == s.snd_nxt


@transition(SendTail)
def a_push_is_spent(s: Nagle, e: SendTail, t: Nagle, effects: Effects) -> bool:
    """An explicit push lets one go, and is spent by it."""
    return not any(isinstance(x, Sent) for x in effects) or not t.push


TCP_NAGLE: Final = machine(
    Machine(
        name="tcp_nagle",
        title="TCP's rule for small segments",
        accepts={Nagle: (SendTail, Queued, Acked, SetNodelay, SetCork)},
        params=NagleParams,
        modules=(__name__,),
    )
)
