"""Everything that happens to a connection, and everything that it does.

An event carries all that Linux takes from outside the machine: the time, the peer's segment, what memory and the
congestion and loss machinery decide. `now` is us since an arbitrary origin, `secs` the kernel's clock of whole
seconds. Fields under "decided elsewhere" are the seams to layers of their own:

* `space` is what __tcp_select_window offers (bytes).
* `ack_now` says whether __tcp_ack_snd_check sends the acknowledgment at once, `delack` after how long (us) it is sent
  if not.
* `rto` is the retransmission timeout after an RTT sample (us), 0 without a sample.
* `ofo` is how much of the out-of-order queue becomes in order, `ofo_fin` whether it ends in a FIN.
"""

from typing import Annotated, Final

from refmodel.rule import Effect, Event
from refmodel.tcp.state import MAX_SEG, Duration, Errno, Linger, Wnd, Wscale
from refmodel.types import Range, near, u8, u16, u32

Moment = Annotated[int, Range(0, 1 << 52)]
AckDelay = Annotated[int, Range(0, 500_000)]
Length = Annotated[int, Range(0, MAX_SEG)]

POLLIN: Final = 0x1
POLLOUT: Final = 0x4
POLLERR: Final = 0x8
POLLHUP: Final = 0x10
POLLRDHUP: Final = 0x2000


class Seg(Event, frozen=True):
    """A segment with a good checksum arrives. `win` is in bytes as the receiver reads it: shifted, except on a SYN."""

    seq: Annotated[int, Range(0, 0xFFFFFFFF), near("rcv_nxt", "tw_rcv_nxt", "rcv_isn")] = 0
    ack_seq: Annotated[int, Range(0, 0xFFFFFFFF), near("snd_una", "tw_snd_nxt", "snt_isn")] = 0
    len: Length = 0
    syn: bool = False
    ack: bool = True
    rst: bool = False
    fin: bool = False
    win: Wnd = 0
    ts: bool = False
    tsval: Annotated[int, Range(0, 0xFFFFFFFF), near("ts_recent", "tw_ts_recent")] = 0
    tsecr: u32 = 0
    mss: u16 = 0  # 0: no such option
    wscale_ok: bool = False
    wscale: Wscale = 0
    sack_ok: bool = False
    now: Moment = 0
    secs: u32 = 1
    # Decided elsewhere.
    ts_now: u32 = 0  # our own timestamp clock, as it would be sent
    space: Wnd = 65535
    rmem_ok: bool = True  # tcp_try_rmem_schedule found memory
    ack_now: bool = True
    ack_deferred: bool = False  # the owner of the socket will send it on release
    delack: AckDelay = 40_000
    rto: Duration = 0
    head_fits: bool = True  # the next segment to send fits into the offered window
    ofo: Length = 0
    ofo_fin: bool = False
    write_pending: bool = False  # a writer waits, or pingpong mode: the handshake's last ACK is delayed
    owned: bool = False  # an application holds the socket
    tw_full: bool = False  # tcp_max_tw_buckets is reached
    quota: bool = True  # the network namespace may still send a challenge ACK in this second
    # Facts about the listener and the handshake.
    listener: bool = False  # a listening socket would take this address pair
    acceptq_full: bool = False
    synq_full: bool = False
    proven: bool = True  # room that is kept for known peers need not be asked for
    flood_action: bool = True
    cookie: bool = False  # ack_seq - 1 is a cookie of ours of the last two minutes
    cookie_recent: bool = False  # cookies were sent lately
    cookie_mss: u16 = 536
    cookie_wscale_ok: bool = False
    cookie_wscale: Wscale = 0
    cookie_sack: bool = False
    defer_accept: u8 = 0
    isn: u32 = 0
    advmss: u16 = 1460
    rcv_wscale: Wscale = 7
    keepopen: bool = False


class Call(Event, frozen=True):
    """Base of the system calls, which need a descriptor."""


class Connect(Call, frozen=True):
    """connect() without waiting. `isn`, the window and the options offered are the route's and the secrets' choice."""

    now: Moment = 0
    isn: u32 = 0
    space: Wnd = 64240
    advmss: u16 = 1460
    rcv_wscale: Wscale = 7
    ts_now: u32 = 0
    errno: Errno = Errno.NONE  # routing or port allocation failed
    ts_recent: u32 = 0  # inherited from a TIME_WAIT socket whose port is taken over
    ts_recent_stamp: u32 = 0


class Listen(Call, frozen=True):
    """listen()."""

    backlog: u32 = 0


class Accept(Call, frozen=True):
    """accept() without waiting."""


class Close(Call, frozen=True):
    """The last descriptor is closed. `exiting`: by the end of the process, which never lingers."""

    now: Moment = 0
    space: Wnd = 65535
    exiting: bool = False
    oom: bool = False  # tcp_check_oom: too many orphans or out of memory
    tw_full: bool = False


class Release(Event, frozen=True):
    """A close() that lingers wakes up: the FIN was acknowledged, its time is over, or a signal came."""

    now: Moment = 0
    signal: bool = False
    space: Wnd = 65535
    oom: bool = False
    tw_full: bool = False


class Shutdown(Call, frozen=True):
    """shutdown(): SHUT_RD, SHUT_WR or both."""

    rd: bool = False
    wr: bool = True
    now: Moment = 0


class Read(Call, frozen=True):
    """recv() of at most `n` bytes without waiting. `ack_now`: __tcp_cleanup_rbuf finds that an ACK is due."""

    n: u32 = 1
    ack_now: bool = False
    space: Wnd = 65535
    now: Moment = 0


class Write(Call, frozen=True):
    """send() of which the buffers take `n` bytes (0: none) without waiting."""

    n: Length = 1
    now: Moment = 0


