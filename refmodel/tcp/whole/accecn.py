"""Accurate ECN: more than one mark a round trip is fed back (RFC 9768; tcp_ecn.h, tcp_input.c, tcp_output.c).

The law: the receiver counts the segments that arrive with CE, and the bytes that arrive with ECT(1), CE and ECT(0).
Three flags of each header, together the ACE field, carry the low bits of the first count; an option carries the
others. The sender never counts a mark twice, and takes the safer reading where the ACE field may have wrapped.

Linux 6.18 has all of it, and takes no sysctl that asks for it: it comes to Accurate ECN only as a client of classic
ECN whose SYN-ACK answers with Accurate ECN, or behind a SYN cookie. The first kernel to take tcp_ecn = 3, 4 and 5 (and
tcp_ecn_option = 3) is 7.0. So where one of these is set, its code is what runs: `enabled`.
"""

from typing import Final, TypeAlias

from refmodel.rule import cited
from refmodel.tcp.whole import ca, transmit
from refmodel.tcp.whole.acktag import (
    FLAG_ECE,
    FLAG_FORWARD_PROGRESS,
    FLAG_SLOWPATH,
    FLAG_SYN_ACKED,
    FLAG_TS_PROGRESS,
    SacktagState,
)
from refmodel.tcp.whole.const import AE, CWR, ECE, ICSK_ACK_NOW, TCP_ECN_MODE_ACCECN, TCP_ECN_SEEN
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.skb import Packet, Skb, TcpOptions
from refmodel.tcp.whole.sock import CA, RequestSock, Sock
from refmodel.tcp.whole.tcp_h import tcp_fast_path_on, tcp_is_sack
from refmodel.types import M32

TCPHDR_ACE: Final = AE | CWR | ECE
TCP_ECN_MODE_RFC3168: Final = 1
TCP_ECN_MODE_PENDING: Final = TCP_ECN_MODE_RFC3168 | TCP_ECN_MODE_ACCECN
TCP_ECN_MODE_ANY: Final = TCP_ECN_MODE_RFC3168 | TCP_ECN_MODE_ACCECN
TCP_ECN_DISABLED: Final = 0
INET_ECN_NOT_ECT, INET_ECN_ECT_1, INET_ECN_ECT_0, INET_ECN_CE = 0, 1, 2, 3
INET_ECN_MASK: Final = 3
TCP_ACCECN_CEP_INIT_OFFSET: Final = 5
TCP_ACCECN_CEP_ACE_MASK: Final = 7
TCP_ACCECN_ACE_MAX_DELTA: Final = 6
TCP_ACCECN_SAFETY_SHIFT: Final = 1
INIT_OFFSET: Final = (0, 1, 1, 0)  # of a byte counter on the wire, by ECN field: a middlebox's zeroes are seen
TCP_ACCECN_NUMFIELDS: Final = 3
TCPOLEN_ACCECN_BASE: Final = 2
TCPOLEN_ACCECN_PERFIELD: Final = 3
TCP_ACCECN_MAXSIZE: Final = TCPOLEN_ACCECN_BASE + TCPOLEN_ACCECN_PERFIELD * TCP_ACCECN_NUMFIELDS
TCPOLEN_SACK_PERBLOCK: Final = 8
MAX_TCP_OPTION_SPACE: Final = 40
TCP_ACCECN_ACE_FAIL_SEND: Final = 1
TCP_ACCECN_ACE_FAIL_RECV: Final = 2
TCP_ACCECN_OPT_FAIL_SEND: Final = 4
TCP_ACCECN_OPT_FAIL_RECV: Final = 8
TCP_ACCECN_OPT_NOT_SEEN: Final = 0
TCP_ACCECN_OPT_EMPTY_SEEN: Final = 1
TCP_ACCECN_OPT_COUNTER_SEEN: Final = 2
TCP_ACCECN_OPT_FAIL_SEEN: Final = 3
TCP_ACCECN_OPTION_FULL: Final = 2
TCP_ACCECN_OPTION_PERSIST: Final = 3


PKTS_ACKED_WEIGHT: Final = 6
PKTS_ACKED_PREC: Final = 6
ACK_COMP_THRESH: Final = 4

