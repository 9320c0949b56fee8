"""Whose stack it is, as far as a SYN tells: whether Linux wrote it, and with which sysctls.

The order of a SYN's options, its window and its TTL are Linux's own; which options it offers tells three sysctls.
"""

from typing import Final

from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK

MSS: Final = 2
WSCALE: Final = 3
SACK: Final = 4
TIMESTAMPS: Final = 8
NOP: Final = 1
ALIGNED: Final = 12  # bytes of an aligned timestamp option
LEAST: Final = 1_152  # bytes: half of SOCK_MIN_RCVBUF, which no SO_RCVBUF goes below
OTHERS: Final = frozenset({30, 34, 172, 174, 254})  # MPTCP, Fast Open, AccECN, experiments: they stand behind


def kinds(s: Segment) -> list[int]:
    """The kinds of a segment's options in order, read from its bytes; stops where the list makes no sense."""
    found: list[int] = []
    i = s.l4 + 20
    while i < s.payload_at:
        kind = s.data[i]
        if kind == 0:
            break
        found.append(kind)
        n = 1 if kind == NOP else (s.data[i + 1] if i + 1 < s.payload_at else 0)
        if n < 1:
            break
        i += n
    return found


def linux_order(s: Segment) -> list[int]:
    """The options that Linux writes for what the SYN offers, in its order; source tcp_output.c:tcp_options_write."""
    order = [MSS]
    if s.tsval is not None:
        order += [SACK, TIMESTAMPS] if s.sack_perm else [NOP, NOP, TIMESTAMPS]
    elif s.sack_perm:
        order += [NOP, NOP, SACK]
    if s.wscale is not None:
        order += [NOP, WSCALE]
    return order


def not_linux(s: Segment) -> str:
    """Why a SYN or SYN-ACK is not one of Linux's; '' if it may be."""
    if s.mss is None:
        return "its SYN has no MSS option"
    seen = kinds(s)
    while seen and seen[-1] in OTHERS | {NOP}:
        seen.pop()
    if seen != linux_order(s):
        return f"its SYN's options stand in the order {seen}, Linux's would be {linux_order(s)}"
    if s.ttl > 64:
        return f"its TTL is {s.ttl}, Linux starts from 64"
    if s.window < LEAST:
        return f"its SYN's window {s.window} is below that of Linux's least buffer"
    per_segment = [s.mss, s.mss - ALIGNED]
    if s.window > s.mss and all(s.window % m for m in per_segment) and s.window < 65535 * 2:
        if s.window == 65535 and s.wscale:
            return ""
        return f"its SYN's window {s.window} is not a multiple of its MSS {s.mss}"
    return ""


def sysctls(s: Segment, offer: Segment | None) -> dict[str, int]:
    """The sysctls that a SYN's missing options tell; of a SYN-ACK only what the SYN (`offer`) had offered."""
    told: dict[str, int] = {}
    answer = s.flags & ACK != 0 and offer is not None
    if s.tsval is None and (not answer or (offer is not None and offer.tsval is not None)):
        told["net.ipv4.tcp_timestamps"] = 0
    if not s.sack_perm and (not answer or (offer is not None and offer.sack_perm)):
        told["net.ipv4.tcp_sack"] = 0
    if s.wscale is None and (not answer or (offer is not None and offer.wscale is not None)):
        told["net.ipv4.tcp_window_scaling"] = 0
    return told
