"""A packet that is too long is cut into fragments.

The law (proved): the fragments tile the payload in order, each but the last of a multiple of 8 bytes, and the last
one of the datagram alone lacks MF. A packet that may not be cut is answered with the MTU.
"""

import errno
from collections.abc import Callable
from typing import Annotated, ClassVar

from msgspec.structs import replace

from refmodel.dropreason import Reason
from refmodel.ip import icmp, options, output
from refmodel.ip.const import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    IP_DF,
    IP_MF,
    IP_OFFSET,
    IPSKB_FRAG_COMPLETE,
    IPSKB_FRAG_PMTU,
)
from refmodel.ip.header import ip_hdr, ip_is_fragment, ip_send_check
from refmodel.ip.net import IPCB, Ip, Ipcb, copy_metadata
from refmodel.ip.sock import IpSock
from refmodel.packet.wire import checksum
from refmodel.rule import (
    Effect,
    Event,
    Machine,
    Params,
    State,
    cited,
    invariant,
    machine,
    pure,
    require,
    rule,
    transition,
)
from refmodel.skbuff import CHECKSUM_NONE, CHECKSUM_PARTIAL, SkBuff
from refmodel.types import Range

Output = Callable[[Ip, IpSock | None, SkBuff], int]
MAX = 65535 + 8


class FragParams(Params, frozen=True):
    """`mtu` is the room for payload in a fragment: at least 8 bytes, else nothing is cut."""

    mtu: Annotated[int, Range(8, 65535)] = 1480


class IpFragState(State, frozen=True):
    """struct ip_frag_state: `left` bytes from `ptr` on are still to be cut; `offset` is that in the datagram.

    `total` bytes were there at first, from offset `start` on; `not_last_frag`: more of the datagram follows elsewhere.
    """

    AT: ClassVar[str] = ""

    left: Annotated[int, Range(0, 65535)] = 0
    ptr: Annotated[int, Range(0, 65535)] = 0
    offset: Annotated[int, Range(0, 2 * MAX)] = 0
    total: Annotated[int, Range(0, 65535)] = 0
    start: Annotated[int, Range(0, 65528)] = 0
    not_last_frag: bool = False


class FragInit(Event, frozen=True):
    """A packet of `total` bytes of payload is to be cut; it is itself at `units` times 8 in its datagram."""

    total: Annotated[int, Range(0, 65535)]
    units: Annotated[int, Range(0, 8191)] = 0
    mf: bool = False


class FragNext(Event, frozen=True):
    """The next fragment is wanted."""


class Piece(Effect, frozen=True):
    """A fragment of `len` bytes from `ptr` on, at `offset` in the datagram."""

    ptr: Annotated[int, Range(0, 65535)]
    len: Annotated[int, Range(0, 65535)]
    offset: Annotated[int, Range(0, 2 * MAX)]
    mf: bool


@pure
def piece_length(left: int, mtu: int) -> int:
    """What fits; where more follows, a multiple of 8."""
    return left if left <= mtu else mtu // 8 * 8


@rule("net/ipv4/ip_output.c:ip_frag_init", "RFC 791 2.3")
def frag_init(s: IpFragState, e: FragInit, p: FragParams) -> tuple[IpFragState, tuple[Effect, ...]]:
    """All of the payload is left."""
    return IpFragState(e.total, 0, e.units * 8, e.total, e.units * 8, e.mf), ()


@rule("net/ipv4/ip_output.c:ip_frag_next", "RFC 791 2.3")
def frag_next(s: IpFragState, e: FragNext, p: FragParams) -> tuple[IpFragState, tuple[Effect, ...]]:
    """A fragment is cut off the front of what is left."""
    require(s.left > 0, "payload is left")
    n = piece_length(s.left, p.mtu)
    t = replace(s, left=s.left - n, ptr=s.ptr + n, offset=s.offset + n)
    return t, (Piece(ptr=s.ptr, len=n, offset=s.offset, mf=s.left - n > 0 or s.not_last_frag),)


@rule("net/ipv4/ip_output.c:ip_do_fragment")
def frag_done(s: IpFragState, e: FragNext, p: FragParams) -> tuple[IpFragState, tuple[Effect, ...]]:
    """Nothing is left."""
    require(s.left == 0, "all was cut")
    return s, ()


@invariant()
def pieces_tile(s: IpFragState) -> bool:
    """What was cut and what is left are all there was."""
    return s.ptr + s.left == s.total


