"""Mutants of one field of one frame: flags, numbers, windows, options, the network header."""

import random
import struct
from collections.abc import Callable
from typing import Final

from conformance.mutate_edit import (
    ACK_SEQ,
    NOP,
    OPT_MSS,
    OPT_SACK_PERM,
    OPT_TIMESTAMP,
    OPT_WSCALE,
    SEQ,
    Edit,
)
from conformance.mutate_kind import Made, kind
from conformance.mutate_trace import Fact, Trace, ahead, edited, stamp
from refmodel.packet.transport import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG
from refmodel.types import M32

Change = Callable[[Edit, Fact, Trace], bool]


def _one(name: str, says: str, constraint: str, free: str = "", sidecar: bool = False) -> Callable[[Change], Change]:
    """Registers a change of one frame that says whether it applies."""

    def register(change: Change) -> Change:
        def make(t: Trace, k: int, r: random.Random) -> Made | None:
            e = t.edit(k)
            if not change(e, t.facts[k], t):
                return None
            frames = list(t.frames)
            frames[k] = e.frame()
            return Made(frames, k)

        kind(name, says, constraint, free, sidecar)(make)
        return change

    return register


def _flip(bit: int, need: int = 0, without: int = 0) -> Change:
    def change(e: Edit, f: Fact, t: Trace) -> bool:
        if f.s.flags & need != need or f.s.flags & without:
            return False
        e.flags ^= bit
        return True

    return change


def _shift(offset: int, by: int, need: int = 0, without: int = 0) -> Change:
    def change(e: Edit, f: Fact, t: Trace) -> bool:
        if f.s.flags & need != need or f.s.flags & without:
            return False
        e.add(offset, by)
        return True

    return change


# ---------------------------------------------------------------- flags

SENT: Final = "net/ipv4/tcp_output.c:__tcp_transmit_skb"
SEGMENT: Final = "RFC 9293 3.10.7.4"

_one("flag-syn", "SYN set on an established connection's segment", SEGMENT)(_flip(SYN, ACK, SYN | RST))
_one("flag-no-syn", "SYN cleared", "RFC 9293 3.5")(_flip(SYN, SYN))
_one("flag-no-ack", "ACK cleared", "RFC 9293 3.10.7.4")(_flip(ACK, ACK, RST))


@_one("flag-rst", "RST set", "RFC 9293 3.5.2")
def _rst(e: Edit, f: Fact, t: Trace) -> bool:
    """On data, which no reset has, or where its sender goes on as if there had been none."""
    if f.s.flags & (RST | SYN) or not (f.s.len or any(not x.s.flags & RST for x in t.later(f, True))):
        return False
    e.flags |= RST
    return True


@_one("flag-fin", "FIN set or cleared", "RFC 9293 3.10.4", "a FIN that was lost may go again")
def _fin(e: Edit, f: Fact, t: Trace) -> bool:
    """Set where the stream goes on behind it; cleared where it goes on as if it had been sent."""
    s = f.s
    if s.flags & (SYN | RST):
        return False
    behind = (s.seq + s.len) & M32
    if s.flags & FIN:
        again = any(x.s.flags & FIN for x in t.later(f, True))
        acked = any(x.s.flags & ACK and ahead(x.s.ack_seq, behind) > 0 for x in t.later(f, False))
        if again or not acked or not t.is_held(s.daddr):
            return False
    elif not any(x.s.len and ahead(x.s.end_seq, behind) > 0 for x in t.later(f, True)):
        return False
    e.flags ^= FIN
    return True


@_one("flag-psh", "PSH set on a segment without data", "net/ipv4/tcp.c:tcp_mark_push")
def _psh(e: Edit, f: Fact, t: Trace) -> bool:
    if f.s.len or f.s.flags & (PSH | FIN):
        return False
    e.flags ^= PSH
    return True


