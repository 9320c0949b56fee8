"""IPv4 options: read on the way in, turned round in answers, changed on the way through, blanked in fragments.

The law: an option is worth its own length octet; what is wrong with it is told to the sender with the offset of the
wrong octet. Every option but those with the copied bit stands in a datagram's first fragment only.
"""

import errno
from typing import Final

from refmodel.ip import icmp
from refmodel.ip.const import (
    ICMP_PARAMETERPROB,
    INADDR_ANY,
    IPOPT_CIPSO,
    IPOPT_END,
    IPOPT_LSRR,
    IPOPT_NOOP,
    IPOPT_RA,
    IPOPT_RR,
    IPOPT_SSRR,
    IPOPT_TIMESTAMP,
    IPOPT_TS_PRESPEC,
    IPOPT_TS_TSANDADDR,
    IPOPT_TS_TSONLY,
    RTN_LOCAL,
    RTN_UNICAST,
)
from refmodel.ip.header import SIZEOF_IPHDR, ip_hdr, ip_send_check
from refmodel.ip.net import IPCB, Ip, IpOptions, dst
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.skbuff import PACKET_HOST, SkBuff

COPIED: Final = 0x80


class _Reader:
    """One pass over options: what __ip_options_compile has in its local variables.

    `at` is where the option being read begins in `data`, `base` where the IP header would begin.
    """

    def __init__(self, net: Ip, opt: IpOptions, skb: SkBuff | None, privileged: bool) -> None:
        self.net = net
        self.opt = opt
        self.skb = skb
        self.privileged = privileged
        self.data = skb.data if skb is not None else opt.data
        self.base = 0 if skb is not None else -SIZEOF_IPHDR
        self.routed = skb is not None and skb.dst is not None
        self.spec_dst = INADDR_ANY

    def address(self) -> bytes:
        """The address that this host writes into options; it is looked up once."""
        assert self.skb is not None
        if self.spec_dst == INADDR_ANY:
            self.spec_dst = self.net.env.fib_compute_spec_dst(self.skb)
        return self.spec_dst

    def put_address(self, at: int) -> None:
        self.data[at : at + 4] = self.address()
        self.opt.is_changed = True

    def source_route(self, at: int, optlen: int) -> int | None:
        opt, data = self.opt, self.data
        if optlen < 3:
            return at + 1
        if data[at + 2] < 4:
            return at + 2
        if opt.srr:
            return at
        if self.skb is None:
            if data[at + 2] != 4 or optlen < 7 or (optlen - 3) & 3:
                return at + 1
            opt.faddr = bytes(data[at + 3 : at + 7])
            if optlen > 7:
                data[at + 3 : at + optlen - 4] = data[at + 7 : at + optlen]
        opt.is_strictroute = data[at] == IPOPT_SSRR
        opt.srr = at - self.base
        return None

    def record_route(self, at: int, optlen: int) -> int | None:
        opt, data = self.opt, self.data
        if opt.rr:
            return at
        if optlen < 3:
            return at + 1
        pointer = data[at + 2]
        if pointer < 4:
            return at + 2
        if pointer <= optlen:
            if pointer + 3 > optlen:
                return at + 2
            if self.routed:
                self.put_address(at + pointer - 1)
            data[at + 2] += 4
            opt.rr_needaddr = True
        opt.rr = at - self.base
        return None

    def timestamp(self, at: int, optlen: int) -> int | None:
        opt, data = self.opt, self.data
        if opt.ts:
            return at
        if optlen < 4:
            return at + 1
        pointer = data[at + 2]
        if pointer < 5:
            return at + 2
        if pointer <= optlen:
            if pointer + 3 > optlen:
                return at + 2
            bad = self.timestamp_room(at, optlen, pointer)
            if bad is not None:
                return bad
        elif data[at + 3] & 0xF != IPOPT_TS_PRESPEC:
            overflow = data[at + 3] >> 4
            if overflow == 15:
                return at + 3
            if self.skb is not None:
                data[at + 3] = data[at + 3] & 0xF | (overflow + 1) << 4
                opt.is_changed = True
        opt.ts = at - self.base
        return None

    def timestamp_room(self, at: int, optlen: int, pointer: int) -> int | None:
        """There is room for one more timestamp."""
        opt, data, skb = self.opt, self.data, self.skb
        time_at = -1
        kind = data[at + 3] & 0xF
        if kind == IPOPT_TS_TSONLY:
            if skb is not None:
                time_at = at + pointer - 1
            opt.ts_needtime = True
            data[at + 2] += 4
        elif kind == IPOPT_TS_TSANDADDR:
            if pointer + 7 > optlen:
                return at + 2
            if self.routed:
                self.put_address(at + pointer - 1)
                time_at = at + pointer + 3
            opt.ts_needaddr = True
            opt.ts_needtime = True
            data[at + 2] += 8
        elif kind == IPOPT_TS_PRESPEC:
            if pointer + 7 > optlen:
                return at + 2
            # A timestamp is left out where the named address is a stranger's, whose turn comes later.
            if self.net.env.inet_addr_type(bytes(data[at + pointer - 1 : at + pointer + 3])) != RTN_UNICAST:
                if skb is not None:
                    time_at = at + pointer + 3
                opt.ts_needtime = True
                data[at + 2] += 8
        elif skb is None and not self.privileged:
            return at + 3
        if time_at >= 0:
            data[time_at : time_at + 4] = self.net.env.clock_ms_of_day().to_bytes(4, "big")
            opt.is_changed = True
        return None

    def cipso(self, at: int, optlen: int) -> int | None:
        """No domain of interpretation is configured, so no label is valid; source cipso_v4_validate."""
        if (self.skb is None and not self.privileged) or self.opt.cipso:
            return at
        self.opt.cipso = at - self.base
        return at + 1 if optlen < 8 else at + 2

    def option(self, at: int, optlen: int) -> int | None:
        """Reads one option; the position of the octet that is wrong, or None."""
        kind = self.data[at]
        if kind in (IPOPT_SSRR, IPOPT_LSRR):
            return self.source_route(at, optlen)
        if kind == IPOPT_RR:
            return self.record_route(at, optlen)
        if kind == IPOPT_TIMESTAMP:
            return self.timestamp(at, optlen)
        if kind == IPOPT_RA:
            if optlen < 4:
                return at + 1
            if self.data[at + 2] == 0 and self.data[at + 3] == 0:
                self.opt.router_alert = at - self.base
            return None
        if kind == IPOPT_CIPSO:
            return self.cipso(at, optlen)
        if self.skb is None and not self.privileged:
            return at
        return None


