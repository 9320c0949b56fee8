"""Whose stack an end is: Linux or not, of which generation, with the evidence.

The law: a sidecar decides. Without one the handshake decides: the order of a SYN's options, its TTL, window and window
scale are Linux's own, and what rewrote them on the way is as foreign as another stack. A capture that starts in
mid-connection shows no handshake; then the form of the first frames decides. Never does a single odd frame behind a
handshake of Linux's make its end foreign.

The first window tells the kernel's age, since its default grew: 4, 10, then 20 segments, and from 4.20 on what fits
a SYN. Where neither it nor the count of ids and the clock show a kernel that is modelled, what no such
kernel would have sent shows that it was another.
"""

from collections.abc import Sequence
from typing import Final

from conformance.check.infer import ALIGNED as TIMESTAMP
from conformance.check.infer import kinds, linux_order, not_linux, sysctls
from conformance.check.setup import Setup
from conformance.oracle.end import Stack
from conformance.oracle.ids import Ids
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.types import M32

Who = tuple[bytes, int]

ALIGNED: Final = b"\x01\x01\x08\x0a"
BEHIND: Final = frozenset({1, 30, 34, 172, 174, 254})  # MPTCP, Fast Open, AccECN, experiments
LINUX_TTL: Final = 64
FASTOPEN: Final = 34
OLD_WINDOWS: Final = (4, 10, 20)  # segments in a first window, by default, before 4.20
SEGMENT: Final = 1460  # bytes: longer segments are counted as so many of these
OLD_BUFFER: Final = 43_690  # bytes: half of tcp_rmem[1] before 4.20
SYN_WINDOW: Final = 65_536  # bytes: half of tcp_rmem[1] since
LONG: Final = 100  # ms in which a clock's rate can be told


def infer_stack(early: Sequence[Segment], who: Who, setup: Setup) -> Stack:
    """The stack of the end `who`, from the sidecar or from a connection's first frames."""
    host = setup.host_of(who[0])
    stack = Stack(kernel=setup.kernel, hz=setup.hz, late=setup.late, host=host)
    stack.sure = bool(setup.hosts) or bool(setup.extra.get("told", True))
    if host is not None:
        stack.given = True
        stack.linux = host.linux
        stack.told = dict(host.sysctls)
        if not host.linux:
            stack.why_not = "its frames were crafted, the sidecar says"
        return stack
    if setup.hosts:
        # A sidecar names the hosts that were recorded: this address is behind a translation, or a stranger's.
        stack.evidence.append("no host of the sidecar has its address")
    own = [s for s in early if (s.saddr, s.source) == who]
    peers = [s for s in early if (s.daddr, s.dest) == who]
    syn = next((s for s in own if s.flags & (SYN | RST) == SYN), None)
    if syn is None:
        _without_syn(stack, own)
        stack.sure = stack.sure or any(s.mss is not None and not not_linux(s) and recent(s) for s in own)
        return stack
    offer = next((s for s in peers if s.flags & (SYN | ACK | RST) == SYN), None) if syn.flags & ACK else None
    why = foreign_syn(syn, offer)
    if not (why or stack.sure):
        why = older(syn)
        stack.sure = not why and recent(syn)
    if why:
        stack.linux, stack.why_not = False, why
        return stack
    if not stack.sure:
        stack.evidence.append(f"its first window {syn.window} is no default of a kernel that is modelled")
    stack.told = sysctls(syn, offer)
    stack.evidence.append(f"Linux: options {kinds(syn)} in its order, TTL {syn.ttl}, window {syn.window}")
    stack.evidence += [f"{n} = {v}: its SYN tells" for n, v in stack.told.items()]
    if syn.wscale is not None and syn.wscale > 7:
        stack.evidence.append(f"window scale {syn.wscale}: tcp_rmem[2] above 6 MiB, as from 6.17 on")
    later = [s for s in own if s is not syn and not s.flags & (SYN | RST)]
    why = _frames(later) or _numbers([s for s in own if s.flags & (SYN | ACK) == SYN] + later)
    if why:
        stack.linux, stack.why_not = False, why
    return stack


def foreign_syn(s: Segment, offer: Segment | None = None) -> str:
    """Why a SYN or SYN-ACK is not one of Linux's; '' if it may be. `offer` is the SYN that a SYN-ACK answers."""
    if s.truncated:
        return ""
    why = not_linux(s)
    if why:
        if s.mss is None and not kinds(s):
            return "its SYN has no options: a generator's, or stripped on the way"
        return why
    if s.flags & ACK and offer is not None:
        if s.wscale is not None and offer.wscale is None:
            return "its SYN-ACK has a window scale, though the SYN had none: something between rewrote one of them"
        if s.sack_perm and not offer.sack_perm:
            return "its SYN-ACK permits SACK, though the SYN did not: something between rewrote one of them"
        if s.tsval is not None and offer.tsval is None:
            return "its SYN-ACK has a timestamp, though the SYN had none: something between rewrote one of them"
    if not s.flags & ACK and s.tsecr:
        return ""
    if s.wscale is not None and s.wscale > 14:
        return f"its window scale is {s.wscale}"
    if s.window == 0:
        return "its SYN has a closed window"
    if s.ip_id is not None and not s.df and s.flags & ACK and s.ttl > LINUX_TTL:
        return "its SYN-ACK has neither DF nor Linux's TTL"
    return ""


