"""The objects of TCP's connection machine and their fields.

The law: a connection is at any moment exactly one of three kernel objects. `Sock` is the full socket (struct
tcp_sock), `Req` the request that stands for a half-open passive connection (struct tcp_request_sock, state
NEW_SYN_RECV), `Tw` the small socket that remembers a finished one (struct tcp_timewait_sock). A `Sock` in LISTEN or
CLOSE also stands for an address pair of which the kernel knows nothing but a listener, or nothing at all. `Listener`
holds the queues that connections share.

Fields have the kernel's names. Sequence numbers are in [0, 2**32), windows and lengths in bytes, times in us; a
deadline of NEVER means that the timer is not armed.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from refmodel.rule import State
from refmodel.types import NEVER, Range, near, u8, u16, u32, usec

MAX_WND: Final = 65535 << 14  # the largest window that the header can carry, RFC 7323 2.3
MAX_SEG: Final = 1 << 19  # the longest segment that receive offload hands up (BIG TCP)
MAX_QUEUE: Final = 1 << 30  # more unacknowledged data than this is never queued

SECOND: Final = 1_000_000
TCP_RTO_MIN: Final = 200_000
TCP_RTO_MAX: Final = 120 * SECOND
TCP_TIMEOUT_INIT: Final = 1 * SECOND
TCP_TIMEWAIT_LEN: Final = 60 * SECOND
TCP_DELACK_MAX: Final = 200_000

Wnd = Annotated[int, Range(0, MAX_WND)]
Wscale = Annotated[int, Range(0, 14)]
Linger = Annotated[int, Range(0, 1 << 51)]  # a time that an application chose
Duration = Annotated[int, Range(0, TCP_RTO_MAX)]


class St(IntEnum):
    """Connection states, with the kernel's numbers (include/net/tcp_states.h)."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12


class Errno(IntEnum):
    """The errors that reach applications, with Linux' numbers."""

    NONE = 0
    EAGAIN = 11
    EINVAL = 22
    EPIPE = 32
    EPROTO = 71
    ENETUNREACH = 101
    ECONNABORTED = 103
    ECONNRESET = 104
    EISCONN = 106
    ENOTCONN = 107
    ETIMEDOUT = 110
    ECONNREFUSED = 111
    EHOSTUNREACH = 113
    EALREADY = 114
    EINPROGRESS = 115


class Pending(IntEnum):
    """What the one transmit timer of a socket is armed for (include/net/inet_connection_sock.h)."""

    NONE = 0
    RETRANS = 1
    PROBE0 = 3


class SS(IntEnum):
    """The state of the descriptor above the socket (include/uapi/linux/net.h)."""

    UNCONNECTED = 1
    CONNECTING = 2
    CONNECTED = 3
    DISCONNECTING = 4


# Sockets that have exchanged SYNs, those that may send data, those that have an unacknowledged FIN.
SYNC: Final = (
    St.SYN_RECV,
    St.ESTABLISHED,
    St.FIN_WAIT1,
    St.FIN_WAIT2,
    St.CLOSE_WAIT,
    St.LAST_ACK,
    St.CLOSING,
)
OPEN: Final = (St.ESTABLISHED, St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSE_WAIT, St.LAST_ACK, St.CLOSING)
SENDING: Final = (St.ESTABLISHED, St.CLOSE_WAIT, St.FIN_WAIT1, St.CLOSING, St.LAST_ACK)
CLOSING_STATES: Final = (St.FIN_WAIT1, St.CLOSING, St.LAST_ACK)
FULL: Final = tuple(x for x in St if x not in (St.TIME_WAIT, St.NEW_SYN_RECV))