@cited("net/ipv4/ip_options.c:__ip_options_compile", "RFC 791 3.1", "RFC 1812 5.2.4.1")
def __ip_options_compile(net: Ip, opt: IpOptions, skb: SkBuff | None, privileged: bool = True) -> int | None:
    """Reads the options of a packet, or those of `opt` that a socket sets; None, or the offset of what is wrong.

    In a packet, the host's own address and the time are written where the options ask for them.
    """
    reader = _Reader(net, opt, skb, privileged)
    data = reader.data
    at = SIZEOF_IPHDR if skb is not None else 0
    left = opt.optlen
    while left > 0:
        kind = data[at]
        if kind == IPOPT_END:
            for i in range(at + 1, at + left):
                if data[i] != IPOPT_END:
                    data[i] = IPOPT_END
                    opt.is_changed = True
            return None
        if kind == IPOPT_NOOP:
            at += 1
            left -= 1
            continue
        if left < 2:
            return at - reader.base
        optlen = data[at + 1]
        if optlen < 2 or optlen > left:
            return at - reader.base
        bad = reader.option(at, optlen)
        if bad is not None:
            return bad - reader.base
        at += optlen
        left -= optlen
    return None


@cited("net/ipv4/ip_options.c:ip_options_compile")
def ip_options_compile(net: Ip, opt: IpOptions, skb: SkBuff | None, privileged: bool = True) -> int:
    """Reads options and tells a packet's sender what is wrong with them: 0 or -EINVAL."""
    bad = __ip_options_compile(net, opt, skb, privileged)
    if bad is None:
        return 0
    if skb is not None:
        net.env.note("ip_options_compile", f"octet {bad} of the header is wrong: parameter problem")
        icmp.icmp_send(net, skb, ICMP_PARAMETERPROB, 0, bad << 24)
    return -errno.EINVAL


@cited("net/ipv4/ip_options.c:ip_options_get")
def ip_options_get(net: Ip, data: bytes, privileged: bool = True) -> IpOptions | int:
    """The options that a socket sets, read; or a negative errno."""
    opt = IpOptions(len(data) + 3 & ~3, data + bytes(-len(data) % 4))
    if opt.optlen and ip_options_compile(net, opt, None, privileged):
        return -errno.EINVAL
    if opt.srr and not privileged:
        return -errno.EPERM
    return opt


