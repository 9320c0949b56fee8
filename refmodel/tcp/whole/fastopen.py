"""TCP Fast Open: cookies, the server's acceptance of data in a SYN, the client's back-off from black holes (RFC 7413).

The law: a cookie is SipHash over the packet's two addresses under the listener's keys, else the namespace's; the first
key makes cookies, both accept them. A listener has at most `max_qlen` children that haven't finished their handshake.
"""

from typing import TYPE_CHECKING, Final

from refmodel.profile import OutOfRange
from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import ack, ipv4, listen, rcv, route, secure
from refmodel.tcp.whole.const import FIN, ICSK_TIME_RETRANS, SYN
from refmodel.tcp.whole.net import inet_csk_reset_xmit_timer, tcp_rto_max
from refmodel.tcp.whole.skb import FastopenCookie, FastopenRequest, Skb
from refmodel.tcp.whole.sock import Dst, RequestSock, Sock
from refmodel.tcp.whole.tcp_h import sk_forced_mem_schedule, sk_mem_charge
from refmodel.types import add

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

TFO_CLIENT_ENABLE: Final = 1
TFO_SERVER_ENABLE: Final = 2
TFO_CLIENT_NO_COOKIE: Final = 4
TFO_SERVER_COOKIE_NOT_REQD: Final = 0x200
TFO_SERVER_WO_SOCKOPT1: Final = 0x400
TFO_COOKIE_UNAVAILABLE: Final = 1
TFO_DATA_NOT_ACKED: Final = 2
TFO_SYN_RETRANSMITTED: Final = 3
TCP_FASTOPEN_KEY_LENGTH: Final = 16
TCP_FASTOPEN_COOKIE_SIZE: Final = 8

Context = tuple[bytes, ...]  # one key or two


# ---------------------------------------------------------------- keys


def parse_key(text: str) -> bytes:
    """A key as its sysctl writes it, xxxxxxxx-xxxxxxxx-xxxxxxxx-xxxxxxxx; raises OutOfRange."""
    parts = text.split("-")
    if len(parts) != 4 or not all(0 < len(x) <= 8 for x in parts):
        raise OutOfRange(f"net.ipv4.tcp_fastopen_key: {text!r} is no key")
    return b"".join(int(x, 16).to_bytes(4, "little") for x in parts)


@cited("net/ipv4/sysctl_net_ipv4.c:proc_tcp_fastopen_key")
def set_sysctl_key(net: "Net", text: str) -> None:
    """Sets the namespace's key, or two with a comma between; raises OutOfRange."""
    tcp_fastopen_reset_cipher(net, None, *(parse_key(part.strip()) for part in text.split(",")[:2]))


def get_sysctl_key(net: "Net") -> str:
    """The namespace's keys as the sysctl shows them."""
    keys: Context = net.fastopen_ctx or (bytes(16),)
    return ",".join("-".join(f"{int.from_bytes(k[i : i + 4], 'little'):08x}" for i in (0, 4, 8, 12)) for k in keys)


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_reset_cipher")
def tcp_fastopen_reset_cipher(net: "Net", sk: Sock | None, primary_key: bytes, backup_key: bytes | None = None) -> int:
    """Sets the keys of a listener, or of the namespace."""
    ctx: Context = (primary_key,) if backup_key is None else (primary_key, backup_key)
    if sk is not None:
        sk.fastopenq_ctx = ctx
    else:
        net.fastopen_ctx = ctx
    return 0


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_get_cipher")
def tcp_fastopen_get_cipher(net: "Net", sk: Sock | None) -> Context:
    """The keys of a listener, or of the namespace."""
    return (sk.fastopenq_ctx if sk is not None else net.fastopen_ctx) or ()


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_init_key_once")
def tcp_fastopen_init_key_once(net: "Net") -> None:
    """Gives the namespace a key if it has none."""
    if net.fastopen_ctx is None:
        tcp_fastopen_reset_cipher(net, None, b"".join(net.random().to_bytes(4, "little") for _ in range(4)))