REFLECT: Final = (2, 3, 4, 6)
"""The ACE field of a SYN-ACK, by the ECN field with which the SYN came. RFC 9768 table 2."""
EXTRACT: Final = (
    INET_ECN_ECT_0, INET_ECN_ECT_1, INET_ECN_NOT_ECT, INET_ECN_ECT_1, INET_ECN_ECT_0, INET_ECN_ECT_1, INET_ECN_CE,
    INET_ECN_ECT_1,
)  # fmt: skip
"""With which ECN field our SYN arrived, by the ACE field of the answer; some values are undefined."""
OPTFIELD: Final = (0, 1, 3, 2)
"""How many fields an option that begins with ECT(1)'s needs to tell of an ECN field."""
ORDERS: Final = (
    (INET_ECN_ECT_0, INET_ECN_CE, INET_ECN_ECT_1),
    (INET_ECN_ECT_1, INET_ECN_CE, INET_ECN_ECT_0),
)
"""Whose counters an option of kind 172 and of kind 174 has, in order. RFC 9768 table 5."""

AccEcnOption: TypeAlias = tuple[int, tuple[int, ...]]
"""Order (0: kind 172, 1: kind 174) and up to three counters."""


def enabled(net: Net) -> bool:
    """The kernel is one that takes tcp_ecn = 3 to 5."""
    return net.p.kernel >= 700 or net.p.tcp_ecn > 2 or net.p.tcp_ecn_option > 2


# ---------------------------------------------------------------- modes


def tcp_ecn_mode_accecn(sk: Sock) -> bool:
    """Accurate ECN is agreed on; source include/linux/tcp.h:tcp_ecn_mode_accecn."""
    return sk.ecn_flags & TCP_ECN_MODE_ANY == TCP_ECN_MODE_ACCECN


def tcp_ecn_mode_rfc3168(sk: Sock) -> bool:
    """Classic ECN is agreed on; source include/linux/tcp.h:tcp_ecn_mode_rfc3168."""
    return sk.ecn_flags & TCP_ECN_MODE_ANY == TCP_ECN_MODE_RFC3168


def tcp_ecn_mode_pending(sk: Sock) -> bool:
    """Accurate ECN was asked for, and is not answered yet; source include/linux/tcp.h:tcp_ecn_mode_pending."""
    return sk.ecn_flags & TCP_ECN_MODE_PENDING == TCP_ECN_MODE_PENDING


def tcp_ecn_mode_set(sk: Sock, mode: int) -> None:
    """Agrees on a mode; source include/linux/tcp.h:tcp_ecn_mode_set."""
    sk.ecn_flags = sk.ecn_flags & ~TCP_ECN_MODE_ANY | mode


def tcp_accecn_ace(flags: int) -> int:
    """The ACE field of a header; source include/net/tcp_ecn.h:tcp_accecn_ace, RFC 9768 3.2."""
    return flags >> 6 & 7


def ace_flags(ace: int) -> int:
    """The header's flags for an ACE field."""
    return (ace & 7) << 6


def tcp_accecn_fail_mode_set(sk: Sock, mode: int) -> None:
    """A direction of the feedback cannot be relied on; source include/net/tcp_ecn.h:tcp_accecn_fail_mode_set."""
    if sk.accecn_fail_mode & mode != mode:
        sk.net.note("tcp_accecn_fail_mode_set", f"AccECN fails: {mode:#x}")
    sk.accecn_fail_mode |= mode


def tcp_accecn_init_counters(sk: Sock) -> None:
    """Nothing was counted yet; source include/net/tcp_ecn.h:tcp_accecn_init_counters."""
    sk.received_ce = 0
    sk.received_ce_pending = 0
    sk.received_ecn_bytes = [0, 0, 0]
    sk.delivered_ecn_bytes = [0, 0, 0]
    sk.accecn_opt_sent_w_dsack = False
    sk.accecn_minlen = 0
    sk.accecn_opt_demand = 0
    sk.est_ecnfield = 0


def disconnect(sk: Sock) -> None:
    """A socket that begins anew; source net/ipv4/tcp.c:tcp_disconnect."""
    tcp_accecn_init_counters(sk)
    sk.accecn_fail_mode = 0
    sk.saw_accecn_opt = TCP_ACCECN_OPT_NOT_SEEN
    sk.prev_ecnfield = 0
    sk.accecn_opt_tstamp = 0
    sk.pkts_acked_ewma = 0


# ---------------------------------------------------------------- the handshake


@cited("include/net/tcp_ecn.h:tcp_accecn_syn_requested", "RFC 9768 3.1.2")
def tcp_accecn_syn_requested(flags: int) -> bool:
    """A SYN asks for Accurate ECN: by any ACE field that is neither none nor classic ECN's."""
    return tcp_accecn_ace(flags) not in (0, 3)


def tcp_accecn_reflector_flags(ect: int) -> int:
    """The flags that say how a SYN or SYN-ACK arrived; source include/net/tcp_ecn.h:tcp_accecn_reflector_flags."""
    return ace_flags(REFLECT[ect & INET_ECN_MASK])


