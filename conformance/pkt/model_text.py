"""Texts of /proc and of ss as the model's host would show them: counters, sockets, what TCP knows of a connection.

The form is the kernel's and iproute2's. A pointer is zeroes, an inode 0 and a reference count 1: no model has them.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Final

from conformance.pkt.look import Ss
from conformance.pkt.mib import NAMES, NETSTAT, SNMP
from refmodel.tcp.state import St
from refmodel.tcp.whole import info
from refmodel.tcp.whole.const import TCP_INFINITE_SSTHRESH
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.sock import InetSock, RequestSock, Sock, TimewaitSock
from refmodel.udp.sock import UdpSock

STATES: Final = {
    1: "ESTAB", 2: "SYN-SENT", 3: "SYN-RECV", 4: "FIN-WAIT-1", 5: "FIN-WAIT-2", 6: "TIME-WAIT", 7: "UNCONN",
    8: "CLOSE-WAIT", 9: "LAST-ACK", 10: "LISTEN", 11: "CLOSING",
}  # fmt: skip
TIMERS: Final = {1: 1, 5: 1, 6: 1, 3: 4}  # icsk_pending: what /proc shows of it
USER_HZ: Final = 100
FIXED: Final = {"TcpRtoAlgorithm": 1, "TcpRtoMin": 200, "TcpRtoMax": 120_000, "TcpMaxConn": -1, "IpForwarding": 2,
                "IpDefaultTTL": 64}  # fmt: skip
"""What stands among the counters and counts nothing."""


def counters(net: Net, groups: tuple[str, ...]) -> list[str]:
    """Two lines for each group of counters, names and values, as /proc/net/snmp and netstat have them."""
    out: list[str] = []
    for group in groups:
        names = NAMES.get(group) or tuple(sorted(n.removeprefix(group) for n in net.mib if n.startswith(group)))
        out.append(" ".join((f"{group}:", *names)))
        out.append(" ".join((f"{group}:", *(str(FIXED.get(group + n, net.mib.get(group + n, 0))) for n in names))))
    return out


def snmp6(net: Net) -> list[str]:
    """A counter a line."""
    return [f"{n:<32}\t{v}" for n, v in sorted(net.mib.items()) if n.startswith(("Icmp6", "Udp6", "Ip6"))]


def proc_net(net: Net, name: str) -> list[str]:
    """A file of /proc/net, by its name."""
    if name == "snmp":
        return counters(net, SNMP)
    if name == "netstat":
        return counters(net, NETSTAT)
    if name == "snmp6":
        return snmp6(net)
    six = name.endswith("6")
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    if name.startswith("udp"):
        rows = (s for slot in net.udp_table.values() for s in slot if (s.sk_family == 10) == six)
        return [head + " ref pointer drops", *(_udp(n, s, six) for n, s in enumerate(rows))]
    return [head, *(row for n, s in enumerate(x for x in tcp(net) if _family(x) == (10 if six else 2))
                    for row in (_tcp(n, s, six),))]  # fmt: skip


AnySock = Sock | RequestSock | TimewaitSock


def tcp(net: Net) -> Iterator[AnySock]:
    """Every TCP socket that can be found: listeners first."""
    for listeners in net.lhash.values():
        yield from listeners
    yield from net.ehash.values()


def _family(s: AnySock) -> int:
    return s.ireq_family if isinstance(s, RequestSock) else s.sk_family


def ends(s: AnySock | UdpSock) -> tuple[bytes, int, bytes, int]:
    """Local address and port, the peer's."""
    if isinstance(s, RequestSock):
        return s.ir_loc_addr, s.ir_num, s.ir_rmt_addr, s.ir_rmt_port
    if isinstance(s, TimewaitSock):
        return s.tw_rcv_saddr, s.tw_num, s.tw_daddr, s.tw_dport
    return s.inet_rcv_saddr, s.inet_num, s.inet_daddr, s.inet_dport


def state_of(s: AnySock | UdpSock) -> int:
    """The state as it is shown; a request is a SYN-RECV, a time-wait socket what it stands for."""
    if isinstance(s, RequestSock):
        return int(St.SYN_RECV)
    return int(s.tw_substate) if isinstance(s, TimewaitSock) else int(s.sk_state)


def _hex(addr: bytes, port: int, six: bool) -> str:
    size = 16 if six else 4
    if six and len(addr) == 4:
        addr = bytes(10) + b"\xff\xff" + addr
    addr = addr or bytes(size)
    words = "".join(f"{int.from_bytes(addr[n : n + 4], 'little'):08X}" for n in range(0, size, 4))
    return f"{words}:{port:04X}"


