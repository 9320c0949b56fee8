"""TCP over IPv4 and IPv6: how a segment finds its socket, connect(), ICMP errors, and answers without a socket.

The law: a segment belongs to the connection with its addresses and ports, be that a full socket, a request or a
time-wait socket, else to a listener, else it is reset. IPv6 sockets that talk IPv4 have 4-byte addresses and `mapped`.
"""

import copy
import errno
import struct
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import (
    bind,
    ca,
    fastopen,
    hashtables,
    inet,
    listen,
    md5,
    minisocks,
    options,
    output,
    rcv,
    rcvbuf,
    route,
    secure,
    sendmsg,
    syncookies,
    transmit,
)
from refmodel.tcp.whole.const import ACK, CWR, ECE, GSO_LEGACY_MAX_SIZE, MAX_TCP_HEADER, RST, SYN, TCP_MSS_DEFAULT, URG
from refmodel.tcp.whole.skb import Packet, Skb, SockAddr
from refmodel.tcp.whole.sock import Dst, RequestSock, Sock, TimewaitSock
from refmodel.tcp.whole.tcp_h import options_size, tcp_hdrlen, tcp_mss_clamp
from refmodel.types import M32, add

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

AF_INET: Final = 2
AF_INET6: Final = 10
IPV6_MIN_MTU: Final = 1280
LOOPBACK4: Final = b"\x7f\x00\x00\x01"
LOOPBACK6: Final = bytes(15) + b"\x01"
MAPPED: Final = bytes(10) + b"\xff\xff"
INET_ECN_MASK: Final = 3
RTAX_FEATURE_TCP_USEC_TS: Final = 1 << 4


def is_mapped(addr: bytes) -> bool:
    """::ffff:a.b.c.d; source include/net/ipv6.h:ipv6_addr_v4mapped."""
    return len(addr) == 16 and addr[:12] == MAPPED


def dst_tcp_usec_ts(dst: Dst) -> bool:
    """The route's timestamps count microseconds; source include/net/tcp.h:dst_tcp_usec_ts."""
    return bool(dst.features & RTAX_FEATURE_TCP_USEC_TS)


def mss_clamp(skb: Skb) -> int:
    """The MSS of a peer that doesn't say; source net/ipv4/tcp_ipv4.c:tcp_request_sock_ipv4_ops."""
    assert skb.packet is not None
    return IPV6_MIN_MTU - 60 if len(skb.packet.saddr) == 16 else TCP_MSS_DEFAULT


# ---------------------------------------------------------------- segments that arrive as skbs


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_fill_cb", "net/ipv6/tcp_ipv6.c:tcp_v6_fill_cb")
def tcp_v4_fill_cb(net: "Net", packet: Packet) -> Skb:
    """The skb of a segment that arrives."""
    flags = packet.flags
    end_seq = (packet.seq + packet.len + (flags & 1) + ((flags & SYN) >> 1)) & M32
    skb = Skb(packet.seq, end_seq, packet.len, flags)
    skb.ack_seq = packet.ack_seq
    skb.urg_ptr = packet.urg_ptr
    skb.ip_dsfield = packet.tos
    skb.opts = packet.opts
    skb.packet = packet
    rcvbuf.tun_skb(net, skb)
    skb.tstamp = skb.skb_mstamp = net.now
    skb.has_rxtstamp = True
    return skb


def skb_clone(skb: Skb) -> Skb:
    """A second skb with the same bytes; source net/core/skbuff.c:skb_clone."""
    new = copy.copy(skb)
    new.prev = new.next = new.ts_prev = new.ts_next = None
    new.ts_queued = False
    return new


def tcp_segs_in(sk: Sock, skb: Skb) -> None:
    """Counts what arrived for a socket; source include/net/tcp.h:tcp_segs_in."""
    segs_in = max(1, skb.gso_segs)
    sk.segs_in += segs_in
    if skb.len:
        sk.data_segs_in += segs_in