@cited("include/net/tcp_ecn.h:tcp_ect_transition_valid", "RFC 9768 3.2.2.3")
def tcp_ect_transition_valid(snt: int, rcv: int) -> bool:
    """A network may mark ECT as CE, and change ECT(0) and ECT(1); nothing may become or cease to be ECT."""
    if rcv == snt:
        return True
    return snt not in (INET_ECN_NOT_ECT, INET_ECN_CE) and rcv != INET_ECN_NOT_ECT


@cited("include/net/tcp_ecn.h:tcp_accecn_validate_syn_feedback", "RFC 9768 3.2.2.3")
def tcp_accecn_validate_syn_feedback(sk: Sock, ace: int, sent_ect: int) -> bool:
    """Whether what the peer says of our SYN or SYN-ACK can be; if not, ECN fails in that direction."""
    if not sk.net.p.tcp_ecn_fallback:
        return True
    if not tcp_ect_transition_valid(sent_ect, EXTRACT[ace & 7]):
        tcp_accecn_fail_mode_set(sk, TCP_ACCECN_ACE_FAIL_RECV)
        return False
    return True


@cited("include/net/tcp_ecn.h:tcp_accecn_third_ack", "RFC 9768 3.2.2.1", "RFC 9768 3.1.5")
def tcp_accecn_third_ack(sk: Sock, skb: Skb, sent_ect: int) -> None:
    """The server reads in the handshake's last segment how its SYN-ACK arrived."""
    ace = tcp_accecn_ace(skb.tcp_flags)
    if ace == 0:
        if not enabled(sk.net):
            tcp_accecn_fail_mode_set(sk, TCP_ACCECN_ACE_FAIL_RECV)
        elif not skb.sacked:
            tcp_accecn_fail_mode_set(sk, TCP_ACCECN_ACE_FAIL_RECV | TCP_ACCECN_OPT_FAIL_RECV)
    elif (
        ace not in (1, 5, 7)
        and skb.seq == skb.end_seq
        and not skb.sacked
        and tcp_accecn_validate_syn_feedback(sk, ace, sent_ect)
        and EXTRACT[ace] == INET_ECN_CE
        and not sk.delivered_ce
    ):
        sk.delivered_ce += 1


@cited("include/net/tcp_ecn.h:tcp_accecn_option_init", "RFC 9768 3.2.3.2.4")
def tcp_accecn_option_init(option: AccEcnOption) -> int:
    """What a first option tells: counters, none, or that a middlebox zeroes them."""
    counters = option[1]
    if not counters:
        return TCP_ACCECN_OPT_EMPTY_SEEN
    if counters[0] == 0 or (len(counters) >= 3 and counters[2] == 0):
        return TCP_ACCECN_OPT_FAIL_SEEN
    return TCP_ACCECN_OPT_COUNTER_SEEN


def tcp_accecn_saw_opt_fail_recv(sk: Sock, saw_opt: int) -> None:
    """Remembers it; source include/net/tcp_ecn.h:tcp_accecn_saw_opt_fail_recv."""
    sk.saw_accecn_opt = saw_opt
    if saw_opt == TCP_ACCECN_OPT_FAIL_SEEN:
        tcp_accecn_fail_mode_set(sk, TCP_ACCECN_OPT_FAIL_RECV)


def tcp_accecn_opt_demand_min(sk: Sock, opt_demand_min: int) -> None:
    """At least so many segments to come carry the option; source include/net/tcp_ecn.h:tcp_accecn_opt_demand_min."""
    sk.accecn_opt_demand = max(opt_demand_min, sk.accecn_opt_demand)


@cited("include/net/tcp_ecn.h:tcp_ecn_rcv_synack_accecn", "RFC 9768 3.1.2")
def tcp_ecn_rcv_synack_accecn(sk: Sock, ip_dsfield: int) -> None:
    """The server feeds Accurate ECN back; if it has the option too, two of the next segments carry it."""
    tcp_ecn_mode_set(sk, TCP_ECN_MODE_ACCECN)
    sk.syn_ect_rcv = ip_dsfield & INET_ECN_MASK
    option = sk.rx_opt.accecn
    if option is not None and sk.saw_accecn_opt < TCP_ACCECN_OPT_COUNTER_SEEN:
        tcp_accecn_saw_opt_fail_recv(sk, tcp_accecn_option_init(option))
        sk.accecn_opt_demand = 2


