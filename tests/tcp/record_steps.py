"""Records how a live kernel's TCP_INFO follows acknowledgments of known delay: `python -m tests.tcp.record_steps`.

Needs root. A real sender talks to a crafted peer in network namespaces of their own. With tcp_min_rtt_wlen 0 the least
RTT is forgotten after a jiffy, so that tcpi_min_rtt is the exact sample (us) that the kernel took of each ACK.
"""

import json
import platform
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

from conformance.live.craft import RawConn, RawPeer, mss, tcp4
from conformance.live.lab import Lab, require_lab

DATA = Path(__file__).parent / "data"
MSS = 1460
CLOCK_MONOTONIC_COARSE = 6
WIN = 65535
SACK_OK_WSCALE_8 = b"\x01\x01\x04\x02\x01\x03\x03\x08"
U8 = ("state", "ca_state", "retransmits", "probes", "backoff", "options", "wscale", "flags")
U32 = (
    *("rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "fackets"),
    *("last_data_sent", "last_ack_sent", "last_data_recv", "last_ack_recv", "pmtu", "rcv_ssthresh"),
    *("rtt", "rttvar", "snd_ssthresh", "snd_cwnd", "advmss", "reordering", "rcv_rtt", "rcv_space", "total_retrans"),
)


def recorded(name: str) -> list[dict[str, Any]]:
    """The rows of a recorded series."""
    rows: list[dict[str, Any]] = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return rows


def info(s: socket.socket) -> dict[str, int]:
    """The fields of struct tcp_info that the steps are compared with."""
    raw = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    got = dict(zip(U8, raw[:8], strict=True)) | dict(zip(U32, struct.unpack_from("24I", raw, 8), strict=True))
    got["min_rtt"] = struct.unpack_from("I", raw, 148)[0]
    got["data_segs_out"] = struct.unpack_from("I", raw, 156)[0]
    got["delivered"] = struct.unpack_from("I", raw, 192)[0]
    keep = ("ca_state", "backoff", "rto", "unacked", "sacked", "lost", "retrans", "rtt", "rttvar")
    return {k: got[k] for k in (*keep, "snd_ssthresh", "snd_cwnd", "min_rtt", "data_segs_out", "delivered")}


class Talk:
    """A connection of a real sender with a crafted receiver that acknowledges when told."""

    def __init__(self, lab: Lab, cc: str, sack: bool = False, synack: float = 0.0) -> None:
        self.peer = RawPeer(lab)
        self.app = lab["a"].socket()
        self.app.real.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, cc.encode())
        self.app.real.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.conn = RawConn(self.peer, 80)
        waits = lab.go(self.app.connect, lab["b"].v4, 80)
        self.conn.expect("S")
        time.sleep(synack)
        if sack:
            options = mss(MSS) + SACK_OK_WSCALE_8
            self.peer.send(self._frame("SA", self.conn.isn, self.conn.ack, options))
            self.conn.seq += 1
        else:
            self.conn.send("SA", window=WIN)
        self.conn.expect("A")
        waits.wait()
        self.una = self.conn.ack
        self.s = self.app.real

    def _frame(self, flags: str, seq: int, ack: int, options: bytes = b"") -> bytes:
        c, p = self.conn, self.peer
        return tcp4(p.host, p.other, c.sport, c.dport, seq, ack, flags, WIN, options)

    def ack(self, segments: int) -> None:
        """Acknowledges `segments` more full segments."""
        self.una += segments * MSS
        self.peer.send(self._frame("A", self.conn.seq, self.una))

    def sack(self, left: int, right: int) -> None:
        """Acknowledges nothing more, but SACKs the segments [left, right) counted from snd_una."""
        block = struct.pack("!BBBBII", 1, 1, 5, 10, self.una + left * MSS, self.una + right * MSS)
        self.peer.send(self._frame("A", self.conn.seq, self.una, block))

    def drain(self, quiet: float = 0.02) -> int:
        """Takes what is on the wire; gives how many segments came."""
        n = 0
        while self.peer.segment(quiet) is not None:
            n += 1
        return n


def rtt_series(lab: Lab, delays: list[float], flight: int) -> list[dict[str, Any]]:
    """One ACK a segment, each held back: what the kernel took for the sample and made of it."""
    t = Talk(lab, "reno", synack=0.03)
    rows: list[dict[str, Any]] = [{"una": 0, "nxt": 0, **info(t.s)}]
    sent = 0
    for i, d in enumerate(delays):
        if i % flight == 0:
            for _ in range(flight):
                t.s.send(b"x" * MSS)
            sent += flight
        time.sleep(d)
        t.ack(1)
        time.sleep(0.006)
        rows.append({"una": (i + 1) * MSS, "nxt": sent * MSS, **info(t.s)})
    t.app.close()
    return rows


def backoff_series(lab: Lab) -> list[dict[str, Any]]:
    """A segment that is repeated three times: the timeout doubles, and its ACK gives no sample."""
    t = Talk(lab, "reno")
    t.s.send(b"x" * MSS)
    time.sleep(0.02)
    t.ack(1)
    time.sleep(0.006)
    rows = [info(t.s)]
    t.drain()
    t.s.send(b"x" * MSS)
    last = -1
    until = time.monotonic() + 3.5
    while time.monotonic() < until and len(rows) < 4:
        now = info(t.s)
        if now["backoff"] not in (0, last):
            rows.append(now)
            last = now["backoff"]
        time.sleep(0.01)
    t.ack(1)
    time.sleep(0.01)
    rows.append(info(t.s))
    t.s.send(b"x" * MSS)
    time.sleep(0.03)
    t.ack(1)
    time.sleep(0.006)
    rows.append(info(t.s))
    t.app.close()
    return rows