def _plain_ecn(f: Fact, t: Trace) -> bool:
    """Nobody asked for ECN on this connection, and the capture shows both SYNs."""
    mine, theirs = t.syns.get(f.way), t.syns.get(f.back)
    return bool(mine and theirs and not (mine.flags | theirs.flags) & (ECE | CWR | 0x100))


@_one("ece", "ECE where ECN was not agreed on", "RFC 3168 6.1")
def _ece(e: Edit, f: Fact, t: Trace) -> bool:
    if f.s.flags & (SYN | RST) or not _plain_ecn(f, t):
        return False
    e.flags |= ECE
    return True


@_one("cwr", "CWR where ECN was not agreed on", "RFC 3168 6.1.2")
def _cwr(e: Edit, f: Fact, t: Trace) -> bool:
    if f.s.flags & (SYN | RST) or not f.s.len or not _plain_ecn(f, t):
        return False
    e.flags |= CWR
    return True


@_one("ect", "an ECN-capable packet where ECN was not agreed on", "RFC 3168 6.1.1")
def _ect(e: Edit, f: Fact, t: Trace) -> bool:
    """Of the tapped host: routers may mark what comes from afar."""
    if f.s.flags & (SYN | RST) or f.s.tos & 3 or not _plain_ecn(f, t) or not t.is_near(f):
        return False
    e.tos(f.s.tos | 2)
    return True


@_one("urg-unsaid", "an urgent pointer without URG", SENT)
def _urg(e: Edit, f: Fact, t: Trace) -> bool:
    if f.s.flags & (URG | SYN | RST):
        return False
    e.urgent(1)
    return True


# ---------------------------------------------------------------- sequence numbers


def _traced(f: Fact, t: Trace) -> bool:
    """Nothing of its sender's can have been lost before the tap just before it: the ids say so, or the recorder.

    Or else, on the tapped host, nothing is sent later that would be the lost one again: a single byte, or the FIN.
    """
    if t.follows(f) or t.leaves_whole(f):
        return True
    return t.is_near(f) and not any(x.s.seq == f.s.seq and x.s.seg_len == 1 for x in t.later(f, True))


_one("seq-far", "sequence number plus 2**31", "RFC 9293 3.4")(_shift(SEQ, 1 << 31, without=SYN))


@_one("seq-one", "sequence number plus 1", "RFC 9293 3.4")
def _seq_one(e: Edit, f: Fact, t: Trace) -> bool:
    """Not on a probe, which it turns into a plain acknowledgment."""
    return _traced(f, t) and not _covers_itself(f, t) and _shift(SEQ, 1, without=SYN)(e, f, t)


@_one("seq-back", "sequence number minus 1", "RFC 9293 3.4")
def _seq_back(e: Edit, f: Fact, t: Trace) -> bool:
    """A keepalive or window probe is what an empty segment becomes by it: not behind a silence, nor a closed window.

    Nor where it answers such a probe, which does not end the silence.
    """
    if not f.s.seg_len:
        if f.before < 0 or (f.theirs_before >= 0 and _covers_itself(t.facts[f.theirs_before], t)):
            return False
        quiet = t.frames[f.k].time - t.frames[f.before].time
        if quiet > 150_000_000 or any(not x.s.window for x in t.earlier(f, False)[-4:]):
            return False
    return _traced(f, t) and _shift(SEQ, -1, without=SYN)(e, f, t)


def _covers_itself(f: Fact, t: Trace) -> bool:
    """A keepalive or window probe: one number further it is a plain acknowledgment."""
    return not f.s.seg_len and f.nxt is not None and ahead(f.nxt, f.s.seq) == 1


_one("ack-far", "acknowledgment number plus 2**31", "RFC 9293 3.4")(_shift(ACK_SEQ, 1 << 31, ACK))


@_one("ack-one", "acknowledgment number plus 1", "RFC 9293 3.4")
def _ack_one(e: Edit, f: Fact, t: Trace) -> bool:
    return not f.s.flags & RST and _shift(ACK_SEQ, 1, ACK)(e, f, t)


