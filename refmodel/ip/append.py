"""A datagram is put together from what its sender gives, and pushed out: ip_append_data and what follows.

The law: the pieces are skbs that are fragments already, the first with room for the transport header; a datagram that
is more than one of them is sent as one packet with a list, and cut along the list.
"""

import errno
from typing import Final

from refmodel.dropreason import Reason
from refmodel.ip import options, output
from refmodel.ip.const import (
    INET_DSCP_MASK,
    INET_ECN_MASK,
    IP_DF,
    IP_MAX_MTU,
    IP_PMTUDISC_DO,
    IP_PMTUDISC_PROBE,
    IPPROTO_ICMP,
    IPV4_MIN_MTU,
    RTN_MULTICAST,
)
from refmodel.ip.env import Route
from refmodel.ip.header import SIZEOF_IPHDR, ip_hdr, new_header
from refmodel.ip.icmpmib import icmp_out_count
from refmodel.ip.ident import ip_select_ident
from refmodel.ip.net import Ip, Ipcb, IpOptions
from refmodel.ip.sock import Cork, Flowi4, Ipcm, IpSock, ip_dont_fragment, ip_sk_ignore_df, ip_sk_use_pmtu
from refmodel.packet.wire import ones_sum
from refmodel.rule import cited
from refmodel.skbuff import CHECKSUM_NONE, CHECKSUM_PARTIAL, SkBuff

HW_CSUM: Final = frozenset(("tx-checksum-ip-generic", "tx-checksum-ipv4"))
NET_XMIT_CN: Final = 2
LL_RESERVED_SPACE: Final = 16  # in front of the IP header, for Ethernet's
SIZEOF_SK_BUFF: Final = 256  # struct sk_buff, rounded up to a cache line; x86-64
SIZEOF_SHINFO: Final = 320  # struct skb_shared_info, rounded up
SMALL_HEAD: Final = 576  # SKB_SMALL_HEAD_CACHE_SIZE


def truesize_of(size: int, kernel: int) -> int:
    """Memory that an skb with so many bytes of room takes; source net/core/skbuff.c:__alloc_skb.

    Small ones have a cache of their own since 6.3, others a power of two.
    """
    need = (size + 63 & ~63) + SIZEOF_SHINFO
    if need <= SMALL_HEAD and kernel >= 603:
        return SMALL_HEAD + SIZEOF_SK_BUFF
    return (1 << (need - 1).bit_length()) + SIZEOF_SK_BUFF


@cited("net/ipv4/ip_output.c:ip_setup_cork")
def ip_setup_cork(net: Ip, sk: IpSock, ipc: Ipcm, rt: Route) -> Cork | int:
    """A datagram begins; -ENETUNREACH over a device that carries no IPv4."""
    fragsize = output.dst4_mtu(net, rt) if ip_sk_use_pmtu(sk) else rt.dev.mtu
    if fragsize < IPV4_MIN_MTU:
        return -errno.ENETUNREACH
    return Cork(ipc, rt, fragsize)