def _csum(data: bytes) -> int:
    if len(data) & 1:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def header_bytes(skb: Skb, mac: bool) -> bytes:
    """IP and TCP header of a segment as they came; a tun device adds no other header."""
    packet = skb.packet
    assert packet is not None
    hdrlen = tcp_hdrlen(packet)
    opts = b"".join(o.wire() for o in options.wire_options(packet.opts, packet.flags))
    opts = (opts + bytes(40))[: hdrlen - 20]
    tcp = struct.pack(
        ">HHIIHHHH",
        packet.sport,
        packet.dport,
        packet.seq,
        packet.ack_seq,
        hdrlen << 10 | (packet.flags & 0x1FF),
        packet.window,
        0,
        packet.urg_ptr,
    )
    length = hdrlen + packet.len
    if len(packet.saddr) == 16:
        pseudo = packet.saddr + packet.daddr + struct.pack(">II", length, 6)
        vtf = 6 << 28 | packet.tos << 20 | packet.flowlabel
        ip = struct.pack(">IHBB", vtf, length, 6, packet.ttl) + packet.saddr + packet.daddr
    else:
        pseudo = packet.saddr + packet.daddr + struct.pack(">HH", 6, length)
        ip = struct.pack(">BBHHHBBH", 0x45, packet.tos, 20 + length, 0, 0, packet.ttl, 6, 0)
        ip += packet.saddr + packet.daddr
        ip = ip[:10] + struct.pack(">H", _csum(ip)) + ip[12:]
    check = _csum(pseudo + tcp + opts + bytes(packet.len))
    return ip + tcp[:16] + struct.pack(">H", check) + tcp[18:] + opts


# ---------------------------------------------------------------- connect


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_init_seq_and_ts_off", "net/ipv6/tcp_ipv6.c:tcp_v6_init_seq_and_ts_off")
def tcp_v4_init_seq_and_ts_off(net: "Net", skb: Skb) -> tuple[int, int]:
    """Sequence number and timestamp offset for the connection of a SYN."""
    packet = skb.packet
    assert packet is not None
    return secure.secure_tcp_seq_and_ts_off(net, packet.daddr, packet.saddr, packet.dport, packet.sport)


def is_loopback(addr: bytes) -> bool:
    """An address of the loopback device."""
    return addr[:1] == b"\x7f" if len(addr) == 4 else addr == LOOPBACK6


@cited("net/ipv4/tcp_ipv4.c:tcp_twsk_unique", "RFC 6191 2")
def tcp_twsk_unique(sk: Sock, tw: TimewaitSock, twp: bool) -> bool:
    """A connection that is in TIME_WAIT may begin anew, above its old sequence numbers: if timestamps protect it.

    `twp`: the port is being searched for, so tcp_tw_reuse must allow it and a second must have passed.
    """
    net = sk.net
    reuse = net.p.tcp_tw_reuse
    if tw.tw_substate == St.FIN_WAIT2:
        reuse = 0
    if reuse == 2 and not (is_loopback(tw.tw_daddr) or is_loopback(tw.tw_rcv_saddr)):
        reuse = 0
    stamp = tw.tw_ts_recent_stamp
    if not stamp:
        return False
    if net.p.kernel >= 614:
        late = net.now // 1000 > tw.tw_entry_stamp + net.p.tcp_tw_reuse_delay
    else:
        late = net.secs > stamp
    if twp and not (reuse and late):
        return False
    if not sk.repair:
        sk.write_seq = add(tw.tw_snd_nxt, 65535 + 2) or 1
        sk.rx_opt.ts_recent = tw.tw_ts_recent
        sk.rx_opt.ts_recent_stamp = stamp
    return True


@cited("net/core/sock.c:sk_setup_caps", "net/core/sock.c:sk_dst_gso_max_size")
def sk_setup_caps(sk: Sock, dst: Dst) -> None:
    """Gives a socket its route, and with it what the device can do."""
    sk.sk_dst = dst
    sk.icsk_ack.dst_quick_ack = bool(dst.quickack)
    sk.sk_gso_max_size = GSO_LEGACY_MAX_SIZE - (MAX_TCP_HEADER(sk.net.p.max_header) + 1)
    sk.sk_gso_max_segs = 1 if sk.md5sig_info is not None else 65535


