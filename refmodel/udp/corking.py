"""A datagram that is corked, as a machine: sends begin it or add to it, and it leaves whole or is forgotten whole.

The law: with MSG_MORE or UDP_CORK the bytes of several sends make one datagram, which goes where the first send said;
the first send without, or the end of UDP_CORK, lets it leave. One part that cannot be added takes all of it away.
`refmodel.udp.output` does this to sockets; tests hold the two together.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import Effect, Event, Machine, Params, State, invariant, machine, pure, require, rule, transition
from refmodel.types import Range

UDP_HLEN: Final = 8
LARGEST: Final = 0xFFFF
SIZE_MAX: Final = 1 << 20


class Pending(IntEnum):
    """The family of the datagram that is corked: udp_sock.pending."""

    NONE = 0
    INET = 4
    INET6 = 6


class CorkParams(Params, frozen=True):
    """`v6`: the socket is an IPv6 one; `v6only`: it speaks no IPv4."""

    v6: bool = False
    v6only: bool = False


class Corked(State, frozen=True):
    """What waits: `length` bytes with the UDP header. `corkflag`: UDP_CORK is set."""

    AT: ClassVar[str] = "pending"

    pending: Pending = Pending.NONE
    length: Annotated[int, Range(0, LARGEST)] = 0
    corkflag: bool = False


class Send(Event, frozen=True):
    """A send of `size` bytes.

    `named`: the call has an address; `to4`: that, or else the connected peer, is an IPv4 one, perhaps mapped. `more`:
    MSG_MORE, `probe`: MSG_PROBE. `lost`: there is no address, or no route to it. `limit`: the largest datagram with its
    header that the socket may send; `fault`: its bytes cannot be read, or no memory is left for them.
    """

    size: Annotated[int, Range(0, SIZE_MAX)] = 0
    named: bool = False
    to4: bool = True
    more: bool = False
    probe: bool = False
    lost: bool = False
    limit: Annotated[int, Range(0, LARGEST)] = 65515
    fault: bool = False


class SetCork(Event, frozen=True):
    """setsockopt(UDP_CORK)."""

    on: bool = False


class SpliceEof(Event, frozen=True):
    """sendfile or splice is through."""


class Close(Event, frozen=True):
    """The socket goes."""


class Leaves(Effect, frozen=True):
    """A datagram of `len` bytes with its header is handed to IP."""

    len: int


class Forgotten(Effect, frozen=True):
    """A datagram of `len` bytes with its header is thrown away."""

    len: int


class Refused(Effect, frozen=True):
    """The send returns an error."""


Effects = tuple[Effect, ...]


@pure
def over4(s: Corked, e: Send, p: CorkParams) -> bool:
    """The send takes udp_sendmsg's way: for what waits decides the address only where the call has one."""
    if not p.v6 or s.pending == Pending.INET:
        return True
    return e.to4 and (e.named or s.pending == Pending.NONE)


@pure
def refused(s: Corked, e: Send, p: CorkParams) -> bool:
    """The send ends before it looks at what waits, or because that has the other family, or has nowhere to go."""
    names4 = e.to4 and (e.named or s.pending == Pending.NONE)
    if p.v6 and p.v6only and names4:
        return True
    if over4(s, e, p):
        return e.size > LARGEST or s.pending == Pending.INET6 or (s.pending == Pending.NONE and e.lost)
    return s.pending == Pending.NONE and e.lost


@pure
def waits(s: Corked, e: Send) -> bool:
    """More is to come."""
    return s.corkflag or e.more


@pure
def whole(s: Corked, e: Send) -> int:
    """How long the datagram becomes."""
    return (UDP_HLEN if s.pending == Pending.NONE else s.length) + e.size


@pure
def fits(s: Corked, e: Send) -> bool:
    """The bytes can be added."""
    return whole(s, e) <= e.limit and not e.fault


@pure
def emptied(s: Corked) -> Corked:
    """Nothing waits."""
    return replace(s, pending=Pending.NONE, length=0)


@rule("net/ipv4/udp.c:udp_sendmsg", "net/ipv6/udp.c:udpv6_sendmsg")
def send_refused(s: Corked, e: Send, p: CorkParams) -> tuple[Corked, Effects]:
    """A send that is wrong in itself, or of another family than what waits, changes nothing."""
    require(refused(s, e, p), "wrong, or another family waits")
    return s, (Refused(),)


@rule("net/ipv4/ip_output.c:ip_make_skb", "net/ipv4/ip_output.c:ip_append_data")
def send_probe(s: Corked, e: Send, p: CorkParams) -> tuple[Corked, Effects]:
    """MSG_PROBE adds nothing; what waits goes on waiting if more is to come."""
    require(not refused(s, e, p), "the send is right")
    require(e.probe, "a probe")
    require(s.pending == Pending.NONE or waits(s, e), "nothing leaves")
    return s, ()


