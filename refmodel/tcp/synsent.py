"""The active open: a segment arrives in SYN_SENT.

The law: a SYN-ACK of our SYN establishes the connection, a SYN alone crosses ours and makes it a simultaneous open,
an RST counts only if it acknowledges our SYN, and a wrong acknowledgment is answered by an RST.
"""

from msgspec.structs import replace

from refmodel.rule import Mib, pure, require, rule
from refmodel.tcp.checks import SV, saw_tstamp, synsent_verdict
from refmodel.tcp.events import POLLOUT, Seg, Tx, Wake
from refmodel.tcp.input import rearm, tcp_done
from refmodel.tcp.output import Effects, syn_segment, tcp_send_ack
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import TCP_DELACK_MAX, Errno, Sock, St
from refmodel.types import add


@pure
def hurried(s: Sock, e: Seg, p: TcpParams) -> Sock:
    """A stale ACK hints that our SYN was lost on an old connection: it is repeated in two jiffies, once."""
    return replace(s, icsk_timeout=e.now + 2 * p.jiffy if s.icsk_retransmits == 0 else s.icsk_timeout)


@rule("net/ipv4/tcp_input.c:tcp_rcv_synsent_state_process", "RFC 9293 3.10.7.3", at=St.SYN_SENT)
def synsent_bad_ack(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An acknowledgment of something other than our SYN is answered by an RST, and the SYN is soon repeated."""
    require(synsent_verdict(s, e, p) == SV.BAD_ACK, "an ACK of something other than our SYN")
    if e.rst:
        return hurried(s, e, p), ()
    return hurried(s, e, p), (Tx(seq=e.ack_seq, rst=True),)


@rule("net/ipv4/tcp_input.c:tcp_rcv_synsent_state_process", "RFC 7323 5.3", at=St.SYN_SENT)
def synsent_bad_tsecr(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An echoed timestamp that we haven't sent since the SYN is answered by an RST."""
    require(synsent_verdict(s, e, p) == SV.BAD_TSECR, "an echoed timestamp that isn't ours")
    if e.rst:
        return s, (Mib(name="TcpExtPAWSActive"),)
    return s, (Mib(name="TcpExtPAWSActive"), Tx(seq=e.ack_seq, rst=True))


@rule("net/ipv4/tcp_input.c:tcp_reset", "RFC 9293 3.10.7.3", at=St.SYN_SENT)
def synsent_refused(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An RST that acknowledges our SYN refuses the connection."""
    require(synsent_verdict(s, e, p) == SV.REFUSED, "an RST that acknowledges our SYN")
    t, fx = tcp_done(s, Errno.ECONNREFUSED)
    return t, (Mib(name="TcpAttemptFails"), *fx)


@rule("net/ipv4/tcp_input.c:tcp_rcv_synsent_state_process", "RFC 9293 3.10.7.3", at=St.SYN_SENT)
def synsent_ignored(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """Without SYN nothing happens: an ACK of ours alone, an RST without ACK, an old timestamp, or no flag at all."""
    require(
        synsent_verdict(s, e, p) in (SV.NO_SYN, SV.RST, SV.PAWS, SV.NOTHING),
        "a segment that neither opens nor refuses",
    )
    return s, ()


@pure
def agreed(s: Sock, e: Seg, p: TcpParams) -> Sock:
    """What the peer's SYN settles: sequence numbers, the unscaled window, the options of both sides."""
    nxt = add(e.seq, 1)
    ts = saw_tstamp(e, p)
    scaled = e.wscale_ok and p.tcp_window_scaling
    return replace(
        s,
        rcv_nxt=nxt,
        rcv_wup=nxt,
        copied_seq=nxt,
        snd_wnd=e.win,
        snd_wl1=e.seq,
        max_window=e.win,
        ts_ok=ts,
        ts_recent=e.tsval if ts else s.ts_recent,
        ts_recent_stamp=e.secs if ts else s.ts_recent_stamp,
        sack_ok=e.sack_ok and p.tcp_sack,
        wscale_ok=scaled,
        snd_wscale=e.wscale if scaled else 0,
        mss_clamp=e.mss if e.mss != 0 else 536,
    )


@pure
def synsent_done(s: Sock, e: Seg, p: TcpParams) -> Sock:
    """The socket after the SYN-ACK; source tcp_input.c:tcp_finish_connect."""
    t = replace(
        agreed(s, e, p),
        state=St.ESTABLISHED,
        snd_una=e.ack_seq,
        bytes_acked=1,
        syn_out=False,
        icsk_retransmits=0,
        icsk_rto=e.rto if e.rto != 0 else s.icsk_rto,
        icsk_backoff=0,
        icsk_probes_out=0,
        retrans_stamp=0,
        err_soft=Errno.NONE,
        rcv_tstamp=e.now,
        lrcvtime=e.now,
        rcv_wscale=s.rcv_wscale if e.wscale_ok and p.tcp_window_scaling else 0,
        keepalive_timeout=e.now + keepalive_time_when(s, p) if s.keepopen else s.keepalive_timeout,
        ack_sched=True,
        ack_timeout=e.now + TCP_DELACK_MAX if e.write_pending else s.ack_timeout,
    )
    return rearm(t, e, True)


@pure
def keepalive_time_when(s: Sock, p: TcpParams) -> int:
    """How long a connection is silent before it is probed (us); source include/net/tcp.h:keepalive_time_when."""
    return s.keepalive_time if s.keepalive_time != 0 else p.tcp_keepalive_time


@rule("net/ipv4/tcp_input.c:tcp_rcv_synsent_state_process", "RFC 9293 3.10.7.3", at=St.SYN_SENT)
def synsent_established(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """The SYN-ACK of our SYN establishes the connection; its ACK goes at once, or with the data that waits."""
    require(synsent_verdict(s, e, p) == SV.SYNACK, "a SYN-ACK of our SYN")
    t = synsent_done(s, e, p)
    if e.write_pending:
        return t, (Wake(poll=POLLOUT),)
    r, fx = tcp_send_ack(t, e.space, p)
    return r, (Wake(poll=POLLOUT), *fx)


@rule(
    "net/ipv4/tcp_input.c:tcp_rcv_synsent_state_process",
    "RFC 9293 3.5",
    at=St.SYN_SENT,
    deviates="Our window stays scaled in a simultaneous open with a peer that offers no window scale, RFC 7323 2.2.",
)
def synsent_crossed(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """The peer's SYN crosses ours: a simultaneous open answers with a SYN-ACK."""
    require(synsent_verdict(s, e, p) == SV.CROSSED, "a SYN without ACK")
    t = replace(agreed(s, e, p), state=St.SYN_RECV)
    return t, (syn_segment(t, True, p),)