@cited("include/net/tcp_ecn.h:tcp_ecn_rcv_synack", "RFC 9768 3.1.2")
def tcp_ecn_rcv_synack(sk: Sock, th: Packet, ip_dsfield: int) -> None:
    """The SYN-ACK says which feedback the server gives; nobody looks whether the SYN asked for the accurate one."""
    ace = tcp_accecn_ace(th.flags)
    ce = ip_dsfield & INET_ECN_MASK == INET_ECN_CE
    if ace in (0, 7):
        tcp_ecn_mode_set(sk, TCP_ECN_DISABLED)
    elif ace == 1 or (ace == 5 and not enabled(sk.net)):
        if tcp_ecn_mode_pending(sk):
            tcp_ecn_mode_set(sk, TCP_ECN_MODE_RFC3168)
    elif ace == 5:
        if tcp_ecn_mode_pending(sk):
            tcp_ecn_rcv_synack_accecn(sk, ip_dsfield)
            if ce:
                sk.received_ce += 1
                sk.received_ce_pending += 1
    else:
        tcp_ecn_rcv_synack_accecn(sk, ip_dsfield)
        if ce and tcp_accecn_validate_syn_feedback(sk, ace, sk.syn_ect_snt):
            sk.received_ce += 1
            sk.received_ce_pending += 1
    sk.net.note("tcp_ecn_rcv_synack", f"ACE {ace}: ECN mode {sk.ecn_flags & TCP_ECN_MODE_ANY}")


@cited("include/net/tcp_ecn.h:tcp_ecn_rcv_syn", "RFC 9768 3.1.2")
def tcp_ecn_rcv_syn(sk: Sock, skb: Skb, th: Packet) -> None:
    """A SYN that crosses ours says which ECN its end wants."""
    if tcp_ecn_mode_pending(sk):
        if not tcp_accecn_syn_requested(th.flags):
            tcp_ecn_mode_set(sk, TCP_ECN_MODE_RFC3168)
        else:
            sk.syn_ect_rcv = skb.ip_dsfield & INET_ECN_MASK
            sk.prev_ecnfield = sk.syn_ect_rcv
            tcp_ecn_mode_set(sk, TCP_ECN_MODE_ACCECN)
    if tcp_ecn_mode_rfc3168(sk) and th.flags & (ECE | CWR) != ECE | CWR:
        tcp_ecn_mode_set(sk, TCP_ECN_DISABLED)


@cited("include/net/tcp_ecn.h:tcp_ecn_send_syn", "RFC 9768 3.1.1", "RFC 3168 6.1.1")
def tcp_ecn_send_syn(sk: Sock, skb: Skb) -> None:
    """A SYN asks for Accurate ECN (3), or classic ECN (1, 4, or if the congestion control or the route wants it)."""
    tcp_ecn = sk.net.p.tcp_ecn
    needs_ecn = ca.tcp_ca_needs_ecn(sk)
    use_ecn = tcp_ecn in (1, 3, 4) or needs_ecn
    if not use_ecn and sk.sk_dst is not None:
        use_ecn = bool(sk.sk_dst.features & 1)
    sk.ecn_flags = 0
    if not use_ecn:
        return
    if needs_ecn:
        ca.INET_ECN_xmit(sk)
    skb.tcp_flags |= ECE | CWR
    if tcp_ecn == 3:
        skb.tcp_flags |= AE
        tcp_ecn_mode_set(sk, TCP_ECN_MODE_PENDING)
        sk.syn_ect_snt = sk.inet_tos & INET_ECN_MASK
    else:
        tcp_ecn_mode_set(sk, TCP_ECN_MODE_RFC3168)


@cited("include/net/tcp_ecn.h:tcp_ecn_send_synack", "RFC 9768 3.1.2")
def tcp_ecn_send_synack(sk: Sock, skb: Skb) -> None:
    """A crossed SYN-ACK says what is agreed on, and how the SYN came."""
    skb.tcp_flags &= ~CWR
    if not sk.ecn_flags & TCP_ECN_MODE_ANY:
        skb.tcp_flags &= ~ECE
    elif ca.tcp_ca_needs_ecn(sk):
        ca.INET_ECN_xmit(sk)
    if sk.ecn_flags & TCP_ECN_MODE_ACCECN:
        skb.tcp_flags = skb.tcp_flags & ~TCPHDR_ACE | tcp_accecn_reflector_flags(sk.syn_ect_rcv)
        sk.syn_ect_snt = sk.inet_tos & INET_ECN_MASK