class Sock(State, frozen=True):
    """A full socket: struct tcp_sock with what it inherits from inet_connection_sock and sock."""

    AT: ClassVar[str] = "state"

    state: St = St.CLOSE
    # Sending: SND.UNA, SND.NXT, the end of what was written, SND.WND with the segment that set it.
    snd_una: u32 = 0
    snd_nxt: Annotated[int, Range(0, 0xFFFFFFFF), near("snd_una")] = 0
    write_seq: Annotated[int, Range(0, 0xFFFFFFFF), near("snd_una")] = 0
    snd_wnd: Wnd = 0
    snd_wl1: Annotated[int, Range(0, 0xFFFFFFFF), near("rcv_nxt")] = 0
    max_window: Wnd = 0
    bytes_acked: u32 = 0  # saturates; the kernel counts in 64 bits
    syn_out: bool = False  # the head of the retransmit queue is our SYN
    fin_queued: bool = False
    # Receiving: RCV.NXT, the acknowledgment that the peer saw last, what it was allowed from there, what was read.
    rcv_nxt: u32 = 0
    rcv_wup: Annotated[int, Range(0, 0xFFFFFFFF), near("rcv_nxt", sign=-1)] = 0
    rcv_wnd: Wnd = 0
    copied_seq: Annotated[int, Range(0, 0xFFFFFFFF), near("rcv_nxt", sign=-1)] = 0
    ofo: bool = False  # the out-of-order queue holds something
    max_sack: Annotated[int, Range(0, 0xFFFFFFFF), near("rcv_nxt")] = 0  # its highest right edge
    # Options agreed on in the handshake.
    snd_wscale: Wscale = 0
    rcv_wscale: Wscale = 0
    wscale_ok: bool = False
    sack_ok: bool = False
    ts_ok: bool = False
    ts_recent: u32 = 0
    ts_recent_stamp: u32 = 0  # seconds; 0 when there is none
    ts_syn: u32 = 0  # TSval of our first SYN
    mss_clamp: u16 = 536
    advmss: u16 = 1460
    # Shutdown, error, ownership.
    rcv_shut: bool = False
    snd_shut: bool = False
    done: bool = False  # SOCK_DONE: the peer's FIN arrived in order
    dead: bool = False  # SOCK_DEAD: no descriptor any more
    ss: SS = SS.UNCONNECTED
    err: Errno = Errno.NONE
    err_soft: Errno = Errno.NONE
    # Socket options.
    linger: bool = False
    lingertime: Linger = 0
    linger_until: usec = NEVER  # a close() is blocked until then
    linger2: Annotated[int, Range(-1, TCP_RTO_MAX)] = 0  # us; 0: tcp_fin_timeout, -1: no FIN_WAIT2
    keepopen: bool = False
    keepalive_time: Linger = 0  # 0: the sysctl
    keepalive_intvl: Linger = 0
    keepalive_probes: u8 = 0
    user_timeout: Linger = 0
    syn_retries: u8 = 0
    # Timers.
    icsk_pending: Pending = Pending.NONE
    icsk_timeout: usec = NEVER
    icsk_rto: Duration = TCP_TIMEOUT_INIT
    icsk_backoff: u8 = 0
    icsk_retransmits: u8 = 0
    icsk_probes_out: u8 = 0
    icsk_probes_tstamp: usec = 0  # 0: not probing
    retrans_stamp: usec = 0  # the first retransmission (or the SYN); 0: none
    ack_sched: bool = False  # ICSK_ACK_SCHED: we owe the peer an acknowledgment
    ack_nomem: bool = False  # ICSK_ACK_NOMEM: data was refused for lack of memory
    ack_timeout: usec = NEVER
    keepalive_timeout: usec = NEVER  # keepalive, or the end of an orphan's FIN_WAIT2
    lrcvtime: usec = 0
    rcv_tstamp: usec = 0
    last_oow_ack_time: usec = 0  # 0: never


class Req(State, frozen=True):
    """A half-open passive connection: struct tcp_request_sock."""

    rcv_isn: u32 = 0
    snt_isn: u32 = 0
    rsk_rcv_wnd: Wnd = 0
    mss: u16 = 536
    advmss: u16 = 1460
    wscale_ok: bool = False
    snd_wscale: Wscale = 0
    rcv_wscale: Wscale = 0
    sack_ok: bool = False
    ts_ok: bool = False
    ts_recent: u32 = 0
    acked: bool = False
    num_timeout: u8 = 0
    timeout: Duration = TCP_TIMEOUT_INIT
    rsk_timeout: usec = NEVER
    last_oow_ack_time: usec = 0
    # What the child inherits from the listener.
    keepopen: bool = False
    linger: bool = False
    lingertime: Linger = 0
    linger2: Annotated[int, Range(-1, TCP_RTO_MAX)] = 0


class Tw(State, frozen=True):
    """What is left of a connection in TIME_WAIT or, after its socket was closed, in FIN_WAIT2."""

    AT: ClassVar[str] = "tw_substate"

    tw_substate: St = St.TIME_WAIT
    tw_rcv_nxt: u32 = 0
    tw_snd_nxt: u32 = 0
    tw_rcv_wnd: Wnd = 0
    tw_rcv_wscale: Wscale = 0
    tw_ts_recent: u32 = 0
    tw_ts_recent_stamp: u32 = 0
    tw_last_oow_ack_time: usec = 0
    tw_timeout: usec = NEVER


class Listener(State, frozen=True):
    """The queues of a listening socket: requests on their way and connections that wait for accept()."""

    sk_ack_backlog: u32 = 0  # connections that wait for accept()
    sk_max_ack_backlog: Annotated[int, Range(0, 2**31 - 1)] = 0  # listen()'s backlog, at most net.core.somaxconn
    qlen: u32 = 0  # requests
    young: u32 = 0  # requests whose timer has not fired yet
    listening: bool = True