def _units(s: Segment) -> list[int]:
    """What a segment of a SYN's sender may hold."""
    mss = s.mss or 0
    return [n for n in (mss, mss - TIMESTAMP) if n > 0]


def recent(s: Segment) -> bool:
    """Whether a SYN's window is that of a kernel from 4.20 on with its own buffers: all that a SYN can offer.

    Source net/ipv4/tcp_output.c:tcp_select_initial_window, net/ipv4/tcp.c:tcp_init (tcp_rmem[1]).
    """
    return any(s.window == SYN_WINDOW - SYN_WINDOW % n for n in _units(s))


def older(s: Segment) -> str:
    """Why a SYN that looks like Linux's is one of a kernel before 4.20; '' if it need not be."""
    if s.truncated or s.mss is None or s.wscale == 0:
        return ""  # the scale of a small buffer is 0: its window is the application's choice
    for n in _units(s):
        for count in OLD_WINDOWS if n <= SEGMENT else OLD_WINDOWS[1:]:
            segments = count if n <= SEGMENT else max(count * SEGMENT // n, 2)
            if s.window == segments * n:
                return f"its SYN's window {s.window} is of {segments} segments, the default before Linux 4.20"
        if n > SEGMENT and s.window == OLD_BUFFER:
            return f"its SYN's window {s.window} is half of the default buffer before Linux 4.20"
    return ""


def shows(own: Sequence[Segment], unit: int) -> bool:
    """Whether frames without a handshake show Linux: a socket's ids and clock, or the RSTs of none.

    `unit`: the most that one segment holds (0: not known). Of a socket the ids count the segments, and the clock counts
    ms as from 4.13 on; other stacks count ids of all that they send, draw them or have none. Where there is no socket
    an RST has the id 0 and DF (net/ipv4/ip_output.c:ip_send_unicast_reply).
    """
    if own and all(s.flags & RST and not (s.ip_id or s.window) and s.df and s.ttl == LINUX_TTL for s in own):
        return True
    ids = Ids()
    stamped = [s for s in own if s.tsval is not None and not s.flags & (SYN | RST)]
    for s in stamped:
        ids.see(s, unit)
    return ids.trusted and _in_ms(stamped)


def _in_ms(stamped: Sequence[Segment]) -> bool:
    """Whether timestamps count ms, over so long a time that it can be told."""
    first, last = stamped[0], stamped[-1]
    passed = (last.time - first.time) // 1_000_000
    ticks = ((last.tsval or 0) - (first.tsval or 0)) & M32
    return passed >= LONG and passed * 9 <= ticks * 10 <= passed * 11


def _without_syn(stack: Stack, own: Sequence[Segment]) -> None:
    """A capture in mid-connection, or a host that only resets: the frames' form must do."""
    whole = [s for s in own if not s.flags & RST]
    why = _frames(whole) or _numbers(whole) or _flags(own)
    if own and own[0].ttl > LINUX_TTL:
        why = why or f"its TTL is {own[0].ttl}, Linux starts from 64"
    if why:
        stack.linux, stack.why_not = False, why
    elif own:
        stack.evidence.append("taken for Linux: nothing in its first frames says otherwise, its handshake was not seen")


def _numbers(own: Sequence[Segment]) -> str:
    """Why the IPv4 ids are not Linux's: a socket counts its segments (include/net/ip.h:ip_select_ident_segs).

    An ACK alone may come from no full socket, and then has the id 0.
    """
    full = [s for s in own if s.len or s.flags & (SYN | FIN)]
    if len(full) > 1 and all(s.ip_id == 0 for s in own):
        return "its segments have the IPv4 id 0, where Linux counts"
    return ""


def _flags(own: Sequence[Segment]) -> str:
    """Why the flags are not Linux's, if more than one segment says so.

    A SYN with FIN, none of ACK, SYN and RST, or an RST without ACK that has a window.
    Source: net/ipv4/tcp_output.c:tcp_init_nondata_skb and its callers, net/ipv4/tcp_ipv4.c:tcp_v4_send_reset.
    """
    odd = [
        s
        for s in own
        if s.flags & (SYN | FIN) == SYN | FIN
        or not s.flags & (ACK | SYN | RST)
        or (s.flags & (ACK | RST) == RST and s.window)
    ]
    return f"its frames {odd[0].number} and {odd[1].number} have flags that no Linux sets" if len(odd) > 1 else ""


def _frames(own: Sequence[Segment]) -> str:
    """Why the form of segments behind the handshake is not Linux's, if more than one says so."""
    stamped = [s for s in own if s.tsval is not None and not s.truncated]
    odd = [s for s in stamped if s.data[s.l4 + 20 : s.l4 + 24] != ALIGNED and kinds(s)[:3] != [1, 1, 19]]
    if len(odd) > 1 and len(odd) == len(stamped):
        return f"its timestamps are not aligned as Linux aligns them: options {kinds(odd[0])}"
    return ""


__all__ = ["foreign_syn", "infer_stack", "linux_order"]