@_one("ack-back", "acknowledgment number minus 1", "RFC 9293 3.4")
def _ack_back(e: Edit, f: Fact, t: Trace) -> bool:
    return not f.s.flags & RST and _shift(ACK_SEQ, -1, ACK)(e, f, t)


@_one("ack-unseen", "an acknowledgment of a whole segment that was not sent", "RFC 9293 3.10.7.4")
def _ack_unseen(e: Edit, f: Fact, t: Trace) -> bool:
    if f.s.flags & (SYN | RST) or not f.s.flags & ACK:
        return False
    sent = max((ahead(x.s.end_seq, f.s.ack_seq) for x in t.earlier(f, False)), default=0)
    e.add(ACK_SEQ, max(sent, 0) + 1448)
    return True


# ---------------------------------------------------------------- windows


@_one("window-zero", "window 0", "net/ipv4/tcp_output.c:tcp_select_window")
def _window_zero(e: Edit, f: Fact, t: Trace) -> bool:
    """Where the window that was offered before is open still, and so little came that no memory can be full."""
    s = f.s
    syn = t.syns.get(f.way)
    if not t.in_order(f) or s.flags & (RST | SYN) or not s.window or syn is None or syn.window < 60_000:
        return False
    if sum(x.s.len + 1000 for x in t.earlier(f, False)) > 50_000:
        return False
    edges = _edges(f, t)
    if not edges or max(edges) < 2 << t.scale(f.way):
        return False
    e.window(0)
    return True