def source_address(net: "Net", daddr: bytes) -> bytes:
    """The address that routing chooses for packets to `daddr`."""
    if net.below is not None:
        return net.below.source_address(daddr)
    if daddr in net.local_addrs or is_loopback(daddr):
        return daddr
    for addr in net.local_addrs:
        if len(addr) == len(daddr):
            return addr
    return LOOPBACK6 if len(daddr) == 16 else LOOPBACK4


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_connect", "net/ipv6/tcp_ipv6.c:tcp_v6_connect", "RFC 9293 3.10.1")
def tcp_v4_connect(sk: Sock, uaddr: SockAddr) -> int:
    """Opens a connection actively: addresses, port, sequence number, SYN. 0, or a negative errno.

    An IPv6 socket that connects to ::ffff:a.b.c.d becomes `mapped`.
    """
    net = sk.net
    if uaddr.family != sk.sk_family:
        return -errno.EAFNOSUPPORT
    daddr = uaddr.addr
    bound = sk.inet_rcv_saddr
    if bind.is_any(daddr):
        v4 = len(daddr) == 4 or (len(bound) == 4 and not bind.is_any(bound))
        daddr = LOOPBACK4 if v4 else LOOPBACK6
    elif is_mapped(daddr):
        if sk.sk_ipv6only:
            return -errno.ENETUNREACH
        daddr = daddr[12:]
    v6 = len(daddr) == 16
    if (daddr[0] == 0xFF) if v6 else (daddr[0] >= 224):
        return -errno.ENETUNREACH
    if v6 and len(bound) == 4 and not bind.is_any(bound):
        return -errno.ENETUNREACH
    if net.below is not None and (err := net.below.route_error(daddr)):
        if err == -errno.ENETUNREACH:
            net.count("Ip6OutNoRoutes" if v6 else "IpOutNoRoutes")
        return err
    was_mapped = sk.mapped
    sk.mapped = sk.sk_family == AF_INET6 and not v6
    dst = route.ip_route_output(net, daddr)
    if v6:
        sk.tcp_usec_ts = dst_tcp_usec_ts(dst)
    if bind.is_any(bound) or bind.is_any(sk.inet_saddr):
        bind.inet_bhash2_update_saddr(sk, source_address(net, daddr))
    else:
        sk.inet_rcv_saddr = sk.inet_saddr
    if sk.rx_opt.ts_recent_stamp and sk.inet_daddr != daddr:
        sk.rx_opt.ts_recent = 0
        sk.rx_opt.ts_recent_stamp = 0
        if not sk.repair:
            sk.write_seq = 0
    sk.inet_dport = uaddr.port
    sk.inet_daddr = daddr
    sk.icsk_ext_hdr_len = 0
    sk.rx_opt.mss_clamp = IPV6_MIN_MTU - 60 if v6 else TCP_MSS_DEFAULT
    inet.tcp_set_state(sk, St.SYN_SENT)
    err = hashtables.inet_hash_connect(sk)
    if not err:
        sk.sk_txhash = net.random() or 1
        if not v6:
            sk.tcp_usec_ts = dst_tcp_usec_ts(dst)
        sk_setup_caps(sk, dst)
        if not sk.repair:
            seq, ts_off = secure.secure_tcp_seq_and_ts_off(net, sk.inet_saddr, daddr, sk.inet_sport, uaddr.port)
            if not sk.write_seq:
                sk.write_seq = seq
            sk.tsoffset = ts_off
        sk.inet_id = net.random() & 0xFFFF
        if fastopen.tcp_fastopen_defer_connect(sk):
            return 0
        err = transmit.tcp_connect(sk)
        if not err:
            return 0
    inet.tcp_set_state(sk, St.CLOSE)
    sk.mapped = was_mapped
    bind.inet_bhash2_reset_saddr(sk)
    sk.inet_dport = 0
    return err


# ---------------------------------------------------------------- passive connections