@cited("net/ipv4/tcp_input.c:tcp_ecn_create_request", "RFC 9768 3.1.2")
def request_wants_accecn(req: RequestSock, skb: Skb, listen_sk: Sock) -> bool:
    """The listener agrees to Accurate ECN if the SYN asks for it and the sysctl says so."""
    if listen_sk.net.p.tcp_ecn < 3 or not tcp_accecn_syn_requested(skb.tcp_flags):
        return False
    req.ecn_ok = True
    req.accecn_ok = True
    req.syn_ect_rcv = skb.ip_dsfield & INET_ECN_MASK
    return True


@cited("include/net/tcp_ecn.h:tcp_ecn_make_synack", "RFC 9768 3.1.2", "RFC 9768 3.1.4.2")
def tcp_ecn_make_synack(req: RequestSock, retrans: bool) -> int:
    """The SYN-ACK's ACE field, as flags: how the SYN came; none from the second time-out on."""
    if req.num_timeout and retrans and enabled(req.net):
        return 0
    if req.accecn_ok:
        return tcp_accecn_reflector_flags(req.syn_ect_rcv)
    return ECE if req.ecn_ok else 0


def synack_sent_again(req: RequestSock) -> None:
    """More than one SYN-ACK was sent again, without ACE field: ECT is not used; RFC 9768 3.1.5."""
    if req.num_retrans > 1 and req.accecn_ok and enabled(req.net):
        req.accecn_fail_mode |= TCP_ACCECN_ACE_FAIL_SEND


def syn_again(sk: Sock, skb: Skb, req: RequestSock) -> None:
    """The SYN came again: the latest is fed back. One without ACE field is the listener's fault from now on.

    source net/ipv4/tcp_minisocks.c:tcp_check_req, RFC 9768 3.1.5
    """
    if req.accecn_ok and enabled(req.net):
        req.syn_ect_rcv = skb.ip_dsfield & INET_ECN_MASK
        if tcp_accecn_ace(skb.tcp_flags) == 0:
            tcp_accecn_fail_mode_set(sk, TCP_ACCECN_ACE_FAIL_RECV)


def request_option(sk: Sock, req: RequestSock, option: AccEcnOption | None) -> None:
    """The last segment of the handshake has the option, or not; source net/ipv4/tcp_minisocks.c:tcp_check_req."""
    if req.accecn_ok and option is not None and req.saw_accecn_opt < TCP_ACCECN_OPT_COUNTER_SEEN:
        req.saw_accecn_opt = tcp_accecn_option_init(option)
        if req.saw_accecn_opt == TCP_ACCECN_OPT_FAIL_SEEN:
            tcp_accecn_fail_mode_set(sk, TCP_ACCECN_OPT_FAIL_RECV)


@cited("net/ipv4/tcp_minisocks.c:tcp_ecn_openreq_child", "RFC 9768 3.2.2.1")
def tcp_ecn_openreq_child(sk: Sock, req: RequestSock, skb: Skb) -> None:
    """The child of a request begins with what was agreed on, and counts the segment that made it."""
    tcp_accecn_init_counters(sk)
    if not req.accecn_ok:
        tcp_ecn_mode_set(sk, TCP_ECN_MODE_RFC3168 if req.ecn_ok else TCP_ECN_DISABLED)
        return
    tcp_ecn_mode_set(sk, TCP_ECN_MODE_ACCECN)
    sk.syn_ect_snt = req.syn_ect_snt
    tcp_accecn_third_ack(sk, skb, req.syn_ect_snt)
    sk.saw_accecn_opt = req.saw_accecn_opt
    if req.accecn_fail_mode & TCP_ACCECN_ACE_FAIL_SEND:
        tcp_accecn_fail_mode_set(sk, TCP_ACCECN_ACE_FAIL_SEND)
    sk.prev_ecnfield = req.syn_ect_rcv
    sk.accecn_opt_demand = 1
    tcp_ecn_received_counters(sk, skb, skb.len)


def syn_for_connection(sk: Sock, skb: Skb) -> bool:
    """A SYN or SYN-ACK for a connection with Accurate ECN: its answer says how it came, if this gives True.

    source net/ipv4/tcp_input.c:tcp_validate_incoming
    """
    if not tcp_ecn_mode_accecn(sk):
        return False
    if enabled(sk.net):
        sk.syn_ect_rcv = skb.ip_dsfield & INET_ECN_MASK
    option = sk.rx_opt.accecn
    if option is not None and sk.saw_accecn_opt < TCP_ACCECN_OPT_COUNTER_SEEN:
        tcp_accecn_saw_opt_fail_recv(sk, tcp_accecn_option_init(option))
        tcp_accecn_opt_demand_min(sk, 1)
    return True