def queues(s: AnySock | UdpSock) -> tuple[int, int]:
    """What waits to be sent and to be read (bytes; of a listener: connections that wait)."""
    if isinstance(s, UdpSock):
        return s.sk_wmem_alloc, s.sk_rmem_alloc - s.forward_deficit
    if not isinstance(s, Sock):
        return 0, 0
    if s.sk_state == St.LISTEN:
        return 0, s.sk_ack_backlog
    return (s.write_seq - s.snd_una) & 0xFFFFFFFF, (s.rcv_nxt - s.copied_seq) & 0xFFFFFFFF


def _row(n: int, s: AnySock | UdpSock, six: bool, timer: str) -> str:
    local, port, remote, dport = ends(s)
    tx, rx = queues(s)
    return f"{n:4}: {_hex(local, port, six)} {_hex(remote, dport, six)} {state_of(s):02X} {tx:08X}:{rx:08X} {timer}"


def _tcp(n: int, s: AnySock, six: bool) -> str:
    """Source net/ipv4/tcp_ipv4.c:get_tcp4_sock."""
    if not isinstance(s, Sock):
        return _row(
            n, s, six, f"{'03' if isinstance(s, TimewaitSock) else '01'}:00000000 00000000     0        0 0 1 {0:016x}"
        )
    net = s.net
    active, expires = TIMERS.get(s.icsk_pending, 0), s.icsk_timeout
    if not active and s.sk_timer.pending:
        active, expires = 2, s.sk_timer.jiffy
    left = max(expires - net.jiffies, 0) * USER_HZ // net.hz if active else 0
    threshold = s.snd_ssthresh if s.snd_ssthresh < TCP_INFINITE_SSTHRESH else -1
    if s.sk_state == St.LISTEN:
        threshold = s.fastopenq_max_qlen
    timer = f"{active:02X}:{left:08X} {s.icsk_retransmits:08X}     0 {s.icsk_probes_out:8} 0 1 {0:016x}"
    rto, ato = (x * USER_HZ // net.hz for x in (s.icsk_rto, s.icsk_ack.ato))
    quick = s.icsk_ack.quick << 1 | int(s.icsk_ack.pingpong >= net.p.tcp_pingpong_thresh)
    return _row(n, s, six, timer + f" {rto} {ato} {quick} {s.snd_cwnd} {threshold}")


def _udp(n: int, s: UdpSock, six: bool) -> str:
    """Source net/ipv4/udp.c:udp4_format_sock."""
    return _row(n, s, six, f"00:00000000 00000000     0        0 0 1 {0:016x} {s.sk_drops}")


# ---------------------------------------------------------------- ss


def ss(net: Net, look: Ss) -> list[str]:
    """What ss prints: a line a socket, and with -i or -m a second one."""
    o = look.options
    both = ("t" in o) == ("u" in o)
    found: list[AnySock | UdpSock] = []
    if "u" in o or both:
        found += [s for slot in net.udp_table.values() for s in slot]
    if "t" in o or both:
        found += list(tcp(net))
    out = (
        []
        if "H" in o
        else [("Netid " if both else "") + "State Recv-Q Send-Q Local Address:Port  Peer Address:Port Process"]
    )
    for s in found:
        closed = state_of(s) in (7, 10)
        if ("l" in o and not closed) or (not set(o) & set("la") and closed):
            continue
        tx, rx = queues(s)
        if isinstance(s, Sock) and s.sk_state == St.LISTEN:
            tx = s.sk_max_ack_backlog
        local, port, remote, dport = ends(s)
        kind = ("udp   " if isinstance(s, UdpSock) else "tcp   ") if both else ""
        more = _details(s, o)
        line = f"{kind}{STATES[state_of(s)]:<6} {rx:<6} {tx:<6} "
        line += f"{_name(s, local, port)} {_name(s, remote, dport)}{_timer(s, o)}"
        out += [line + more] if "O" in o else [line, *([f"\t{more}"] if more else [])]
    return out


def _name(s: AnySock | UdpSock, addr: bytes, port: int) -> str:
    six = (s.ireq_family if isinstance(s, RequestSock) else s.sk_family) == 10
    if not any(addr):
        text = "*" if six and not addr else "[::]" if six else "0.0.0.0"
    elif len(addr) == 4:
        text = f"[::ffff:{ipaddress.ip_address(addr)}]" if six else str(ipaddress.ip_address(addr))
    else:
        text = f"[{ipaddress.ip_address(addr)}]"
    return f"{text}:{port or '*'}"


def _timer(s: AnySock | UdpSock, options: str) -> str:
    if "o" not in options or not isinstance(s, Sock):
        return ""
    active, expires = TIMERS.get(s.icsk_pending, 0), s.icsk_timeout
    if not active and s.sk_timer.pending:
        active, expires = 2, s.sk_timer.jiffy
    if not active:
        return ""
    name = {1: "on", 2: "keepalive", 4: "persist"}[active]
    ms = s.net.jiffies_to_msecs(max(expires - s.net.jiffies, 0))
    shown = (
        f"{ms}ms"
        if ms < 1000
        else f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "sec"
        if ms < 60_000
        else f"{ms // 60_000}min{ms // 1000 % 60}sec"
    )
    return f" timer:({name},{shown},{s.icsk_retransmits})"


def _details(s: AnySock | UdpSock, options: str) -> str:
    out = ""
    if "m" in options and isinstance(s, InetSock):
        m = info.meminfo(s)
        r, rb, t, tb, f, w, o, bl, d = m.values()
        out += f" skmem:(r{r},rb{rb},t{t},tb{tb},f{f},w{w},o{o},bl{bl},d{d})"
    if "i" in options and isinstance(s, Sock):
        out += tcp_stats(s, info.tcp_info(s), "o" in options)
    return out


def _g(value: float) -> str:
    return f"{value:g}"


def tcp_stats(s: Sock, i: Mapping[str, int], options: bool) -> str:
    """TCP_INFO as ss prints it: values that are 0 are left out."""
    i = {n.removeprefix("tcpi_"): v for n, v in i.items()}
    words: list[str] = []
    if options:
        words += [name for bit, name in ((1, "ts"), (2, "sack"), (8, "ecn"), (16, "ecnseen"), (32, "fastopen"))
                  if i["options"] & bit]  # fmt: skip
    words.append(s.icsk_ca_ops.name)
    if i["options"] & 4:
        words.append(f"wscale:{s.rx_opt.snd_wscale},{s.rx_opt.rcv_wscale}")
    if i["rto"] and i["rto"] != 3_000_000:
        words.append(f"rto:{_g(i['rto'] / 1000)}")
    _plain(words, i, ("backoff",))
    if i["rtt"]:
        words.append(f"rtt:{_g(i['rtt'] / 1000)}/{_g(i['rttvar'] / 1000)}")
    if i["ato"]:
        words.append(f"ato:{_g(i['ato'] / 1000)}")
    _plain(words, i, ("snd_mss=mss", "pmtu", "rcv_mss=rcvmss", "advmss", "snd_cwnd=cwnd"))
    if 0 < i["snd_ssthresh"] < 0xFFFF:
        words.append(f"ssthresh:{i['snd_ssthresh']}")
    _plain(words, i, ("bytes_sent", "bytes_retrans", "bytes_acked", "bytes_received", "segs_out", "segs_in",
                      "data_segs_out", "data_segs_in"))  # fmt: skip
    if i["rtt"] and i["snd_mss"] and i["snd_cwnd"]:
        words.append(f"send {i['snd_cwnd'] * i['snd_mss'] * 8_000_000 / i['rtt']:.0f}bps")
    _plain(words, i, ("last_data_sent=lastsnd", "last_data_recv=lastrcv", "last_ack_recv=lastack"))
    if i["pacing_rate"] and i["pacing_rate"] != 2**64 - 1:
        words.append(f"pacing_rate {i['pacing_rate'] * 8}bps")
    if i["delivery_rate"]:
        words.append(f"delivery_rate {i['delivery_rate'] * 8}bps")
    _plain(words, i, ("delivered", "delivered_ce"))
    if i.get("delivery_rate_app_limited"):
        words.append("app_limited")
    if i["busy_time"]:
        words.append(f"busy:{i['busy_time'] // 1000}ms")
    _plain(words, i, ("unacked",))
    if i["retrans"] or i["total_retrans"]:
        words.append(f"retrans:{i['retrans']}/{i['total_retrans']}")
    _plain(words, i, ("lost",))
    if s.sk_state != St.LISTEN:
        _plain(words, i, ("sacked",))
    _plain(words, i, ("dsack_dups",))
    if i["reordering"] != 3:
        words.append(f"reordering:{i['reordering']}")
    _plain(words, i, ("reord_seen",))
    if i["rcv_rtt"]:
        words.append(f"rcv_rtt:{_g(i['rcv_rtt'] / 1000)}")
    _plain(words, i, ("rcv_space", "rcv_ssthresh", "notsent_bytes=notsent"))
    if i["min_rtt"] and i["min_rtt"] != 0xFFFFFFFF:
        words.append(f"minrtt:{_g(i['min_rtt'] / 1000)}")
    _plain(words, i, ("rcv_ooopack", "snd_wnd"))
    return " " + " ".join(words)


def _plain(words: list[str], i: Mapping[str, int], names: tuple[str, ...]) -> None:
    for name in names:
        field, _, shown = name.partition("=")
        if i.get(field):
            words.append(f"{shown or field}:{i[field]}")