@_one("window-shrunk", "a right edge further left than offered before", "net/ipv4/tcp_output.c:tcp_select_window")
def _window_shrunk(e: Edit, f: Fact, t: Trace) -> bool:
    s = f.s
    host = t.setup.host_of(s.saddr)
    if (
        not t.in_order(f)
        or s.flags & (RST | SYN)
        or s.window < 4
        or (host is not None and host.sysctls.get("net.ipv4.tcp_shrink_window"))
    ):
        return False
    edges = _edges(f, t)
    if not edges or max(edges) <= (s.window // 2 + 2) << t.scale(f.way):
        return False
    e.window(s.window // 2)
    return True


def _edges(f: Fact, t: Trace) -> list[int]:
    """How far beyond this segment's acknowledgment its sender had offered to take data; a FIN from there ends that."""
    found: list[int] = []
    if any(x.s.flags & FIN for x in t.earlier(f, False)):
        return found
    for x in t.earlier(f, True)[-16:]:
        if x.s.flags & (ACK | RST | SYN) == ACK:
            found.append(ahead(x.s.ack_seq, f.s.ack_seq) + (x.s.window << t.scale(f.way)))
    return found


@_one("window-huge", "a window beyond what any memory gives", "net/ipv4/tcp_output.c:__tcp_select_window", sidecar=True)
def _window_huge(e: Edit, f: Fact, t: Trace) -> bool:
    """More than tcp_rmem[2], which is 6 MiB, from 6.17 on 32 MiB."""
    if f.s.flags & (RST | SYN) or t.scale(f.way) < 7 or f.s.window > 30_000:
        return False
    host = t.setup.host_of(f.s.saddr)
    if host is not None and any("rmem" in x for x in host.sysctls):
        return False
    e.window(65_535)
    return True


@_one("wscale", "window scale plus 1", "net/ipv4/tcp_output.c:tcp_select_initial_window", sidecar=True)
def _wscale(e: Edit, f: Fact, t: Trace) -> bool:
    """Beyond what the default gives: 7 for 6 MiB, from 6.17 on 10 for 32 MiB; SO_RCVBUF can only make it less."""
    at = e.option(OPT_WSCALE)
    host = t.setup.host_of(f.s.saddr)
    if at < 0 or (host is not None and any("rmem" in x for x in host.sysctls)):
        return False
    if e.data[at + 2] != (10 if t.setup.kernel == "6.18" else 7):
        return False
    e.data[at + 2] += 1
    return True


@_one("wscale-small", "window scale less by so much that the peer sends beyond the window", "RFC 7323 2.3")
def _wscale_small(e: Edit, f: Fact, t: Trace) -> bool:
    at = e.option(OPT_WSCALE)
    if at < 0 or not f.s.flags & SYN or t.scale(f.way) != e.data[at + 2]:
        return False
    for less in range(1, e.data[at + 2] + 1):
        if _beyond(f, t, less):
            e.data[at + 2] -= less
            return True
    return False


def _beyond(f: Fact, t: Trace, less: int) -> bool:
    """With windows so much smaller the peer sends two segments' worth beyond the highest edge."""
    shift = t.scale(f.way) - less
    edge: int | None = None
    for k in range(f.k, len(t.frames)):
        x = t.facts.get(k)
        if x is None:
            continue
        if x.way == f.way and x.s.flags & ACK and not x.s.flags & RST:
            right = (x.s.ack_seq + (x.s.window << (0 if x.s.flags & SYN else shift))) & M32
            if edge is None or ahead(right, edge) > 0:
                edge = right
        elif x.way == f.back and x.s.len and edge is not None and ahead(x.s.end_seq, edge) > 3000:
            return True
    return False


# ---------------------------------------------------------------- options


def _timestamp(value: int, echo: int) -> Change:
    def change(e: Edit, f: Fact, t: Trace) -> bool:
        s = f.s
        if s.tsval is None or (echo and not s.flags & ACK) or (value and s.flags & SYN):
            return False
        stamp(e, value, echo)
        return True

    return change


CLOCK: Final = "net/ipv4/tcp_output.c:tcp_established_options"
_one("ts-value", "TSval plus 100,000", CLOCK, "the first TSval is free")(_timestamp(100_000, 0))
_one("ts-back", "TSval minus 5,000", "RFC 7323 5.4")(_timestamp(-5_000, 0))
_one("ts-echo", "TSecr plus 1,000", "RFC 7323 4.3")(_timestamp(0, 1_000))


@_one("ts-echo-back", "TSecr less than was echoed before", "RFC 7323 4.3")
def _echo_back(e: Edit, f: Fact, t: Trace) -> bool:
    s = f.s
    if s.tsecr is None or f.mine_before < 0 or s.flags & (SYN | RST) or not t.in_order(f):
        return False
    old = t.facts[f.mine_before].s.tsecr
    if not old:
        return False
    stamp(e, 0, old - 10 - s.tsecr)
    return True


def _no_option(option: int) -> Change:
    def change(e: Edit, f: Fact, t: Trace) -> bool:
        at = e.option(option)
        if at < 0:
            return False
        size = e.data[at + 1]
        e.data[at : at + size] = bytes((NOP,)) * size
        return True

    return change


_one("no-timestamps", "timestamp option removed", "RFC 7323 3.2")(_no_option(OPT_TIMESTAMP))
_one("no-sack-permitted", "SACK permitted removed from a SYN", "net/ipv4/tcp_output.c:tcp_syn_options", sidecar=True)(
    _no_option(OPT_SACK_PERM)
)


@_one("options-order", "NOP NOP behind the timestamp, not before it", "net/ipv4/tcp_output.c:tcp_options_write")
def _order(e: Edit, f: Fact, t: Trace) -> bool:
    area = e.options
    if area[:4] != bytes((NOP, NOP, OPT_TIMESTAMP, 10)):
        return False
    e.set_options(area[2:12] + area[:2] + area[12:])
    return True


@_one("mss-small", "a SYN's MSS below what the peer then sends", "RFC 9293 3.7.1")
def _mss_small(e: Edit, f: Fact, t: Trace) -> bool:
    """Where the IPv4 ids say that the peer's segments of that size are no super-segments."""
    at = e.option(OPT_MSS)
    sizes = [x.s.len for x in t.later(f, False) if x.s.len and _single(x, t)]
    if at < 0 or not f.s.flags & SYN or not sizes or not 600 < max(sizes) <= (f.s.mss or 0):
        return False
    struct.pack_into("!H", e.data, at + 2, max(sizes) - 40)
    return True


def _single(f: Fact, t: Trace) -> bool:
    """One segment by its id: the next frame of the socket has the next one."""
    behind = t.facts[f.mine_behind].s.ip_id if f.mine_behind >= 0 else None
    return bool(f.s.ip_id and behind) and behind == ((f.s.ip_id or 0) + 1) & 0xFFFF


# ---------------------------------------------------------------- the network header


@_one("ttl", "TTL minus 1", "net/ipv4/ip_output.c:ip_select_ttl", sidecar=True)
def _ttl(e: Edit, f: Fact, t: Trace) -> bool:
    """Of the tapped host: what comes from afar may have taken another way."""
    if not t.is_near(f):
        return False
    e.ttl(f.s.ttl - 1)
    return True


@_one("no-df", "DF cleared", "net/ipv4/ip_output.c:__ip_queue_xmit")
def _no_df(e: Edit, f: Fact, t: Trace) -> bool:
    if not e.v4 or not f.s.df:
        return False
    e.data[e.l3 + 6] &= 0xBF
    return True


def _id(by: int) -> Change:
    def change(e: Edit, f: Fact, t: Trace) -> bool:
        """Where the ids of the socket around it are in step."""
        s = f.s
        if not s.ip_id or f.mine_before < 0 or f.mine_behind < 0:
            return False
        a, b = t.facts[f.mine_before].s.ip_id, t.facts[f.mine_behind].s.ip_id
        if not a or not b or not 0 < (s.ip_id - a) & 0xFFFF < 64 or not 0 < (b - s.ip_id) & 0xFFFF < 64:
            return False
        e.ip_id(by)
        return True

    return change


STEP: Final = "include/net/ip.h:ip_select_ident_segs"
_one("id-ahead", "IPv4 id plus 1,000", STEP)(_id(1000))
_one("id-back", "IPv4 id minus 1,000", STEP)(_id(-1000))


# ---------------------------------------------------------------- payload


def _shorter(t: Trace, k: int, r: random.Random) -> Made | None:
    """One byte of payload less where its sender or its peer goes on as if it had been sent."""
    f = t.facts[k]
    s = f.s
    if s.len < 2 or s.flags & (SYN | FIN) or f.again or len(s.payload) < s.len or not _traced(f, t):
        return None
    gone_on = any(x.s.seq == s.end_seq and x.s.seg_len for x in t.later(f, True))
    acked = t.is_held(s.daddr) and any(
        x.s.flags & ACK and ahead(x.s.ack_seq, s.end_seq) >= 0 for x in t.later(f, False)
    )
    repeated = any(x.s.len and ahead(x.s.seq, s.end_seq) < 0 < ahead(x.s.end_seq, s.seq) for x in t.later(f, True))
    if not (gone_on or acked) or repeated:
        return None
    e = t.edit(k)
    e.set_payload(s.payload[:-1])
    frames = list(t.frames)
    frames[k] = e.frame()
    return Made(frames, k)


kind("shorter", "one byte of payload less", "RFC 9293 3.4", "a segment that was lost before the tap")(_shorter)


def _behind_fin(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not f.pure_ack or not any(x.s.flags & FIN for x in t.earlier(f, True)) or f.nxt != f.s.seq:
        return None
    frames = list(t.frames)
    frames[k] = edited(frames[k], lambda e: e.set_payload(b"behind"))
    return Made(frames, k)


kind("data-behind-fin", "data behind the FIN", "RFC 9293 3.10.4")(_behind_fin)