@cited("net/ipv4/ip_output.c:__ip_append_data")
def __ip_append_data(
    net: Ip, sk: IpSock, queue: list[SkBuff], cork: Cork, data: bytes, transhdrlen: int, more: bool = False
) -> int:
    """Appends `data` to the datagram, whose first `transhdrlen` bytes are the transport header; 0 or -EMSGSIZE."""
    env = net.env
    rt = cork.dst
    optlen = cork.opt.optlen if cork.opt is not None else 0
    mtu = IP_MAX_MTU if cork.gso_size else cork.fragsize
    head = SIZEOF_IPHDR + optlen
    maxfraglen = ((mtu - head) & ~7) + head
    most = IP_MAX_MTU if ip_sk_ignore_df(sk) else mtu
    if cork.length + len(data) > most - head:
        env.note("__ip_append_data", f"{cork.length + len(data)} bytes > {most - head}")
        return -errno.EMSGSIZE
    csummode = CHECKSUM_NONE
    if transhdrlen and len(data) + head <= mtu and rt.dev.features & HW_CSUM and (not more or cork.gso_size):
        csummode = CHECKSUM_PARTIAL
    cork.length += len(data)
    at = 0
    skb = queue[-1] if queue else None
    while at < len(data) or skb is None:
        left = len(data) - at
        copy = 0
        if skb is not None:
            copy = mtu - skb.len
            if copy < left:
                copy = maxfraglen - skb.len
        if skb is not None and copy > 0:
            skb.data += data[at : at + copy]
            at += copy
            continue
        # What stands beyond the last multiple of 8 moves into the new fragment.
        gap = b""
        if skb is not None:
            gap = bytes(skb.data[maxfraglen:])
            del skb.data[maxfraglen:]
        datalen = left + len(gap)
        if datalen > mtu - head:
            datalen = maxfraglen - head
        copy = datalen - len(gap)
        held = sum(x.truesize for x in queue)
        if queue and sk.sk_sndbuf and held > 2 * sk.sk_sndbuf:
            env.note("__ip_append_data", f"{held} bytes of memory > twice the send buffer {sk.sk_sndbuf}")
            cork.length -= len(data) - at
            env.count("IpOutDiscards")
            return -errno.ENOBUFS
        skb = SkBuff(bytes(head) + gap + data[at : at + copy], 0)
        skb.truesize = truesize_of(datalen + head + LL_RESERVED_SPACE + 15, env.kernel)
        skb.ip_summed = csummode
        skb.transport = head
        skb.sk = sk
        csummode = CHECKSUM_NONE
        at += copy
        queue.append(skb)
    return 0


@cited("net/ipv4/ip_output.c:ip_append_data")
def ip_append_data(net: Ip, sk: IpSock, data: bytes, transhdrlen: int, ipc: Ipcm, rt: Route, more: bool = False) -> int:
    """Appends data to the socket's pending datagram, or begins one: 0 or a negative errno."""
    if sk.cork is None:
        cork = ip_setup_cork(net, sk, ipc, rt)
        if isinstance(cork, int):
            return cork
        sk.cork = cork
    else:
        transhdrlen = 0
    err = __ip_append_data(net, sk, sk.write_queue, sk.cork, data, transhdrlen, more)
    if err and not sk.write_queue:
        sk.cork = None
    return err


@cited("net/ipv4/ip_output.c:ip_flush_pending_frames")
def ip_flush_pending_frames(net: Ip, sk: IpSock) -> None:
    """The pending datagram is thrown away."""
    for skb in reversed(sk.write_queue):
        net.env.kfree_skb(skb, Reason.NOT_SPECIFIED)
    sk.write_queue = []
    sk.cork = None


@cited("net/ipv4/ip_output.c:__ip_make_skb", "RFC 791 3.1")
def __ip_make_skb(net: Ip, sk: IpSock, fl4: Flowi4, queue: list[SkBuff], cork: Cork) -> SkBuff | None:
    """The pieces become one packet, and its header is made."""
    if not queue:
        return None
    rt = cork.dst
    opt = cork.opt
    skb = queue.pop(0)
    head = skb.transport or SIZEOF_IPHDR
    skb.cb = cb = Ipcb(0)
    while queue:
        part = queue.pop(0)
        cb.frag_list.append(part.len - head)
        skb.data += part.data[head:]
        skb.truesize += part.truesize
    skb.truesize = max(skb.truesize, skb.len)
    skb.ignore_df = ip_sk_ignore_df(sk)
    whole = sk.pmtudisc in (IP_PMTUDISC_DO, IP_PMTUDISC_PROBE) or (
        skb.len <= output.dst4_mtu(net, rt) and ip_dont_fragment(sk, rt)
    )
    if cork.ttl:
        ttl = cork.ttl
    elif rt.rt_type == RTN_MULTICAST:
        ttl = sk.mc_ttl
    else:
        ttl = output.ip_select_ttl(net, sk, rt)
    tos = cork.tos if cork.tos != -1 else sk.tos
    skb.data[:head] = new_header(
        head - SIZEOF_IPHDR, tos, IP_DF if whole else 0, ttl, sk.sk_protocol, fl4.saddr, fl4.daddr
    )
    skb.dst = rt
    skb.dev = rt.dev
    ip_select_ident(net, skb, sk)
    if opt is not None and opt.optlen:
        options.ip_options_build(net, skb, opt, cork.addr)
    skb.priority = cork.priority if cork.tos != -1 else sk.sk_priority
    skb.mark = cork.mark
    skb.dev = None
    iph = ip_hdr(skb)
    net.env.note("__ip_make_skb", f"{skb.len} bytes, id {iph.id:#06x}, {'DF' if whole else 'no DF'}, ttl {ttl}")
    if sk.sk_protocol == IPPROTO_ICMP:
        # The kernel's own answers do not tell the flow their type: they are all counted as echo replies.
        icmp_out_count(net, fl4.icmp_type if sk.raw and not fl4.known_nh else skb.data[head])
    return skb


