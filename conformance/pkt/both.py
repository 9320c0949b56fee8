"""The same script on the model and on a kernel: where the two differ from each other, whatever the script says."""

import errno
import re
from collections.abc import Mapping
from typing import Final

from conformance.pkt.constants import word_set
from conformance.pkt.outcome import Outcome, Sent

LATE: Final = 20_000  # us that a kernel may be late
LATE_PERCENT: Final = 12.5
MEASURED: Final = word_set("""
    rtt rttvar min_rtt rto ato rcv_rtt last_data_sent last_ack_sent last_data_recv last_ack_recv pacing_rate
    delivery_rate busy_time rwnd_limited sndbuf_limited total_rto_time
""")
"""Fields of TCP_INFO that a clock makes: no two runs on a kernel have the same."""
COUNTED: Final = ("Tcp", "Udp", "Icmp")
_NEIGHBOURS: Final = re.compile(r"Icmp6(Out|In)(Type(13[0-7]|143)|Msgs|(MLDv2|Group|Router|Neighbor).*)")
"""What a host says by itself of IPv6 groups and neighbours, and sums over it."""
_LABELS: Final = re.compile(r"(TS) val \d+ ecr \d+|(md5) [0-9a-f]+")
"""Time stamps, and digests, which cover ports and numbers that a stack chooses."""


def difference(model: Outcome, kernel: Outcome) -> str:
    """The first thing in which two runs differ, with the model's reason; '' where nothing does.

    Values of time stamps and MD5 digests are left out, sequence numbers count from the SYN of each incarnation, and
    times are compared as far as a machine at work keeps them.
    """
    for n, (a, b) in enumerate(zip(model.packets, kernel.packets, strict=False), 1):
        if _plain(a) != _plain(b):
            return _shown(n, a, b, model)
        if abs(a.time - b.time) > LATE + LATE_PERCENT / 100 * max(a.time, b.time):
            return f"packet {n} leaves at another time\n" + _pair(a, b)
    for ours, theirs in zip(model.returns, kernel.returns, strict=False):
        if ours != theirs:
            values = f"{_value(ours.value)} on the model, {_value(theirs.value)} on the kernel"
            return f"line {ours.line}: {ours.call} returns {values}"
    for mine, live in zip(model.infos, kernel.infos, strict=False):
        apart = [
            f"{n} is {v} on the model, {live.values[n]} on the kernel"
            for n, v in mine.values.items()
            if n in live.values
            and live.values[n] != v
            and n.removeprefix("tcpi_") not in MEASURED
            and not n.startswith("bbr_")
        ]
        if apart:
            return f"line {mine.line}: {'; '.join(apart)}"
    if len(model.packets) != len(kernel.packets) and model.status == kernel.status:
        n = min(len(model.packets), len(kernel.packets))
        who, more = ("model", model.packets) if len(model.packets) > n else ("kernel", kernel.packets)
        return f"only the {who} sends a packet {n + 1}: {more[n].text} at {more[n].time / 1e6:.6f} s{_by(more[n])}"
    if (model.status, model.line) != (kernel.status, kernel.line):
        return f"the model {_end(model)}, the kernel {_end(kernel)}"
    if (model.field, model.got) != (kernel.field, kernel.got) and model.field != "time":
        return f"{model.field or kernel.field} is {model.got or '?'} on the model, {kernel.got or '?'} on the kernel"
    return ""


def counters(model: Mapping[str, int], kernel: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """The counters of TCP, UDP and ICMP that differ: name, the model's, the kernel's."""
    names = sorted(n for n in {*model, *kernel} if n.startswith(COUNTED) and not _NEIGHBOURS.fullmatch(n))
    return [(n, model.get(n, 0), kernel.get(n, 0)) for n in names if model.get(n, 0) != kernel.get(n, 0)]


def _plain(packet: Sent) -> str:
    return _LABELS.sub(lambda m: m[1] or m[2], packet.text)


def _pair(a: Sent, b: Sent) -> str:
    return f"  model  {a.time / 1e6:.6f} {a.text}{_by(a)}\n  kernel {b.time / 1e6:.6f} {b.text}"


def _shown(n: int, a: Sent, b: Sent, model: Outcome) -> str:
    reasons = f"\n{model.why}" if model.why and model.packets and model.packets[-1] is a else ""
    return f"packet {n} is another one\n{_pair(a, b)}{reasons}"


def _by(packet: Sent) -> str:
    if not packet.by:
        return ""
    from conformance.pkt.model_why import citation

    return f"\n         by {citation(packet.by)}"


def _value(value: int) -> str:
    return f"-1 {errno.errorcode.get(-value, -value)}" if value < 0 else str(value)


def _end(outcome: Outcome) -> str:
    return outcome.status if not outcome.line else f"{outcome.status} at line {outcome.line}"