def tcp_v4_route_req(sk: Sock, skb: Skb, req: RequestSock) -> Dst:
    """Addresses and route of a request; source net/ipv4/tcp_ipv4.c:tcp_v4_route_req."""
    packet = skb.packet
    assert packet is not None
    req.ir_loc_addr = packet.daddr
    req.ir_rmt_addr = packet.saddr
    return route.ip_route_output(sk.net, packet.saddr)


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_conn_request", "net/ipv6/tcp_ipv6.c:tcp_v6_conn_request")
def tcp_v4_conn_request(sk: Sock, skb: Skb) -> int:
    """A SYN for a listener; one to many is not answered."""
    packet = skb.packet
    assert packet is not None
    daddr = packet.daddr
    if (daddr[0] == 0xFF) if len(daddr) == 16 else (daddr[0] >= 224):
        listen.tcp_listendrop(sk)
        return 0
    if is_mapped(packet.saddr):
        return 0
    return listen.tcp_conn_request(sk, skb)


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_syn_recv_sock", "net/ipv6/tcp_ipv6.c:tcp_v6_syn_recv_sock")
def tcp_v4_syn_recv_sock(
    sk: Sock, skb: Skb, req: RequestSock, dst: Dst | None, req_unhash: RequestSock | None
) -> Sock | None:
    """Makes a request's child and puts it in the request's place; None if the accept queue is full."""
    net = sk.net
    packet = skb.packet
    assert packet is not None
    if listen.sk_acceptq_is_full(sk):
        net.count("TcpExtListenOverflows")
        net.note("tcp_v4_syn_recv_sock", "the accept queue is full")
        listen.tcp_listendrop(sk)
        return None
    newsk = minisocks.tcp_create_openreq_child(sk, req, skb)
    v6 = len(req.ir_rmt_addr) == 16
    newsk.inet_daddr = req.ir_rmt_addr
    newsk.inet_rcv_saddr = newsk.inet_saddr = req.ir_loc_addr
    newsk.mapped = sk.sk_family == AF_INET6 and not v6
    newsk.inet_rcv_tos = packet.tos
    newsk.icsk_ext_hdr_len = 0
    newsk.inet_id = net.random() & 0xFFFF
    if net.p.tcp_reflect_tos:
        if v6:
            newsk.tclass = req.syn_tos & ~INET_ECN_MASK
        else:
            newsk.inet_tos = req.syn_tos & ~INET_ECN_MASK
    if dst is None:
        dst = route.ip_route_output(net, req.ir_rmt_addr)
    sk_setup_caps(newsk, dst)
    minisocks.tcp_ca_openreq_child(newsk, dst)
    output.tcp_sync_mss(newsk, route.dst_mtu(dst))
    newsk.advmss = tcp_mss_clamp(sk, route.tcp_dst_advmss(dst))
    rcvbuf.tcp_initialize_rcv_mss(newsk)
    key = md5.tcp_md5_do_lookup(sk, req.ir_rmt_addr)
    if key is not None:
        md5.tcp_md5_key_copy(newsk, req.ir_rmt_addr, key)
    if bind.inet_inherit_port(sk, newsk) < 0:
        listen.inet_csk_prepare_forced_close(newsk)
        inet.tcp_done(newsk)
        listen.tcp_listendrop(sk)
        return None
    if not hashtables.inet_ehash_nolisten(newsk, req_unhash, True):
        return None
    newsk.saved_syn, req.saved_syn = req.saved_syn, None
    return newsk


# ---------------------------------------------------------------- segments that arrive


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_do_rcv", "net/ipv6/tcp_ipv6.c:tcp_v6_do_rcv")
def tcp_v4_do_rcv(sk: Sock, skb: Skb) -> int:
    """A segment for a full socket that nobody holds."""
    if sk.sk_state == St.ESTABLISHED:
        rcv.tcp_rcv_established(sk, skb)
        return 0
    rsk = sk
    reason: object
    if sk.sk_state == St.LISTEN:
        nsk = syncookies.cookie_v4_check(sk, skb) if not skb.tcp_flags & SYN else sk
        if nsk is None:
            return 0
        if nsk is not sk:
            reason = minisocks.tcp_child_process(sk, nsk, skb)
            if reason:
                tcp_v4_send_reset(nsk, skb, reason)
            return 0
    reason = rcv.tcp_rcv_state_process(sk, skb)
    if reason:
        tcp_v4_send_reset(rsk, skb, reason)
    return 0