@cited("net/ipv4/ip_output.c:ip_make_skb")
def ip_make_skb(
    net: Ip, sk: IpSock, fl4: Flowi4, data: bytes, transhdrlen: int, ipc: Ipcm, rt: Route
) -> SkBuff | int | None:
    """A datagram that is complete at once; a negative errno if it is too long."""
    cork = ip_setup_cork(net, sk, ipc, rt)
    if isinstance(cork, int):
        return cork
    queue: list[SkBuff] = []
    err = __ip_append_data(net, sk, queue, cork, data, transhdrlen)
    if err:
        return err
    return __ip_make_skb(net, sk, fl4, queue, cork)


@cited("net/ipv4/ip_output.c:ip_send_skb")
def ip_send_skb(net: Ip, skb: SkBuff) -> int:
    """The datagram leaves; congestion alone is no error."""
    err = output.ip_local_out(net, skb.sk, skb)
    if err:
        if err > 0:
            err = 0 if err == NET_XMIT_CN else -errno.ENOBUFS
        if err:
            net.env.count("IpOutDiscards")
    return err


@cited("net/ipv4/ip_output.c:ip_push_pending_frames")
def ip_push_pending_frames(net: Ip, sk: IpSock, fl4: Flowi4) -> int:
    """The pending datagram is complete."""
    assert sk.cork is not None
    skb = __ip_make_skb(net, sk, fl4, sk.write_queue, sk.cork)
    sk.cork = None
    return ip_send_skb(net, skb) if skb is not None else 0


@cited("net/ipv4/ip_output.c:ip_send_unicast_reply", "RFC 9293 3.5.2")
def ip_send_unicast_reply(
    net: Ip, sk: IpSock, skb: SkBuff, sopt: IpOptions, flow: Flowi4, data: bytes, csum_at: int = -1
) -> None:
    """An answer to a packet whose socket may not exist: a reset, or an ACK of TIME_WAIT.

    `data` are the answer's bytes from the transport header on, `csum_at` is where their checksum stands: the field
    must hold the sum of the pseudo-header. `flow` has addresses, ports, tos and mark of the answer.
    """
    replyopts = options.__ip_options_echo(net, skb, sopt)
    if isinstance(replyopts, int):
        return
    ipc = Ipcm(flow.daddr)
    if replyopts.optlen:
        ipc.opt = replyopts
        if replyopts.srr:
            flow.daddr = replyopts.faddr
    tos = flow.tos
    flow.tos &= INET_DSCP_MASK
    rt = net.env.ip_route_output_key(flow)
    if rt is None:
        return
    sk.tos = tos & ~INET_ECN_MASK
    sk.sk_protocol = ip_hdr(skb).protocol
    ipc.mark = flow.mark
    if ip_append_data(net, sk, data, 0, ipc, rt):
        ip_flush_pending_frames(net, sk)
        return
    new = sk.write_queue[0]
    if csum_at >= 0:
        begin = new.transport or 0
        total = sum(ones_sum(bytes(x.data[x.transport or 0 :])) for x in sk.write_queue)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        new.data[begin + csum_at : begin + csum_at + 2] = (total ^ 0xFFFF).to_bytes(2, "big")
    new.ip_summed = CHECKSUM_NONE
    ip_push_pending_frames(net, sk, flow)