@cited("net/ipv4/ip_options.c:ip_options_rcv_srr", "RFC 791 3.1", "RFC 1122 3.3.5")
def ip_options_rcv_srr(net: Ip, skb: SkBuff, dev: NetDevice) -> int:
    """A source route that names this host: the next hop is taken from it. 0 or -EINVAL."""
    env = net.env
    opt = IPCB(skb).opt
    iph = ip_hdr(skb)
    data, srr = skb.data, opt.srr
    if skb.dst is None:
        return 0
    if skb.pkt_type != PACKET_HOST:
        return -errno.EINVAL
    rt = dst(skb)
    if rt.rt_type == RTN_UNICAST:
        if not opt.is_strictroute:
            return 0
        env.note("ip_options_rcv_srr", "a strict route that does not name this host")
        icmp.icmp_send(net, skb, ICMP_PARAMETERPROB, 0, 16 << 24)
        return -errno.EINVAL
    if rt.rt_type != RTN_LOCAL:
        return -errno.EINVAL
    pointer, space = data[srr + 2], data[srr + 1]
    nexthop = INADDR_ANY
    while pointer <= space:
        if pointer + 3 > space:
            icmp.icmp_send(net, skb, ICMP_PARAMETERPROB, 0, (srr + 2 & 0xFF) << 24)
            return -errno.EINVAL
        nexthop = bytes(data[srr + pointer - 1 : srr + pointer + 3])
        was, skb.dst = skb.dst, None
        refused = env.ip_route_input_noref(skb, nexthop, iph.saddr, iph.tos, dev)
        if refused is not None or dst(skb).rt_type not in (RTN_UNICAST, RTN_LOCAL):
            skb.dst = was
            return -errno.EINVAL
        if dst(skb).rt_type != RTN_LOCAL:
            break
        iph.daddr = nexthop
        opt.is_changed = True
        pointer += 4
    if pointer <= space:
        env.note("ip_options_rcv_srr", f"next hop {nexthop.hex()}")
        opt.srr_is_hit = True
        opt.nexthop = nexthop
        opt.is_changed = True
    return 0


@cited("net/ipv4/ip_options.c:ip_forward_options", "RFC 1812 5.2.4.1")
def ip_forward_options(net: Ip, skb: SkBuff) -> None:
    """A router puts the address of the device that the packet leaves by into its options."""
    env = net.env
    opt, data = IPCB(skb).opt, skb.data
    rt = dst(skb)

    def put(at: int) -> None:
        data[at : at + 4] = env.ip_rt_get_source(skb, rt)

    if opt.rr_needaddr:
        put(opt.rr + data[opt.rr + 2] - 5)
        opt.is_changed = True
    if opt.srr_is_hit:
        srr = opt.srr
        pointer, space = data[srr + 2], data[srr + 1]
        while pointer + 3 <= space and data[srr + pointer - 1 : srr + pointer + 3] != opt.nexthop:
            pointer += 4
        if pointer + 3 <= space:
            opt.is_changed = True
            ip_hdr(skb).daddr = opt.nexthop
            put(srr + pointer - 1)
            data[srr + 2] = pointer + 4
        # The address of a timestamp is put in only where a source route is followed.
        if opt.ts_needaddr:
            put(opt.ts + data[opt.ts + 2] - 9)
            opt.is_changed = True
    if opt.is_changed:
        opt.is_changed = False
        ip_send_check(ip_hdr(skb))


@cited("net/ipv4/ip_options.c:ip_options_fragment", "RFC 791 3.1")
def ip_options_fragment(skb: SkBuff) -> None:
    """Options that only the first fragment carries become no-operations, for the fragments after it."""
    opt, data = IPCB(skb).opt, skb.data
    at, left = SIZEOF_IPHDR, opt.optlen
    while left > 0:
        kind = data[at]
        if kind == IPOPT_END:
            return
        if kind == IPOPT_NOOP:
            at += 1
            left -= 1
            continue
        optlen = data[at + 1]
        if optlen < 2 or optlen > left:
            return
        if not kind & COPIED:
            data[at : at + optlen] = bytes((IPOPT_NOOP,)) * optlen
        at += optlen
        left -= optlen
    opt.ts = opt.rr = 0
    opt.rr_needaddr = opt.ts_needaddr = opt.ts_needtime = False


@cited("net/ipv4/ip_options.c:ip_options_build", "RFC 791 3.1")
def ip_options_build(net: Ip, skb: SkBuff, opt: IpOptions, daddr: bytes) -> None:
    """Writes options into a header that has room for them; the real destination ends a source route."""
    env = net.env
    cb = IPCB(skb)
    cb.opt = opt.copy()
    data = skb.data
    data[SIZEOF_IPHDR : SIZEOF_IPHDR + opt.optlen] = opt.data[: opt.optlen]
    if opt.srr:
        at = opt.srr + data[opt.srr + 1] - 4
        data[at : at + 4] = daddr
    if opt.rr_needaddr:
        at = opt.rr + data[opt.rr + 2] - 5
        data[at : at + 4] = env.ip_rt_get_source(skb, dst(skb))
    if opt.ts_needaddr:
        at = opt.ts + data[opt.ts + 2] - 9
        data[at : at + 4] = env.ip_rt_get_source(skb, dst(skb))
    if opt.ts_needtime:
        at = opt.ts + data[opt.ts + 2] - 5
        data[at : at + 4] = env.clock_ms_of_day().to_bytes(4, "big")