@cited("net/ipv4/tcp_ipv4.c:tcp_add_backlog")
def tcp_add_backlog(sk: Sock, skb: Skb) -> bool:
    """Keeps a segment until the application lets go of the socket; true if there is no room for it."""
    tail: Skb | None = sk.sk_backlog[-1] if sk.sk_backlog else None
    if tail is not None and _backlog_coalesce(tail, skb):
        sk.net.count("TcpExtTCPBacklogCoalesce")
        return False
    limit = min((sk.sk_rcvbuf << 1) + (sk.sk_sndbuf >> 1) + 64 * 1024, M32)
    queued = sum(s.truesize for s in sk.sk_backlog)
    if queued + sk.sk_rmem_alloc > limit:
        sk.net.count("TcpExtTCPBacklogDrop")
        sk.net.note("tcp_add_backlog", f"{queued} bytes wait, {sk.sk_rmem_alloc} are queued, limit {limit}: dropped")
        return True
    sk.sk_backlog.append(skb)
    sk.net.note("tcp_add_backlog", f"a process holds the socket: {len(sk.sk_backlog)} segments wait for it")
    return False


def _backlog_coalesce(tail: Skb, skb: Skb) -> bool:
    a, b = tail.packet, skb.packet
    assert a is not None
    assert b is not None
    both, either, differ = (
        tail.tcp_flags & skb.tcp_flags,
        tail.tcp_flags | skb.tcp_flags,
        tail.tcp_flags ^ skb.tcp_flags,
    )
    if tail.end_seq != skb.seq or tail.ip_dsfield != skb.ip_dsfield:
        return False
    if either & (SYN | RST | URG) or not both & ACK or differ & (ECE | CWR):
        return False
    if (a.opts.tsval, a.opts.tsecr, a.opts.sacks) != (b.opts.tsval, b.opts.tsecr, b.opts.sacks):
        return False
    if options_size(a.opts) != options_size(b.opts):
        return False
    tail_size, size = tail.gso_size or tail.len, skb.gso_size or skb.len
    tail.end_seq = skb.end_seq
    tail.len += skb.len
    a.len += b.len
    if not (skb.ack_seq - tail.ack_seq) & 0x80000000:
        tail.ack_seq = skb.ack_seq
        a.ack_seq, a.window = b.ack_seq, b.window
    tail.tcp_flags |= skb.tcp_flags
    a.flags |= b.flags
    tail.tstamp = skb.tstamp
    tail.gso_size = max(size, tail_size)
    tail.gso_segs = min((tail.gso_segs or 1) + (skb.gso_segs or 1), 0xFFFF)
    tail.truesize += skb.truesize
    return True


def _request(listener: Sock, req: RequestSock, skb: Skb) -> Sock | None:
    """A segment meets a request: the listener if that must answer it, None if all is done."""
    nsk = minisocks.tcp_check_req(listener, skb, req, False)
    if nsk is listener:
        return listener
    if nsk is None:
        listener.sk_drops += 1
        return None
    reason = minisocks.tcp_child_process(listener, nsk, skb)
    if reason:
        tcp_v4_send_reset(nsk, skb, reason)
        listener.sk_drops += 1
    return None


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_rcv", "net/ipv6/tcp_ipv6.c:tcp_v6_rcv", "RFC 9293 3.10.7")
def tcp_v4_rcv(net: "Net", packet: Packet) -> None:
    """A segment arrives from IP: to its connection, to a listener, or an RST."""
    net.count("TcpInSegs")
    if packet.bad_csum:
        net.count("TcpInCsumErrors")
        net.count("TcpInErrs")
        return
    skb = tcp_v4_fill_cb(net, packet)
    key = (packet.saddr, packet.sport, packet.daddr, packet.dport)
    sk = net.ehash.get(key)
    if isinstance(sk, RequestSock):
        listener = sk.rsk_listener
        if md5.tcp_inbound_hash(net, listener, skb):
            listener.sk_drops += 1
            return
        moved = listener if listener.sk_state == St.LISTEN else listen.reuseport_migrate_sock(listener, sk)
        if moved is None:
            listen.inet_csk_reqsk_queue_drop(listener, sk)
            sk = None
        else:
            sk = _request(moved, sk, skb)
            if sk is None:
                return
    if sk is None:
        sk = hashtables.inet_lookup_listener(net, *key)
        if sk is None:
            send_reset(net, None, skb, "NO_SOCKET")
            return
    if isinstance(sk, TimewaitSock):
        status, isn = minisocks.tcp_timewait_state_process(sk, skb)
        if status == minisocks.TcpTwStatus.SYN:
            sk2 = hashtables.inet_lookup_listener(net, *key)
            if sk2 is not None:
                hashtables.inet_twsk_deschedule_put(sk)
                # tcp_v4_fill_cb cleared it again in 6.1: such a SYN is like any other there.
                skb.tw_isn = isn if net.p.kernel >= 612 else 0
                _process(net, sk2, skb)
                return
            status = minisocks.TcpTwStatus.ACK
        if status == minisocks.TcpTwStatus.ACK:
            tcp_v4_timewait_ack(sk, skb)
        elif status == minisocks.TcpTwStatus.RST:
            tcp_v4_send_reset(sk, skb, "TCP_TIMEWAIT_SOCKET")
            hashtables.inet_twsk_deschedule_put(sk)
        return
    _process(net, sk, skb)