@cited("net/ipv4/tcp_input.c:tcp_send_ack_reflect_ect", "RFC 9768 3.2.2.1")
def tcp_send_ack_reflect_ect(sk: Sock, accecn_reflector: bool) -> None:
    """An acknowledgment whose ACE field says how the SYN-ACK arrived."""
    flags = tcp_accecn_reflector_flags(sk.syn_ect_rcv) if accecn_reflector else 0
    transmit.__tcp_send_ack(sk, sk.rcv_nxt, flags)


# ---------------------------------------------------------------- what arrives


@cited("include/net/tcp_ecn.h:tcp_ecn_received_counters", "RFC 9768 3.2.1", "RFC 9768 3.2.2.5.1")
def tcp_ecn_received_counters(sk: Sock, skb: Skb, length: int) -> None:
    """Counts the segment and its bytes by their ECN field; a change of it is to be told at once."""
    ecnfield = skb.ip_dsfield & INET_ECN_MASK
    is_ce = ecnfield == INET_ECN_CE
    if ecnfield:
        if not tcp_ecn_mode_rfc3168(sk):
            sk.ecn_flags |= TCP_ECN_SEEN
        if is_ce:
            pcount = max(1, skb.gso_segs)
            sk.received_ce = (sk.received_ce + pcount) & M32
            sk.received_ce_pending = min(sk.received_ce_pending + pcount, 15)
        if length > 0:
            oldbytes = sk.received_ecn_bytes[ecnfield - 1]
            newbytes = sk.received_ecn_bytes[ecnfield - 1] = (oldbytes + length) & M32
            sk.accecn_minlen = max(sk.accecn_minlen, OPTFIELD[ecnfield])
            if (newbytes ^ oldbytes) >> 22:
                tcp_accecn_opt_demand_min(sk, 1)
    ecn_edge = sk.prev_ecnfield != ecnfield
    if ecn_edge or is_ce:
        sk.prev_ecnfield = ecnfield
        if tcp_ecn_mode_accecn(sk):
            if ecn_edge:
                sk.icsk_ack.pending |= ICSK_ACK_NOW
            sk.accecn_opt_demand = 2


def _signed24(n: int) -> int:
    n &= 0xFFFFFF
    return n - (1 << 24) if n >> 23 else n


@cited("net/ipv4/tcp_input.c:tcp_accecn_process_option", "include/net/tcp_ecn.h:tcp_update_ecn_bytes", "RFC 9768 3.2.3")
def tcp_accecn_process_option(sk: Sock, delivered_bytes: int, flag: int) -> bool:
    """Takes the byte counters that an acknowledgment brings, or guesses whose they'd be; True: they can be used."""
    estimate_ecnfield = sk.est_ecnfield
    if sk.accecn_fail_mode & TCP_ACCECN_OPT_FAIL_RECV:
        return False
    option = sk.rx_opt.accecn
    if not flag & FLAG_SLOWPATH or option is None:
        if not sk.saw_accecn_opt:
            if sk.bytes_sent >= (1 << 23) - 1:  # too late: the counters may have wrapped
                tcp_accecn_saw_opt_fail_recv(sk, TCP_ACCECN_OPT_FAIL_SEEN)
            return False
        if estimate_ecnfield:
            i = estimate_ecnfield - 1
            sk.delivered_ecn_bytes[i] = (sk.delivered_ecn_bytes[i] + delivered_bytes) & M32
            return True
        return False
    if sk.saw_accecn_opt < TCP_ACCECN_OPT_COUNTER_SEEN:
        tcp_accecn_saw_opt_fail_recv(sk, tcp_accecn_option_init(option))
    res = estimate_ecnfield != 0
    first_changed = ambiguous = False
    order, counters = option
    for i, counter in enumerate(counters):
        ecnfield = ORDERS[order][i]
        cnt = sk.delivered_ecn_bytes[ecnfield - 1]
        delta = _signed24(counter - INIT_OFFSET[ecnfield] - cnt)
        sk.delivered_ecn_bytes[ecnfield - 1] = (cnt + delta) & M32
        if delta < 0:
            res = False
            ambiguous = True
        if delta and ecnfield != estimate_ecnfield:
            if not first_changed:
                sk.est_ecnfield = ecnfield
                first_changed = True
            else:
                res = False
                ambiguous = True
    if ambiguous:
        sk.est_ecnfield = 0
    return res


def _ewma(sk: Sock, delivered_pkts: int) -> None:
    """How many segments an ACK acknowledges on average; since 7.0."""
    ewma = delivered_pkts << PKTS_ACKED_PREC
    if sk.pkts_acked_ewma:
        old = sk.pkts_acked_ewma
        ewma = ((old << PKTS_ACKED_WEIGHT) - old + ewma) >> PKTS_ACKED_WEIGHT
    sk.pkts_acked_ewma = min(ewma, 0xFFFF)