@rule("net/ipv4/ip_output.c:ip_append_data", "net/ipv4/udp.c:udp_push_pending_frames")
def send_probe_pushes(s: Corked, e: Send, p: CorkParams) -> tuple[Corked, Effects]:
    """MSG_PROBE without MSG_MORE adds nothing to what waits, and lets it leave."""
    require(not refused(s, e, p), "the send is right")
    require(e.probe, "a probe")
    require(s.pending != Pending.NONE and not waits(s, e), "what waits leaves")
    return emptied(s), (Leaves(len=s.length),)


@rule("net/ipv4/ip_output.c:ip_make_skb", "net/ipv4/udp.c:udp_send_skb")
def send_at_once(s: Corked, e: Send, p: CorkParams) -> tuple[Corked, Effects]:
    """Without a cork a datagram leaves with the call."""
    require(not refused(s, e, p), "the send is right")
    require(not e.probe and s.pending == Pending.NONE and not waits(s, e), "nothing waits, nothing is to")
    require(fits(s, e), "it fits")
    return s, (Leaves(len=whole(s, e)),)


@rule("net/ipv4/udp.c:udp_sendmsg", "net/ipv6/udp.c:udpv6_sendmsg", "net/ipv4/ip_output.c:ip_append_data")
def send_begins(s: Corked, e: Send, p: CorkParams) -> tuple[Corked, Effects]:
    """With a cork the first send settles the family and the destination."""
    require(not refused(s, e, p), "the send is right")
    require(not e.probe and s.pending == Pending.NONE and waits(s, e), "it is to wait")
    require(fits(s, e), "it fits")
    family = Pending.INET if over4(s, e, p) else Pending.INET6
    return replace(s, pending=family, length=whole(s, e)), ()


@rule("net/ipv4/ip_output.c:ip_append_data", "net/ipv6/ip6_output.c:ip6_append_data")
def send_appends(s: Corked, e: Send, p: CorkParams) -> tuple[Corked, Effects]:
    """A further send adds its bytes, whatever address it names."""
    require(not refused(s, e, p), "the send is right")
    require(not e.probe and s.pending != Pending.NONE and waits(s, e), "more is to come")
    require(fits(s, e), "it fits")
    return replace(s, length=whole(s, e)), ()


@rule("net/ipv4/ip_output.c:ip_append_data", "net/ipv4/udp.c:udp_push_pending_frames")
def send_completes(s: Corked, e: Send, p: CorkParams) -> tuple[Corked, Effects]:
    """The first send that announces no more adds its bytes and lets the datagram leave."""
    require(not refused(s, e, p), "the send is right")
    require(not e.probe and s.pending != Pending.NONE and not waits(s, e), "the last part")
    require(fits(s, e), "it fits")
    return emptied(s), (Leaves(len=whole(s, e)),)


@rule("net/ipv4/udp.c:udp_flush_pending_frames", "net/ipv4/ip_output.c:__ip_append_data")
def send_fails(s: Corked, e: Send, p: CorkParams) -> tuple[Corked, Effects]:
    """Bytes that cannot be added take what waits with them."""
    require(not refused(s, e, p), "the send is right")
    require(not e.probe and not fits(s, e), "too large, or not to be read")
    return emptied(s), (Forgotten(len=s.length), Refused())


@rule("net/ipv4/udp.c:udp_lib_setsockopt")
def cork_set(s: Corked, e: SetCork, p: CorkParams) -> tuple[Corked, Effects]:
    """UDP_CORK makes all that follows wait."""
    require(e.on, "set")
    return replace(s, corkflag=True), ()


@rule("net/ipv4/udp.c:udp_lib_setsockopt", "net/ipv4/udp.c:udp_push_pending_frames")
def cork_drawn(s: Corked, e: SetCork, p: CorkParams) -> tuple[Corked, Effects]:
    """Without UDP_CORK what waits leaves, even what waits for MSG_MORE's sake."""
    require(not e.on and s.pending != Pending.NONE, "cleared over a datagram")
    return replace(emptied(s), corkflag=False), (Leaves(len=s.length),)


@rule("net/ipv4/udp.c:udp_lib_setsockopt")
def cork_drawn_from_nothing(s: Corked, e: SetCork, p: CorkParams) -> tuple[Corked, Effects]:
    """Where nothing waits, nothing leaves."""
    require(not e.on and s.pending == Pending.NONE, "cleared over nothing")
    return replace(s, corkflag=False), ()


@rule("net/ipv4/udp.c:udp_splice_eof")
def splice_ends(s: Corked, e: SpliceEof, p: CorkParams) -> tuple[Corked, Effects]:
    """The end of a splice lets leave what waited for its next part only."""
    require(s.pending != Pending.NONE and not s.corkflag, "something waits, without UDP_CORK")
    return emptied(s), (Leaves(len=s.length),)


