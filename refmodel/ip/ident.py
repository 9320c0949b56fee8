"""Identifications: of a connected socket counted by itself, else by a hidden counter for each pair of hosts.

The law (proved): a burst of n packets takes n numbers in a row, and no two bursts of one counter overlap until 65,536
numbers have gone.
"""

from typing import Annotated, ClassVar

from msgspec.structs import replace

from refmodel.ip.const import INADDR_ANY, IP_DF
from refmodel.ip.header import Iphdr, ip_hdr
from refmodel.ip.net import Ip
from refmodel.ip.sock import IpSock
from refmodel.rule import Effect, Event, Machine, Params, State, cited, machine, pure, rule, transition
from refmodel.skbuff import SkBuff
from refmodel.types import M32, Range, add, u32

MAX_SEGS = 65535


class IdParams(Params, frozen=True):
    """No tunable plays a part."""


class Idents(State, frozen=True):
    """One bucket of ip_idents: the next number, and the tick `stamp` at which it was last asked."""

    AT: ClassVar[str] = ""

    next: u32 = 0
    stamp: u32 = 0


class Reserve(Event, frozen=True):
    """`segs` numbers are wanted at the tick `now`; `jump` is a random number below the ticks that went by."""

    segs: Annotated[int, Range(1, MAX_SEGS)]
    now: u32
    jump: u32 = 0


class Taken(Effect, frozen=True):
    """The numbers from `first` on are the packet's."""

    first: u32


@pure
def jumped(s: Idents, e: Reserve) -> int:
    """How far the counter jumps ahead of the numbers that are taken."""
    return e.jump if s.stamp != e.now else 0


@rule("net/ipv4/route.c:ip_idents_reserve", "RFC 6864 4.2")
def ip_idents_reserve(s: Idents, e: Reserve, p: IdParams) -> tuple[Idents, tuple[Effect, ...]]:
    """The counter goes on by what is taken, and by a random jump once in a tick."""
    first = add(s.next, jumped(s, e))
    return replace(s, next=add(first, e.segs), stamp=e.now), (Taken(first=first),)


@transition(Reserve)
def taken_in_a_row(s: Idents, e: Reserve, t: Idents, effects: tuple[Effect, ...]) -> bool:
    """What is taken ends where the counter stands afterwards."""
    return all((t.next - x.first) & M32 == e.segs for x in effects if isinstance(x, Taken))


@transition(Reserve)
def no_jump_in_a_tick(s: Idents, e: Reserve, t: Idents, effects: tuple[Effect, ...]) -> bool:
    """Two bursts in one tick take numbers that follow each other."""
    return s.stamp != e.now or all(x.first == s.next for x in effects if isinstance(x, Taken))


IDENTS = machine(
    Machine(
        name="ip-idents",
        title="Identifications of a pair of hosts",
        accepts={Idents: (Reserve,)},
        params=IdParams,
        modules=(__name__,),
    )
)


@cited("net/ipv4/route.c:__ip_select_ident", "RFC 6864 4.1")
def __ip_select_ident(net: Ip, iph: Iphdr, segs: int) -> None:
    """The identification comes from the counter of the pair of hosts and the protocol.

    The kernel hashes them into a table that all pairs share, with a key of its own; a number tells nobody anything.
    """
    env = net.env
    key = (iph.daddr, iph.saddr, iph.protocol)
    at = net.ids.get(key)
    s = Idents(*at) if at is not None else Idents(env.random(), env.jiffies & M32)
    passed = (env.jiffies - s.stamp) & M32
    jump = env.random() % passed if passed else 0
    t, effects = ip_idents_reserve(s, Reserve(segs, env.jiffies & M32, jump), IdParams())
    net.ids[key] = (t.next, t.stamp)
    taken = effects[0]
    assert isinstance(taken, Taken)
    iph.id = taken.first & 0xFFFF


@cited("include/net/ip.h:ip_select_ident_segs")
def ip_select_ident_segs(net: Ip, skb: SkBuff, sk: IpSock | None, segs: int) -> None:
    """A connected socket counts for itself; what must not be cut needs none; the rest asks the hidden counter."""
    iph = ip_hdr(skb)
    if sk is not None and sk.inet_daddr != INADDR_ANY:
        iph.id = sk.inet_id & 0xFFFF
        sk.inet_id = (sk.inet_id + segs) & M32
    elif iph.frag_off & IP_DF and not skb.ignore_df:
        iph.id = 0
    else:
        __ip_select_ident(net, iph, segs)


@cited("include/net/ip.h:ip_select_ident")
def ip_select_ident(net: Ip, skb: SkBuff, sk: IpSock | None) -> None:
    """The identification of one packet."""
    ip_select_ident_segs(net, skb, sk, 1)