@cited("net/ipv4/tcp_input.c:__tcp_accecn_process", "RFC 9768 3.2.2.5.2", "RFC 9768 A.2")
def __tcp_accecn_process(sk: Sock, skb: Skb, delivered_pkts: int, delivered_bytes: int, flag: int) -> int:
    """How many of the delivered segments were marked. The ACE field has three bits: of many it may have wrapped."""
    ce = INET_ECN_CE - 1
    old_ceb = sk.delivered_ecn_bytes[ce]
    if not flag & (FLAG_FORWARD_PROGRESS | FLAG_TS_PROGRESS):
        return 0
    opt_deltas_valid = tcp_accecn_process_option(sk, delivered_bytes, flag)
    later = enabled(sk.net)
    if later and delivered_pkts:
        _ewma(sk, delivered_pkts)
    mask = TCP_ACCECN_CEP_ACE_MASK
    if not flag & FLAG_SLOWPATH and delivered_pkts <= mask:
        return 0
    if flag & FLAG_SYN_ACKED:
        return 0
    if sk.received_ce_pending >= TCP_ACCECN_ACE_MAX_DELTA:
        sk.icsk_ack.pending |= ICSK_ACK_NOW
    corrected_ace = tcp_accecn_ace(skb.tcp_flags) - TCP_ACCECN_CEP_INIT_OFFSET
    delta = (corrected_ace - sk.delivered_ce) & mask
    if delivered_pkts <= mask:
        return delta
    safe_delta = delivered_pkts - ((delivered_pkts - delta) & mask)
    if opt_deltas_valid:
        d_ceb = (sk.delivered_ecn_bytes[ce] - old_ceb) & M32
        if not d_ceb:
            return delta
        open_or_cwr = sk.icsk_ca_state is CA.Open or sk.icsk_ca_state is CA.CWR
        if delivered_pkts >= (mask + 1) * 2 and (tcp_is_sack(sk) or open_or_cwr):
            if delivered_bytes <= d_ceb:
                return safe_delta
            est_d_cep = -(-d_ceb * delivered_pkts // delivered_bytes)
            return min(safe_delta, delta + (est_d_cep & ~mask))
        if d_ceb > delta * sk.mss_cache:
            return safe_delta
        if d_ceb < safe_delta * sk.mss_cache >> TCP_ACCECN_SAFETY_SHIFT:
            return delta
    elif later and sk.pkts_acked_ewma > ACK_COMP_THRESH << PKTS_ACKED_PREC:
        return delta
    return safe_delta


@cited("net/ipv4/tcp_input.c:tcp_accecn_process", "RFC 9768 3.2.2.5")
def tcp_accecn_process(
    sk: Sock, skb: Skb, delivered_pkts: int, state: SacktagState | None, flag: int
) -> tuple[int, int]:
    """Counts the marks that an acknowledgment tells of; their number, and the flags: marks ask for a reduction."""
    delta = __tcp_accecn_process(sk, skb, delivered_pkts, state.delivered_bytes if state is not None else 0, flag)
    if delta > 0:
        sk.delivered_ce += delta
        flag |= FLAG_ECE
        if sk.pred_flags is not None:
            tcp_fast_path_on(sk)
    return delta, flag


def dsack_of_lost_option(sk: Sock, skb: Skb) -> None:
    """The peer repeats what our last ACK, which had the option, told it of: the option is sent no more.

    source net/ipv4/tcp_input.c:tcp_rcv_spurious_retrans, RFC 9768 3.2.3.2.2
    """
    if (
        sk.accecn_opt_sent_w_dsack
        and tcp_ecn_mode_accecn(sk)
        and enabled(sk.net)
        and skb.seq == sk.duplicate_sack[0].start_seq
    ):
        tcp_accecn_fail_mode_set(sk, TCP_ACCECN_OPT_FAIL_SEND)


# ---------------------------------------------------------------- what leaves


@cited("net/ipv4/tcp_output.c:tcp_ecn_send", "include/net/tcp_ecn.h:tcp_accecn_set_ace", "RFC 9768 3.2.2")
def tcp_ecn_send(sk: Sock, skb: Skb) -> int:
    """Everything is ECN-capable, acknowledgments too, unless ECN fails; the ACE field to add, as flags."""
    fail = sk.accecn_fail_mode
    later = enabled(sk.net)
    if not fail & TCP_ACCECN_ACE_FAIL_RECV and not (later and fail & TCP_ACCECN_ACE_FAIL_SEND):
        ca.INET_ECN_xmit(sk)
    elif later:
        ca.INET_ECN_dontxmit(sk)
    if skb.tcp_flags & TCPHDR_ACE:
        return 0
    sk.received_ce_pending = 0
    return ace_flags(sk.received_ce + TCP_ACCECN_CEP_INIT_OFFSET)


@cited("include/net/tcp_ecn.h:tcp_accecn_option_beacon_check", "RFC 9768 3.2.3.3")
def tcp_accecn_option_beacon_check(sk: Sock) -> bool:
    """The option is due again: some times in each round trip."""
    beacon = sk.net.p.tcp_ecn_option_beacon
    if not beacon:
        return False
    return max(sk.tcp_mstamp - sk.accecn_opt_tstamp, 0) * beacon >= sk.srtt_us >> 3


@cited("net/ipv4/tcp_output.c:tcp_options_fit_accecn", "RFC 9768 3.2.3")
def tcp_options_fit_accecn(required: int, remaining: int, saving: int, sack_blocks: int) -> tuple[int, int, int] | None:
    """The largest option that fits: its fields, the bytes that it adds, the SACK blocks that stay. None: none fits.

    `saving` bytes of other options' padding may be used. A SACK block gives way where a change must be told.
    """
    size = TCP_ACCECN_MAXSIZE
    fields = TCP_ACCECN_NUMFIELDS
    blocks = sack_blocks
    rem = remaining
    while fields >= required:
        align_size = (size + 3) & ~3 if size & 3 > saving else size & ~3
        if rem >= align_size:
            size = align_size
            break
        if fields == required and blocks > 2 and required > 0:
            blocks -= 1
            rem += TCPOLEN_SACK_PERBLOCK
            fields = TCP_ACCECN_NUMFIELDS
            size = TCP_ACCECN_MAXSIZE
            continue
        fields -= 1
        size -= TCPOLEN_ACCECN_PERFIELD
    if fields < required:
        return None
    return fields, size - (sack_blocks - blocks) * TCPOLEN_SACK_PERBLOCK, blocks


def _wire_counters(ecn_bytes: list[int], fields: int) -> AccEcnOption:
    """The option as Linux writes it: ECT(1)'s first."""
    return 1, tuple((ecn_bytes[e - 1] + INIT_OFFSET[e]) & 0xFFFFFF for e in ORDERS[1][:fields])


def synack_option(opts: TcpOptions, remaining: int) -> int:
    """The option of a SYN-ACK: no byte was counted yet; the bytes it takes. source net/ipv4/tcp_output.c."""
    if remaining < TCPOLEN_ACCECN_BASE:
        return 0
    saving = 2 if opts.sack_perm and opts.tsval is None else 1 if opts.wscale is not None else 0
    fit = tcp_options_fit_accecn(0, remaining, saving, 0)
    if fit is None:
        return 0
    opts.accecn = _wire_counters([0, 0, 0], fit[0])
    return fit[1]


def wants_option(sk: Sock) -> bool:
    """An established connection's segment has the option; source net/ipv4/tcp_output.c:tcp_established_options."""
    ecn_opt = sk.net.p.tcp_ecn_option
    return (
        ecn_opt != 0
        and sk.saw_accecn_opt != TCP_ACCECN_OPT_NOT_SEEN
        and (ecn_opt >= TCP_ACCECN_OPTION_PERSIST or not sk.accecn_fail_mode & TCP_ACCECN_OPT_FAIL_SEND)
        and (ecn_opt >= TCP_ACCECN_OPTION_FULL or sk.accecn_opt_demand != 0 or tcp_accecn_option_beacon_check(sk))
    )


def established_option(sk: Sock, size: int, sack_blocks: int) -> tuple[int, int, int] | None:
    """The option that fits behind `size` bytes of others."""
    return tcp_options_fit_accecn(sk.accecn_minlen, MAX_TCP_OPTION_SPACE - size, 2 if sack_blocks else 0, sack_blocks)


def option_written(sk: Sock, opts: TcpOptions, fields: int | None, dsack: bool) -> None:
    """The option leaves, or doesn't (None); source net/ipv4/tcp_output.c:tcp_options_write."""
    if fields is None:
        sk.accecn_opt_sent_w_dsack = False
        return
    opts.accecn = _wire_counters(sk.received_ecn_bytes, fields)
    sk.accecn_minlen = 0
    sk.accecn_opt_tstamp = sk.tcp_mstamp
    sk.accecn_opt_sent_w_dsack = dsack
    if sk.accecn_opt_demand:
        sk.accecn_opt_demand -= 1