@rule("net/ipv4/udp.c:udp_splice_eof")
def splice_ends_corked(s: Corked, e: SpliceEof, p: CorkParams) -> tuple[Corked, Effects]:
    """Under UDP_CORK, and where nothing waits, it changes nothing."""
    require(s.pending == Pending.NONE or s.corkflag, "nothing waits, or UDP_CORK")
    return s, ()


@rule("net/ipv4/udp.c:udp_destroy_sock", "net/ipv4/udp.c:udp_flush_pending_frames")
def close_forgets(s: Corked, e: Close, p: CorkParams) -> tuple[Corked, Effects]:
    """A socket that goes takes what waits with it."""
    return emptied(s), (Forgotten(len=s.length),)


# ---------------------------------------------------------------- what is always true


@invariant()
def nothing_is_nothing(s: Corked) -> bool:
    """A datagram waits exactly if it has its header."""
    return (s.pending == Pending.NONE) == (s.length < UDP_HLEN)


@invariant()
def no_bytes_without_datagram(s: Corked) -> bool:
    """Where no datagram waits, no byte does."""
    return s.pending != Pending.NONE or s.length == 0


@invariant()
def own_family(s: Corked, p: CorkParams) -> bool:
    """An IPv4 socket holds no IPv6 datagram."""
    return p.v6 or s.pending != Pending.INET6


@transition(Send)
def corked_waits(s: Corked, e: Send, t: Corked, effects: Effects) -> bool:
    """Nothing leaves while more is to come."""
    return not (s.corkflag or e.more) or not any(isinstance(x, Leaves) for x in effects)


@transition(Send)
def uncorked_leaves(s: Corked, e: Send, t: Corked, effects: Effects) -> bool:
    """A send that announces no more leaves nothing waiting, unless it was refused."""
    said = any(isinstance(x, Refused) for x in effects)
    return s.corkflag or e.more or t.pending == Pending.NONE or said


@transition(Send)
def leaves_whole(s: Corked, e: Send, t: Corked, effects: Effects) -> bool:
    """What leaves has one header, all that waited, and the last part."""
    length = s.length if e.probe else whole(s, e)
    return all(x.len == length for x in effects if isinstance(x, Leaves))


@transition(Send)
def one_family(s: Corked, e: Send, t: Corked) -> bool:
    """A datagram keeps its family."""
    return s.pending == Pending.NONE or t.pending == Pending.NONE or s.pending == t.pending


@transition(Send)
def within_limit(s: Corked, e: Send, t: Corked) -> bool:
    """A datagram does not grow beyond what may be sent."""
    return t.length <= max(s.length, e.limit)


@transition(Send)
def nothing_lost_unsaid(s: Corked, e: Send, t: Corked, effects: Effects) -> bool:
    """What waited still waits, leaves, or is forgotten by a send that says so."""
    gone = any(isinstance(x, Leaves) for x in effects)
    said = any(isinstance(x, Refused) for x in effects)
    return t.length >= s.length or gone or said


@transition(Send)
def grows_by_what_was_sent(s: Corked, e: Send, t: Corked) -> bool:
    """What waits has all bytes that were sent."""
    return t.length <= s.length or t.length == whole(s, e)


@transition(Send, falsified="a part that is too large, or cannot be read, takes with it what earlier calls had sent")
def accepted_is_kept(s: Corked, e: Send, t: Corked, effects: Effects) -> bool:
    """What an earlier send was told to be sent leaves, or goes on waiting."""
    return t.length >= s.length or any(isinstance(x, Leaves) for x in effects)


@transition(SetCork)
def drawn_leaves(s: Corked, e: SetCork, t: Corked, effects: Effects) -> bool:
    """With UDP_CORK gone nothing waits, and what waited has left."""
    left = all(x.len == s.length for x in effects if isinstance(x, Leaves))
    return e.on or (t.pending == Pending.NONE and left and (s.length == 0 or any(True for x in effects)))


@transition(SpliceEof)
def splice_respects_cork(s: Corked, e: SpliceEof, t: Corked) -> bool:
    """UDP_CORK outlasts a splice."""
    return not s.corkflag or t == s


@transition(Close)
def close_leaves_nothing(s: Corked, e: Close, t: Corked, effects: Effects) -> bool:
    """Nothing waits in a socket that went, and nothing left."""
    return t.pending == Pending.NONE and not any(isinstance(x, Leaves) for x in effects)


CORK: Final = machine(
    Machine(
        name="udp_cork",
        title="A corked datagram",
        accepts={Corked: (Send, SetCork, SpliceEof, Close)},
        params=CorkParams,
        modules=("refmodel.udp.corking",),
    )
)