@cited("net/ipv4/ip_options.c:__ip_options_echo", "RFC 1122 3.2.2.6")
def __ip_options_echo(net: Ip, skb: SkBuff, sopt: IpOptions) -> IpOptions | int:
    """The options of an answer to a packet with the options `sopt`; -EINVAL if they cannot be turned round."""
    dopt = IpOptions()
    if sopt.optlen == 0:
        return dopt
    sptr = skb.data
    if sopt.rr:
        optlen, soffset = sptr[sopt.rr + 1], sptr[sopt.rr + 2]
        dopt.rr = dopt.optlen + SIZEOF_IPHDR
        option = bytearray(sptr[sopt.rr : sopt.rr + optlen])
        if sopt.rr_needaddr and soffset <= optlen:
            if soffset + 3 > optlen:
                return -errno.EINVAL
            option[2] = soffset + 4
            dopt.rr_needaddr = True
        dopt.data += option
        dopt.optlen += optlen
    if sopt.ts:
        error = _echo_timestamp(net, sptr, sopt, dopt)
        if error:
            return error
    if sopt.srr:
        _echo_source_route(skb, sopt, dopt)
    if sopt.cipso:
        option = bytearray(sptr[sopt.cipso : sopt.cipso + sptr[sopt.cipso + 1]])
        dopt.cipso = dopt.optlen + SIZEOF_IPHDR
        dopt.data += option
        dopt.optlen += len(option)
    while dopt.optlen & 3:
        dopt.data.append(IPOPT_END)
        dopt.optlen += 1
    return dopt


def _echo_timestamp(net: Ip, sptr: bytearray, sopt: IpOptions, dopt: IpOptions) -> int:
    optlen, soffset = sptr[sopt.ts + 1], sptr[sopt.ts + 2]
    dopt.ts = dopt.optlen + SIZEOF_IPHDR
    option = bytearray(sptr[sopt.ts : sopt.ts + optlen])
    if soffset <= optlen:
        if sopt.ts_needaddr:
            if soffset + 3 > optlen:
                return -errno.EINVAL
            dopt.ts_needaddr = True
            soffset += 4
        if sopt.ts_needtime:
            if soffset + 3 > optlen:
                return -errno.EINVAL
            if option[3] & 0xF != IPOPT_TS_PRESPEC:
                dopt.ts_needtime = True
                soffset += 4
            else:
                dopt.ts_needtime = False
                if soffset + 7 <= optlen:
                    address = bytes(option[soffset - 1 : soffset + 3])
                    if net.env.inet_addr_type(address) != RTN_UNICAST:
                        dopt.ts_needtime = True
                        soffset += 8
        option[2] = soffset & 0xFF
    dopt.data += option
    dopt.optlen += optlen
    return 0


def _echo_source_route(skb: SkBuff, sopt: IpOptions, dopt: IpOptions) -> None:
    """The route is gone the other way: the last address before this one is the first hop back."""
    start = skb.data[sopt.srr :]
    optlen, soffset = start[1], start[2]
    doffset = 0
    option = bytearray(optlen + 8)
    faddr = INADDR_ANY
    if soffset > optlen:
        soffset = optlen + 1
    soffset -= 4
    if soffset > 3:
        faddr = bytes(start[soffset - 1 : soffset + 3])
        soffset -= 4
        doffset = 4
        while soffset > 3:
            option[doffset - 1 : doffset + 3] = start[soffset - 1 : soffset + 3]
            soffset -= 4
            doffset += 4
        # RFC 1812 asks for source routes that name their sender to be mended.
        if start[soffset + 3 : soffset + 7] == ip_hdr(skb).saddr:
            doffset -= 4
    if doffset > 3:
        dopt.faddr = faddr
        option[0] = start[0]
        option[1] = doffset + 3
        option[2] = 4
        dopt.srr = dopt.optlen + SIZEOF_IPHDR
        dopt.data += option[: doffset + 3]
        dopt.optlen += doffset + 3
        dopt.is_strictroute = sopt.is_strictroute


@cited("include/net/ip.h:ip_options_echo")
def ip_options_echo(net: Ip, skb: SkBuff) -> IpOptions | int:
    """The options of an answer to a packet."""
    return __ip_options_echo(net, skb, IPCB(skb).opt)