@invariant()
def offset_follows(s: IpFragState) -> bool:
    """The place in the datagram and in the packet move together."""
    return s.offset - s.start == s.ptr


@invariant()
def cut_at_eights(s: IpFragState) -> bool:
    """As long as something is left, the cut is at a multiple of 8."""
    return s.left == 0 or s.offset % 8 == 0


@invariant()
def starts_at_eights(s: IpFragState) -> bool:
    """A fragment's own offset is a multiple of 8."""
    return s.start % 8 == 0


@transition(FragNext)
def pieces_fit(s: IpFragState, e: FragNext, t: IpFragState, effects: tuple[Effect, ...], p: FragParams) -> bool:
    """No fragment is empty or longer than its room."""
    return all(0 < x.len <= p.mtu for x in effects if isinstance(x, Piece))


@transition(FragNext)
def only_the_last_ends(s: IpFragState, e: FragNext, t: IpFragState, effects: tuple[Effect, ...]) -> bool:
    """MF lacks only where nothing is left and the packet itself was the datagram's end."""
    return all(x.mf == (t.left > 0 or s.not_last_frag) for x in effects if isinstance(x, Piece))


@transition(FragNext)
def middle_pieces_are_eights(s: IpFragState, e: FragNext, t: IpFragState, effects: tuple[Effect, ...]) -> bool:
    """A fragment that others of the packet follow has a multiple of 8 bytes."""
    return all(t.left == 0 or x.len % 8 == 0 for x in effects if isinstance(x, Piece))


@transition(FragNext)
def cutting_ends(s: IpFragState, e: FragNext, t: IpFragState) -> bool:
    """Each step leaves less, until nothing is left."""
    return t.left < s.left or (s.left == 0 and t.left == 0)


FRAGMENT = machine(
    Machine(
        name="ip-fragment",
        title="Cutting a packet into fragments",
        accepts={IpFragState: (FragInit, FragNext)},
        params=FragParams,
        modules=(__name__,),
    )
)


# ---------------------------------------------------------------- the kernel's functions