def _process(net: "Net", sk: Sock, skb: Skb) -> None:
    packet = skb.packet
    assert packet is not None
    if packet.ttl < (sk.min_hopcount if len(packet.saddr) == 16 else sk.min_ttl):
        net.count("TcpExtTCPMinTTLDrop")
        sk.sk_drops += 1
        return
    if (packet.opts.md5 is not None or sk.md5sig_info is not None) and md5.tcp_inbound_hash(net, sk, skb):
        sk.sk_drops += 1
        return
    if sk.sk_state == St.LISTEN:
        tcp_v4_do_rcv(sk, skb)
        return
    tcp_segs_in(sk, skb)
    if not sk.sk_owned:
        tcp_v4_do_rcv(sk, skb)
    elif tcp_add_backlog(sk, skb):
        sk.sk_drops += 1


# ---------------------------------------------------------------- the end of a socket


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_destroy_sock")
def tcp_v4_destroy_sock(sk: Sock) -> None:
    """Frees all that a socket holds."""
    inet.tcp_clear_xmit_timers(sk)
    ca.tcp_cleanup_congestion_control(sk)
    inet.tcp_write_queue_purge(sk)
    fastopen.tcp_fastopen_active_disable_ofo_check(sk)
    sk.out_of_order_queue.clear()
    sk.md5sig_info = None
    if sk.icsk_bind_hash is not None:
        bind.inet_put_port(sk)
    sendmsg.tcp_free_fastopen_req(sk)
    fastopen.tcp_fastopen_destroy_cipher(sk)
    sk.saved_syn = None


from refmodel.tcp.whole.icmp import (  # noqa: E402
    tcp_ld_RTO_revert as tcp_ld_RTO_revert,
)
from refmodel.tcp.whole.icmp import (  # noqa: E402
    tcp_req_err as tcp_req_err,
)
from refmodel.tcp.whole.icmp import (  # noqa: E402
    tcp_v4_err as tcp_v4_err,
)
from refmodel.tcp.whole.icmp import (  # noqa: E402
    tcp_v4_mtu_reduced as tcp_v4_mtu_reduced,
)
from refmodel.tcp.whole.reply import (  # noqa: E402
    send_reset as send_reset,
)
from refmodel.tcp.whole.reply import (  # noqa: E402
    tcp_v4_reqsk_send_ack as tcp_v4_reqsk_send_ack,
)
from refmodel.tcp.whole.reply import (  # noqa: E402
    tcp_v4_send_reset as tcp_v4_send_reset,
)
from refmodel.tcp.whole.reply import (  # noqa: E402
    tcp_v4_send_synack as tcp_v4_send_synack,
)
from refmodel.tcp.whole.reply import (  # noqa: E402
    tcp_v4_timewait_ack as tcp_v4_timewait_ack,
)