def tcp_fastopen_get_ctx(sk: Sock) -> Context:
    """The keys that count for a listener; source include/net/tcp.h:tcp_fastopen_get_ctx."""
    return sk.fastopenq_ctx or sk.net.fastopen_ctx or ()


@cited("net/ipv4/tcp_fastopen.c:__tcp_fastopen_cookie_gen_cipher")
def fastopen_cookie(saddr: bytes, daddr: bytes, key: bytes) -> bytes:
    """The cookie for a client at `saddr` that speaks to `daddr`."""
    return secure.siphash(saddr + daddr, key).to_bytes(8, "little")


def _gen(skb: Skb, key: bytes, foc: FastopenCookie) -> None:
    assert skb.packet is not None
    foc.val = fastopen_cookie(skb.packet.saddr, skb.packet.daddr, key)
    foc.len = TCP_FASTOPEN_COOKIE_SIZE


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_cookie_gen")
def tcp_fastopen_cookie_gen(sk: Sock, syn: Skb, foc: FastopenCookie) -> None:
    """Makes the cookie for the sender of `syn`."""
    ctx = tcp_fastopen_get_ctx(sk)
    if ctx:
        _gen(syn, ctx[0], foc)


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_cookie_gen_check")
def tcp_fastopen_cookie_gen_check(sk: Sock, syn: Skb, orig: FastopenCookie, valid_foc: FastopenCookie) -> int:
    """Which key the cookie in a SYN fits: 1, 2 for the older one, or 0; `valid_foc` becomes the first key's cookie."""
    foc = valid_foc
    for i, key in enumerate(tcp_fastopen_get_ctx(sk)):
        _gen(syn, key, foc)
        if orig.len == TCP_FASTOPEN_COOKIE_SIZE and orig.val == foc.val:
            return i + 1
        foc = FastopenCookie()
    return 0


# ---------------------------------------------------------------- the server


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_add_skb", "RFC 7413 4.2.2")
def tcp_fastopen_add_skb(sk: Sock, skb: Skb) -> None:
    """Queues data and FIN of a SYN or SYN-ACK."""
    if skb.end_seq == sk.rcv_nxt:
        return
    skb = ipv4.skb_clone(skb)
    sk.segs_in = 0
    ipv4.tcp_segs_in(sk, skb)
    sk_forced_mem_schedule(sk, skb.truesize)
    sk.sk_rmem_alloc += skb.truesize
    sk_mem_charge(sk, skb.truesize)
    skb.seq = add(skb.seq, 1)
    skb.tcp_flags &= ~SYN
    sk.rcv_nxt = skb.end_seq
    sk.sk_receive_queue.append(skb)
    sk.syn_data_acked = True
    sk.bytes_received = skb.len
    if skb.tcp_flags & FIN:
        rcv.tcp_fin(sk)


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_create_child", "RFC 7413 4.2.2")
def tcp_fastopen_create_child(sk: Sock, skb: Skb, req: RequestSock) -> Sock | None:
    """A child in SYN_RECV out of a SYN alone, with the SYN's data in its queue."""
    child = ipv4.tcp_v4_syn_recv_sock(sk, skb, req, None, None)
    if child is None:
        return None
    assert skb.packet is not None
    sk.fastopenq_qlen += 1
    child.fastopen_rsk = req
    child.syn_fastopen_child = True
    req.tfo_listener = True
    # The window of a SYN is never scaled.
    child.snd_wnd = skb.packet.window
    child.max_window = child.snd_wnd
    req.timeout = listen.tcp_timeout_init(sk.net)
    inet_csk_reset_xmit_timer(child, ICSK_TIME_RETRANS, req.timeout, tcp_rto_max(child))
    ack.tcp_init_transfer(child, ack.BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, skb)
    child.rcv_nxt = add(skb.seq, 1)
    tcp_fastopen_add_skb(child, skb)
    req.rcv_nxt = child.rcv_nxt
    child.rcv_wup = child.rcv_nxt
    return child


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_queue_check", "RFC 7413 5.1")
def tcp_fastopen_queue_check(sk: Sock) -> bool:
    """The listener takes another fast open; a child that was reset counts for a minute."""
    max_qlen = sk.fastopenq_max_qlen
    if max_qlen == 0:
        return False
    if sk.fastopenq_qlen >= max_qlen:
        rst = sk.fastopenq_rskq_rst
        if not rst or rst[0].expires > sk.net.jiffies:
            sk.net.count("TcpExtTCPFastOpenListenOverflow")
            return False
        rst.popleft()
        sk.fastopenq_qlen -= 1
    return True