class Poll(Call, frozen=True):
    """poll(). `writable`: the send buffer has room; `acceptable`: a listener has a connection for accept()."""

    writable: bool = True
    acceptable: bool = False


class GetError(Call, frozen=True):
    """getsockopt(SO_ERROR)."""


class SetLinger(Call, frozen=True):
    """setsockopt(SO_LINGER)."""

    on: bool = False
    time: Linger = 0


class SetLinger2(Call, frozen=True):
    """setsockopt(TCP_LINGER2), in us after the kernel's clamping."""

    time: Annotated[int, Range(-1, 120_000_000)] = 0


class SetKeepalive(Call, frozen=True):
    """setsockopt(SO_KEEPALIVE), after TCP_KEEPIDLE, TCP_KEEPINTVL (us) and TCP_KEEPCNT where they are not 0."""

    on: bool = True
    now: Moment = 0
    time: Linger = 0
    intvl: Linger = 0
    probes: u8 = 0


class SetUserTimeout(Call, frozen=True):
    """setsockopt(TCP_USER_TIMEOUT), in us."""

    time: Linger = 0


class Output(Event, frozen=True):
    """tcp_write_xmit sends `n` sequence numbers of the queue in one segment: window, cwnd, Nagle and TSO allow it."""

    n: Length = 1
    now: Moment = 0
    space: Wnd = 65535


class Retransmit(Event, frozen=True):
    """Loss recovery sends `n` sequence numbers from `off` bytes after snd_una again."""

    off: u32 = 0
    n: Length = 1
    now: Moment = 0
    space: Wnd = 65535


class SendAck(Event, frozen=True):
    """An acknowledgment that was put off is sent: SACK compression ends, or the socket's owner lets go of it."""

    now: Moment = 0
    space: Wnd = 65535


class WriteTimer(Event, frozen=True):
    """The transmit timer fires. `n` is how much of the head of the queue one segment carries."""

    now: Moment = 0
    n: Length = 1
    space: Wnd = 65535
    oom: bool = False
    oom_reset: bool = True  # tcp_out_of_resources: the last segment was sent recently
    sent: bool = True  # the local queue took the segment
    head_age: Linger = 0  # how long ago the head of the retransmit queue was sent last


class DelackTimer(Event, frozen=True):
    """The delayed-ACK timer fires."""

    now: Moment = 0
    space: Wnd = 65535


class KeepaliveTimer(Event, frozen=True):
    """The keepalive timer fires. `owned`: an application holds the socket; `sent`: the local queue took the probe."""

    now: Moment = 0
    space: Wnd = 65535
    owned: bool = False
    tw_full: bool = False
    sent: bool = True


class ReqTimer(Event, frozen=True):
    """A request's SYN-ACK timer fires. `max_retries` is what reqsk_timer_handler allows at the queue's length."""

    now: Moment = 0
    max_retries: u8 = 5
    defer_accept: u8 = 0
    sent: bool = True


class TwTimer(Event, frozen=True):
    """The timer of a TIME_WAIT socket fires."""

    now: Moment = 0


class Icmp(Event, frozen=True):
    """An ICMP error quotes a segment of ours. `seq` is the quoted sequence number, `errno` its meaning."""

    seq: u32 = 0
    errno: Errno = Errno.EHOSTUNREACH
    unreach: bool = True  # net or host unreachable, time exceeded or parameter problem
    recverr: bool = False  # IP_RECVERR
    owned: bool = False
    now: Moment = 0


class ListenStop(Event, frozen=True):
    """The listener of this connection is closed (inet_csk_listen_stop)."""

    now: Moment = 0
    space: Wnd = 65535


class ReqAdded(Event, frozen=True):
    """A request joins the listener's queue."""


class ReqTimedOut(Event, frozen=True):
    """A request's timer fires for the first time: it is young no more."""


class ReqRemoved(Event, frozen=True):
    """A request leaves the queue. `young`: its timer never fired."""

    young: bool = True


class ChildQueued(Event, frozen=True):
    """A connection is ready for accept()."""


class Tx(Effect, frozen=True):
    """A segment is handed to IP.

    `win` is in bytes; `shift` is what the header's window is scaled by (see `raw_window`). `len` counts payload. `ts`
    says whether there is a timestamp, whose TSecr is `tsecr`; TSval is the clock's. MSS (0: none), window scale and
    SACK permitted stand on SYNs only.
    """

    seq: int = 0
    ack_seq: int = 0
    len: int = 0
    syn: bool = False
    ack: bool = False
    rst: bool = False
    fin: bool = False
    win: int = 0
    shift: int = 0
    ts: bool = False
    tsecr: int = 0
    mss: int = 0
    wscale_ok: bool = False
    wscale: int = 0
    sack_ok: bool = False


class Deliver(Effect, frozen=True):
    """Payload [seq, end) becomes readable."""

    seq: int
    end: int


class Wake(Effect, frozen=True):
    """Whoever waits for the socket is woken; `poll` is what poll() would say now."""

    poll: int


class CallResult(Effect, frozen=True):
    """A system call returns `value`, or fails with `errno`. `sigpipe`: unless MSG_NOSIGNAL forbids it."""

    value: int = 0
    errno: Errno = Errno.NONE
    sigpipe: bool = False


class Child(Effect, frozen=True):
    """The listener has a new connection for accept()."""


class ReqQueued(Effect, frozen=True):
    """The listener has one more request."""


class ReqGone(Effect, frozen=True):
    """The listener has one request less."""

    young: bool = True


def raw_window(tx: Tx) -> int:
    """The 16 bits that stand in the header of `tx`; source net/ipv4/tcp_output.c:tcp_select_window."""
    return min(tx.win >> tx.shift, 0xFFFF)
