"""Why the model did what it did: the function that sent a packet, the last decisions, the socket as it stands."""

from functools import cache
from typing import Final

from conformance.pkt.wire import Conn
from refmodel.icmp.message import Message
from refmodel.rule import STEPS, Step
from refmodel.tcp.whole import calls
from refmodel.tcp.whole.const import TCP_INFINITE_SSTHRESH
from refmodel.tcp.whole.net import Net, Timer
from refmodel.tcp.whole.skb import Packet
from refmodel.tcp.whole.sock import RequestSock, Sock, TimewaitSock
from refmodel.tcp.whole.tcp_h import tcp_packets_in_flight
from refmodel.types import M32
from refmodel.udp.sock import Datagram, UdpSock

WHOLE: Final = calls.__name__.rpartition(".")[0].removeprefix("refmodel.")  # with calls all of it is loaded
DECISIONS: Final = 6
PENDING: Final = {1: "RTO", 2: "delayed ACK", 3: "zero-window probe", 5: "loss probe", 6: "RACK reordering"}


@cache
def _steps() -> dict[str, Step]:
    """The functions of TCP, UDP and ICMP by their kernel names."""
    return {name.rpartition(".")[2]: step for name, step in STEPS.items() if name.startswith((WHOLE, "udp.", "icmp."))}


def citation(function: str) -> str:
    """Where the kernel has a function, and its sentence; the bare name where it has no citation."""
    step = _steps().get(function)
    if step is None:
        return function or "?"
    return f"{function} ({', '.join(step.kernel + step.rfc)}): {step.says}"


def find(net: Net, conn: Conn | None) -> Sock | RequestSock | TimewaitSock | UdpSock | None:
    """What the model has of a connection."""
    if conn is None:
        return None
    ports = (conn.local_port, conn.remote_port)
    for s in net.ehash.values():
        if isinstance(s, RequestSock):
            found = (s.ir_num, s.ir_rmt_port)
        elif isinstance(s, TimewaitSock):
            found = (s.tw_num, s.tw_dport)
        else:
            found = (s.inet_num, s.inet_dport)
        if found == ports:
            return s
    listeners = net.lhash.get(conn.local_port or 0) or net.udp_table.get(conn.local_port or 0)
    return listeners[0] if listeners else None


def why(net: Net, conn: Conn | None, start: int, packet: Packet | Datagram | Message | None = None) -> str:
    """The model's reasons, for a reader; `start` is the clock at the script's time 0."""
    out: list[str] = []
    if packet is not None:
        out.append(f"  sent at {(packet.time - start) / 1e6:.6f} s by {citation(packet.by)}")
    decisions = [d for d in net.trace if d[1]][-DECISIONS:]
    if decisions:
        out.append("  decisions before it:" if packet is not None else "  last decisions:")
        out += [
            f"    {(when - start) / 1e6:.6f} {fn}{': ' if detail else ''}{detail}" for when, fn, detail in decisions
        ]
    s = find(net, conn)
    if isinstance(s, Sock):
        out += _sock(net, s, conn, start)
    elif isinstance(s, RequestSock):
        out.append(
            f"  the model has: a request, SYN-ACK retransmitted {s.num_retrans} times; "
            f"its timer {_when(net, getattr(s, 'rsk_timer', None), start)}"
        )
    elif isinstance(s, TimewaitSock):
        out.append(
            f"  the model has: {s.tw_substate.name} in TIME_WAIT, rcv_nxt {_rel(s.tw_rcv_nxt, conn, False)}, "
            f"snd_nxt {_rel(s.tw_snd_nxt, conn, True)}; its timer {_when(net, getattr(s, 'tw_timer', None), start)}"
        )
    elif isinstance(s, UdpSock):
        out.append(
            f"  socket: UDP, {'connected' if s.inet_daddr else 'not connected'}; {len(s.sk_receive_queue)} datagrams "
            f"to read and {len(s.reader_queue)} with the reader, {s.sk_rmem_alloc} of {s.sk_rcvbuf} bytes of memory"
        )
    elif conn is not None:
        out.append("  the model has no such connection any more")
    return "\n".join(out)


def _rel(seq: int, conn: Conn | None, local: bool) -> int:
    """A live sequence number as the script counts it."""
    if conn is None:
        return seq
    return (seq - ((conn.local_isn if local else conn.remote_isn) or 0)) & M32


def _when(net: Net, timer: Timer | None, start: int) -> str:
    if timer is None or timer.expires is None:
        return "is not armed"
    return f"fires at {(timer.expires - start) / 1e6:.6f} s"


def _sock(net: Net, sk: Sock, conn: Conn | None, start: int) -> list[str]:
    threshold = "infinite" if sk.snd_ssthresh >= TCP_INFINITE_SSTHRESH else sk.snd_ssthresh
    timers = []
    for name in ("icsk_retransmit_timer", "icsk_delack_timer", "sk_timer", "pacing_timer", "compressed_ack_timer"):
        timer = getattr(sk, name, None)
        if timer is not None and timer.pending:
            kind = PENDING.get(sk.icsk_pending, "") if name == "icsk_retransmit_timer" else ""
            label = kind or name.removeprefix("icsk_").removesuffix("_timer").replace("sk", "keepalive")
            timers.append(f"{label} at {(timer.expires - start) / 1e6:.6f}")
    snd = [_rel(x, conn, True) for x in (sk.snd_una, sk.snd_nxt, sk.write_seq)]
    rcv = [_rel(x, conn, False) for x in (sk.rcv_nxt, sk.copied_seq)]
    rto = net.jiffies_to_msecs(sk.icsk_rto)
    return [
        f"  socket: {sk.sk_state.name}, {sk.icsk_ca_state.name}; cwnd {sk.snd_cwnd}, ssthresh {threshold}, "
        f"in flight {tcp_packets_in_flight(sk)} (sent {sk.packets_out}, SACKed {sk.sacked_out}, lost {sk.lost_out}, "
        f"retransmitted {sk.retrans_out}), mss {sk.mss_cache}",
        f"    snd_una {snd[0]}, snd_nxt {snd[1]}, written {snd[2]}, peer's window {sk.snd_wnd}; "
        f"rcv_nxt {rcv[0]}, copied {rcv[1]}, own window {sk.rcv_wnd}",
        f"    rto {rto} ms, srtt {sk.srtt_us / 8000:.3f} ms, backoff {sk.icsk_backoff}; "
        f"timers: {', '.join(timers) or 'none'}",
    ]