def tcp_fastopen_no_cookie(sk: Sock, dst: Dst | None, flag: int) -> bool:
    """No cookie is needed; source net/ipv4/tcp_fastopen.c:tcp_fastopen_no_cookie."""
    return bool(sk.net.p.tcp_fastopen & flag or sk.fastopen_no_cookie or (dst is not None and dst.fastopen_no_cookie))


@cited("net/ipv4/tcp_fastopen.c:tcp_try_fastopen", "RFC 7413 4.2.2")
def tcp_try_fastopen(sk: Sock, skb: Skb, req: RequestSock, foc: FastopenCookie, dst: Dst) -> Sock | None:
    """Opens at once if the SYN's cookie is right; `foc` becomes the cookie that the SYN-ACK carries."""
    net = sk.net
    syn_data = skb.end_seq != add(skb.seq, 1)
    valid_foc = FastopenCookie()
    ret = 0
    if foc.len == 0:
        net.count("TcpExtTCPFastOpenCookieReqd")
    if not (net.p.tcp_fastopen & TFO_SERVER_ENABLE and (syn_data or foc.len >= 0) and tcp_fastopen_queue_check(sk)):
        foc.len = -1
        return None
    cookieless = tcp_fastopen_no_cookie(sk, dst, TFO_SERVER_COOKIE_NOT_REQD)
    accept = cookieless
    if not cookieless:
        if foc.len == 0:
            tcp_fastopen_cookie_gen(sk, skb, valid_foc)
        elif foc.len > 0:
            ret = tcp_fastopen_cookie_gen_check(sk, skb, foc, valid_foc)
            if not ret:
                net.count("TcpExtTCPFastOpenPassiveFail")
            accept = ret != 0
    if accept:
        child = tcp_fastopen_create_child(sk, skb, req)
        if child is not None:
            if ret == 2:
                valid_foc.exp = foc.exp
                foc.len, foc.val, foc.exp = valid_foc.len, valid_foc.val, valid_foc.exp
                net.count("TcpExtTCPFastOpenPassiveAltKey")
            else:
                foc.len = -1
            net.count("TcpExtTCPFastOpenPassive")
            net.note("tcp_try_fastopen", "the SYN opens the connection")
            return child
        net.count("TcpExtTCPFastOpenPassiveFail")
    foc.len, foc.val = valid_foc.len, valid_foc.val
    return None


@cited("net/core/request_sock.c:reqsk_fastopen_remove", "RFC 7413 5.1")
def reqsk_fastopen_remove(sk: Sock, req: RequestSock, reset: bool) -> None:
    """A fast open's handshake is over; after a reset its place in the queue stays taken for a minute."""
    lsk = req.rsk_listener
    sk.fastopen_rsk = None
    lsk.fastopenq_qlen -= 1
    req.tfo_listener = False
    if req.sk is not None:
        return
    if not reset or lsk.sk_state != St.LISTEN:
        return
    req.expires = sk.net.jiffies + 60 * sk.net.hz
    lsk.fastopenq_rskq_rst.append(req)
    lsk.fastopenq_qlen += 1