@cited("net/ipv4/ip_output.c:ip_fragment", "RFC 1191 4")
def ip_fragment(net: Ip, sk: IpSock | None, skb: SkBuff, mtu: int, out: Output) -> int:
    """A packet that may be cut is; for one that may not, its sender is told the MTU."""
    env = net.env
    iph = ip_hdr(skb)
    most = IPCB(skb).frag_max_size
    if not iph.frag_off & IP_DF:
        return ip_do_fragment(net, sk, skb, out)
    if not skb.ignore_df or most > mtu:
        env.note("ip_fragment", f"DF is set: the sender is told mtu {mtu}")
        env.count("IpFragFails")
        icmp.icmp_send(net, skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
        env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return -errno.EMSGSIZE
    return ip_do_fragment(net, sk, skb, out)


def skb_checksum_help(skb: SkBuff) -> None:
    """The checksum that the device was to fill in is filled in; source net/core/dev.c:skb_checksum_help."""
    assert skb.transport is not None
    at = skb.transport + (16 if ip_hdr(skb).protocol == 6 else 6)
    skb.data[at : at + 2] = (checksum(bytes(skb.data[skb.transport :])) or 0xFFFF).to_bytes(2, "big")
    skb.ip_summed = CHECKSUM_NONE


@cited("net/ipv4/ip_output.c:ip_do_fragment", "RFC 791 2.3")
def ip_do_fragment(net: Ip, sk: IpSock | None, skb: SkBuff, out: Output) -> int:
    """The packet is cut, along the skbs that it is made of if they fit, else anew."""
    env = net.env
    cb = IPCB(skb)
    if skb.ip_summed == CHECKSUM_PARTIAL:
        skb_checksum_help(skb)
    iph = ip_hdr(skb)
    mtu = output.ip_skb_dst_mtu(net, sk, skb)
    if cb.frag_max_size and cb.frag_max_size < mtu:
        mtu = cb.frag_max_size
    hlen = iph.hdrlen
    if mtu < hlen + 8:
        env.note("ip_do_fragment", f"mtu {mtu} has no room for 8 bytes of payload")
        env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        env.count("IpFragFails")
        return -errno.EMSGSIZE
    mtu -= hlen
    cb.flags |= IPSKB_FRAG_COMPLETE
    if cb.frag_list and ip_fraglist_usable(skb, hlen, mtu):
        env.note("ip_do_fragment", f"it is made of {len(cb.frag_list) + 1} skbs that fit: they become the fragments")
        return _fast_path(net, sk, skb, hlen, out)
    env.note("ip_do_fragment", f"{skb.len - hlen} bytes are cut into fragments of up to {mtu // 8 * 8}")
    return _slow_path(net, sk, skb, hlen, mtu, out)


@pure
def lengths_usable(first: int, mtu: int, fragment: bool) -> bool:
    """The first skb can be the first fragment of a datagram."""
    return first <= mtu and first % 8 == 0 and not fragment


def ip_fraglist_usable(skb: SkBuff, hlen: int, mtu: int) -> bool:
    """The skbs of a packet can be its fragments as they are."""
    lens = IPCB(skb).frag_list
    if not lengths_usable(skb.len - hlen - sum(lens), mtu, ip_is_fragment(ip_hdr(skb))):
        return False
    return all(n <= mtu for n in lens) and all(n % 8 == 0 for n in lens[:-1])


def _fast_path(net: Ip, sk: IpSock | None, skb: SkBuff, hlen: int, out: Output) -> int:
    """Source ip_fraglist_init, ip_fraglist_prepare, ip_fraglist_next."""
    env = net.env
    cb = IPCB(skb)
    lens = [skb.len - hlen - sum(cb.frag_list), *cb.frag_list]
    payload = bytes(skb.data[hlen:])
    pieces: list[SkBuff] = []
    at = 0
    for i, n in enumerate(lens):
        piece = skb if i == 0 else SkBuff(bytes(pieces[-1].data[:hlen]) + payload[at : at + n], skb.protocol)
        if i == 0:
            del skb.data[hlen + n :]
            skb.truesize -= sum(cb.frag_list)
            cb.frag_list = []
        else:
            copy_metadata(piece, skb)
            piece.transport = hlen
            piece.cb = Ipcb(cb.iif)
            piece.cb.flags = cb.flags
        iph = ip_hdr(piece)
        iph.tot_len = hlen + n
        iph.frag_off = at >> 3 | (IP_MF if i < len(lens) - 1 else 0)
        ip_send_check(iph)
        if i == 1 and cb.opt.optlen:
            piece.cb.opt.optlen = cb.opt.optlen
            options.ip_options_fragment(piece)
            ip_send_check(iph)
        pieces.append(piece)
        at += n
    for i, piece in enumerate(pieces):
        err = out(net, sk, piece)
        if err:
            for rest in pieces[i + 1 :]:
                env.kfree_skb(rest, Reason.NOT_SPECIFIED)
            env.count("IpFragFails")
            return err
        env.count("IpFragCreates")
    env.count("IpFragOKs")
    return 0


@cited("net/ipv4/ip_output.c:ip_frag_next")
def ip_frag_next(skb: SkBuff, state: IpFragState, hlen: int, mtu: int, df: bool) -> tuple[SkBuff, IpFragState]:
    """The next fragment, with a header of its own."""
    state, effects = frag_next(state, FragNext(), FragParams(mtu))
    piece = effects[0]
    assert isinstance(piece, Piece)
    begin = hlen + piece.ptr
    new = SkBuff(bytes(skb.data[:hlen]) + bytes(skb.data[begin : begin + piece.len]), skb.protocol)
    copy_metadata(new, skb)
    new.transport = hlen
    iph = ip_hdr(new)
    iph.frag_off = piece.offset >> 3 & IP_OFFSET | (IP_DF if df else 0) | (IP_MF if piece.mf else 0)
    iph.tot_len = piece.len + hlen
    ip_send_check(iph)
    return new, state


def _slow_path(net: Ip, sk: IpSock | None, skb: SkBuff, hlen: int, mtu: int, out: Output) -> int:
    env = net.env
    cb = IPCB(skb)
    iph = ip_hdr(skb)
    start = FragInit(skb.len - hlen, iph.frag_off & IP_OFFSET, bool(iph.frag_off & IP_MF))
    state, _ = frag_init(IpFragState(), start, FragParams(mtu))
    df = bool(cb.flags & IPSKB_FRAG_PMTU)
    while state.left > 0:
        first_frag = state.offset == 0
        new, state = ip_frag_next(skb, state, hlen, mtu, df)
        new.cb = Ipcb(cb.iif)
        new.cb.flags = cb.flags
        if first_frag:
            options.ip_options_fragment(skb)
        err = out(net, sk, new)
        if err:
            env.kfree_skb(skb, Reason.NOT_SPECIFIED)
            env.count("IpFragFails")
            return err
        env.count("IpFragCreates")
    env.consume_skb(skb)
    env.count("IpFragOKs")
    return 0