def jiffies() -> int:
    """The kernel's jiffies but for a constant: the coarse clock moves with them."""
    return round(time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE) / 4_000_000)


class Bulk(Talk):
    """A connection whose sender always has more to send; `nxt` counts the segments that came, the first time."""

    def __init__(self, lab: Lab, cc: str) -> None:
        super().__init__(lab, cc, sack=True)
        self.s.setblocking(False)
        self.rows: list[dict[str, Any]] = []
        self.fill()
        self.drain()
        self.note(acked=0)

    def fill(self) -> None:
        try:
            while True:
                self.s.send(b"x" * (MSS * 40))
        except BlockingIOError:
            return

    def note(self, **did: Any) -> None:
        """Writes down where the sender stands."""
        una = (self.una - self.conn.peer_isn - 1) // MSS
        self.rows.append({**did, "una": una, **info(self.s)})

    def took(self, n: int, wait: float = 0.002) -> None:
        """Acknowledges `n` segments and lets the sender send."""
        first = jiffies()
        self.ack(n)
        time.sleep(0.001)
        last = jiffies()
        time.sleep(wait)
        self.fill()
        self.drain(0.01)
        self.note(acked=n, jiffies=[first, last])


def growth_series(lab: Lab, cc: str, acks: list[int]) -> list[dict[str, Any]]:
    """Acknowledgments of so many segments each; 0 lets the sender time out."""
    t = Bulk(lab, cc)
    for n in acks:
        if n:
            t.took(n)
            continue
        before = info(t.s)["backoff"]
        while info(t.s)["backoff"] == before:
            time.sleep(0.01)
        t.drain(0.01)
        t.note(acked=0)
    t.app.close()
    return t.rows


def prr_series(lab: Lab, cc: str, window: int) -> list[dict[str, Any]]:
    """The first segment of a window is lost, the others are SACKed one by one, then all is acknowledged."""
    t = Bulk(lab, cc)
    while info(t.s)["snd_cwnd"] < window:
        t.took(2)
    flight = t.rows[-1]["unacked"]
    for right in range(2, flight + 1):
        t.sack(1, right)
        time.sleep(0.002)
        t.drain(0.01)
        t.note(sacked_to=right)
    while t.rows[-1]["ca_state"] != 0:
        t.took(flight if t.rows[-1]["sacked"] else 1)
    t.app.close()
    return t.rows


def two_lost_series(lab: Lab, cc: str, window: int, after: int) -> list[dict[str, Any]]:
    """The first and the eleventh segment of a window are lost; then `after` ACKs of four segments each."""
    t = Bulk(lab, cc)
    while info(t.s)["snd_cwnd"] < window:
        t.took(2)
    flight = t.rows[-1]["unacked"]
    for left, right in [(1, r) for r in range(2, 11)] + [(11, r) for r in range(12, flight + 1)]:
        t.sack(left, right)
        time.sleep(0.002)
        t.drain(0.01)
        t.note(sacked_to=right)
    t.took(10)
    t.took(flight - 10)
    while t.rows[-1]["ca_state"] != 0:
        t.took(1)
    for _ in range(after):
        t.took(4)
    t.app.close()
    return t.rows


def main() -> None:
    """Records every series and writes the files."""
    require_lab()
    wanted = sys.argv[1:]
    DATA.mkdir(exist_ok=True)
    sysctls: dict[str, dict[str, int]] = {"a": {"net.ipv4.tcp_min_rtt_wlen": 0, "net.ipv4.tcp_no_metrics_save": 1}}

    def record(name: str, f: Any, *args: Any) -> None:
        if wanted and name not in wanted:
            return
        with Lab(raw=("b",), sysctls=sysctls) as lab:
            lab.settle()
            rows = f(lab, *args)
        text = ",\n".join(json.dumps(r) for r in rows)
        head = json.dumps({"kernel": platform.release(), "hz": 250, "mss": MSS})
        (DATA / f"{name}.json").write_text(f'{{"about": {head}, "rows": [\n{text}\n]}}\n')
        print(name, len(rows))

    up_down = [0.012, 0.03, 0.05, 0.08, 0.12, 0.06, 0.03, 0.012, 0.012, 0.2, 0.012, 0.012, 0.04, 0.012, 0.3, 0.012]
    record("rtt_one_by_one", rtt_series, up_down, 1)
    record("rtt_four_in_flight", rtt_series, [0.01, 0.012, 0.008, 0.02, 0.04, 0.008, 0.008, 0.03] * 3, 4)
    record("rtt_swinging", rtt_series, [0.1, 0.08, 0.005, 0.005] * 6, 2)
    record("rtt_backoff", backoff_series)
    grow = [1, 1, 2, 3, 5, 8]
    record("reno_frto", growth_series, "reno", [*grow, 0, 1, 1, 1])
    sysctls["a"]["net.ipv4.tcp_frto"] = 0
    again = [1, 1, 2, 3, 4, 4, 4, 4, *[3] * 24]
    record("reno_growth", growth_series, "reno", [*grow, 0, *again])
    record("cubic_growth", growth_series, "cubic", [*grow, 0, *again, *[6] * 40])
    record("cubic_hystart", growth_series, "cubic", [*grow, *[1] * 60])
    record("reno_prr", prr_series, "reno", 20)
    record("cubic_prr", prr_series, "cubic", 24)
    record("cubic_two_lost", two_lost_series, "cubic", 24, 130)


if __name__ == "__main__":
    main()