def tcp_fastopen_destroy_cipher(sk: Sock) -> None:
    """Forgets a listener's keys; source net/ipv4/tcp_fastopen.c:tcp_fastopen_destroy_cipher."""
    sk.fastopenq_ctx = None


# ---------------------------------------------------------------- the client


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_cookie_check", "RFC 7413 4.2.1")
def tcp_fastopen_cookie_check(sk: Sock, cookie: FastopenCookie) -> tuple[bool, int]:
    """Data may go with the SYN: no cookie is needed, or `cookie` is known; and the MSS that came with it (0: none)."""
    mss = route.tcp_fastopen_cache_get(sk, cookie)
    if tcp_fastopen_active_should_disable(sk):
        cookie.len = -1
        return False, mss
    if tcp_fastopen_no_cookie(sk, sk.sk_dst, TFO_CLIENT_NO_COOKIE):
        cookie.len = -1
        return True, mss
    if cookie.len > 0:
        return True, mss
    sk.fastopen_client_fail = TFO_COOKIE_UNAVAILABLE
    return False, mss


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_defer_connect")
def tcp_fastopen_defer_connect(sk: Sock) -> bool:
    """connect() sends nothing and the first write opens; otherwise the SYN that goes now asks for a cookie."""
    cookie = FastopenCookie(0)
    if sk.fastopen_connect and sk.fastopen_req is None:
        if tcp_fastopen_cookie_check(sk, cookie)[0]:
            sk.defer_connect = True
            return True
        sk.fastopen_req = FastopenRequest()
        sk.fastopen_req.cookie = cookie
    return False


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_active_disable")
def tcp_fastopen_active_disable(sk: Sock) -> None:
    """Something swallows fast opens: no more of them for a while, longer each time."""
    net = sk.net
    if not net.p.tcp_fastopen_blackhole_timeout_sec:
        return
    net.tfo_active_disable_stamp = net.jiffies
    net.tfo_active_disable_times += 1
    net.count("TcpExtTCPFastOpenBlackhole")


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_active_should_disable")
def tcp_fastopen_active_should_disable(sk: Sock) -> bool:
    """The while is not over: the time-out, doubled with each black hole up to 64 times."""
    net = sk.net
    bh_timeout = net.p.tcp_fastopen_blackhole_timeout_sec
    times = net.tfo_active_disable_times
    if not bh_timeout or not times:
        return False
    if net.jiffies < net.tfo_active_disable_stamp + (1 << min(times - 1, 6)) * bh_timeout * net.hz:
        return True
    sk.syn_fastopen_ch = True
    return False


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_active_disable_ofo_check")
def tcp_fastopen_active_disable_ofo_check(sk: Sock) -> None:
    """A FIN that came alone and out of order tells of a black hole; data on a new try tells of its end."""
    if not sk.syn_fastopen:
        return
    if not sk.data_segs_in:
        skb = sk.out_of_order_queue.head
        if skb is not None and skb.next is None and skb.tcp_flags & FIN:
            tcp_fastopen_active_disable(sk)
    elif sk.syn_fastopen_ch and sk.net.tfo_active_disable_times and not ipv4.is_loopback(sk.inet_daddr):
        sk.net.tfo_active_disable_times = 0


@cited("net/ipv4/tcp_fastopen.c:tcp_fastopen_active_detect_blackhole")
def tcp_fastopen_active_detect_blackhole(sk: Sock, expired: bool) -> None:
    """The third time-out in a row of a fast open, or its last one, tells of a black hole."""
    timeouts = sk.icsk_retransmits
    if (sk.syn_fastopen or sk.syn_data or sk.syn_data_acked) and (timeouts == 2 or (timeouts < 2 and expired)):
        tcp_fastopen_active_disable(sk)
        sk.net.count("TcpExtTCPFastOpenActiveFail")
