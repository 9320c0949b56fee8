"""Mutants of order and time: frames left out, put in, exchanged, sent too early or too late."""

import random
from typing import Final

from msgspec.structs import replace

from conformance.mutate_edit import ACK_SEQ, SEQ, Edit
from conformance.mutate_kind import Made, kind
from conformance.mutate_trace import MS, Fact, Trace, ahead, edited, postponed, restamped, stamp, with_ids
from refmodel.packet.transport import ACK, FIN, RST, SYN

LATE: Final = 3_000  # ms: longer than any timer's slack
DELACK: Final = 700  # ms: longer than any delayed acknowledgment, with its slack
TIMER: Final = 150 * MS  # ns: what was sent after such a silence, a timer sent
STEP: Final = 1_000  # ns
PATH: Final = 4_000  # ms: longer than any frame is on its way
LEAD: Final = 1_000_000  # ns: more than stamps of two processors differ by
PROBED: Final = 3 * MS  # ns: with LEAD, sooner than a tail is probed, beyond two round trips
FIRST_TIMEOUT: Final = 1_000 * MS  # ns, TCP_TIMEOUT_INIT: a round trip as long may be of a SYN that was lost
IW: Final = 10  # segments: the initial window

# ---------------------------------------------------------------- left out


def _shown(t: Trace, f: Fact) -> bool:
    """The peer shows that it got the frame, and it was not sent twice."""
    s = f.s
    if not s.seg_len or f.again or f.k == len(t.frames) - 1 or f.before < 0:
        return False
    if any(x.s.seg_len and ahead(x.s.seq, s.end_seq) < 0 for x in t.later(f, True)):
        return False
    return t.is_held(s.daddr) and any(
        x.s.flags & (ACK | RST) == ACK and ahead(x.s.ack_seq, s.end_seq) >= 0 for x in t.later(f, False)
    )


@kind("drop", "a frame removed that the peer acknowledges", "RFC 9293 3.4", sidecar=True)
def _drop(t: Trace, k: int, r: random.Random) -> Made | None:
    """Where the recorder counted what its tap missed, and that was nothing."""
    taps = t.setup.extra.get("taps", {})
    if not _shown(t, t.facts[k]) or taps.get("dropped") != 0 or taps.get("start") != "whole":
        return None
    return Made([*t.frames[:k], *t.frames[k + 1 :]], -1, k)


@kind("unsent", "a frame removed that the peer acknowledges, and the ids closed up", "RFC 9293 3.4", sidecar=True)
def _unsent(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not _shown(t, f) or not f.s.ip_id or f.s.len > (t.syns[f.back].mss or 0 if f.back in t.syns else 0):
        return None
    frames = list(t.frames)
    with_ids(t, frames, f.way, k, -1)
    return Made([*frames[:k], *frames[k + 1 :]], -1, k)


@kind("ack-withheld", "an acknowledgment left out that was due", "net/ipv4/tcp_input.c:__tcp_ack_snd_check",
      "the frame that it answers was dropped behind the tap", sidecar=True)  # fmt: skip
def _withheld(t: Trace, k: int, r: random.Random) -> Made | None:
    """Where its sender says nothing more for longer than any delay, and the peer does not send again."""
    f = t.facts[k]
    if not f.pure_ack or f.acks <= 0 or f.mine_behind < 0:
        return None
    silent = t.frames[f.mine_behind].time - t.frames[k].time
    since = t.frames[k].time - t.frames[f.theirs_before].time if f.theirs_before >= 0 else 0
    if silent + since < DELACK * MS:
        return None
    end = t.frames[f.mine_behind].time
    for x in t.later(f, False):
        if x.s.time >= end:
            break
        if x.s.seg_len and ahead(x.s.seq, f.s.ack_seq) < 0:
            return None  # the peer sends it again: it had not heard of it either
    frames = list(t.frames)
    with_ids(t, frames, f.way, k, -1)
    return Made([*frames[:k], *frames[k + 1 :]], -1, k)


# ---------------------------------------------------------------- put in


@kind("repeat", "a segment sent twice within a microsecond", "net/ipv4/tcp_output.c:__tcp_retransmit_skb",
      "a second answer to an input that came twice")  # fmt: skip
def _repeat(t: Trace, k: int, r: random.Random) -> Made | None:
    """With the next IPv4 id: one with the same is the same packet seen twice, as on bridges."""
    f = t.facts[k]
    if not f.s.ip_id or f.s.flags & RST or (not f.s.len and f.acks <= 0 and not f.s.seg_len):
        return None
    if not _answers_show(t, f):
        return None
    frames = list(t.frames)
    n = t.packets(f)
    with_ids(t, frames, f.way, k, n)
    again = edited(replace(t.frames[k], time=t.frames[k].time + STEP), lambda e: e.ip_id(n))
    return Made([*frames[: k + 1], again, *frames[k + 1 :]], k + 1)


def _answers_show(t: Trace, f: Fact) -> bool:
    """What reached a far host twice behind the tap would show: in a DSACK, or in the timestamp of what it sent then.

    But not what comes late without text, which is answered by such an acknowledgment (tcp_validate_incoming).
    """
    if t.is_near(f):
        return True
    if f.s.seg_len:
        return f.s.tsval is not None
    return t.both_sack(f.way) and not t.empty_under_way(f, PATH * MS)


@kind("ack-uncaused", "an acknowledgment that nothing caused", "net/ipv4/tcp_input.c:tcp_ack_snd_check")
def _uncaused(t: Trace, k: int, r: random.Random) -> Made | None:
    """In a silence, a copy of the sender's last pure acknowledgment."""
    f = t.facts[k]
    if not f.pure_ack or not f.s.ip_id or f.behind < 0 or f.s.sack or (f.nxt is not None and f.s.seq != f.nxt):
        return None
    gap = t.frames[f.behind].time - t.frames[k].time
    if gap < 20 * MS or t.is_far(f) or not _answers_show(t, f):
        return None
    at = t.frames[k].time + min(gap // 2, 15 * MS)
    frames = list(t.frames)
    with_ids(t, frames, f.way, k, 1)
    ms = (at - t.frames[k].time) // MS

    def later(e: Edit) -> None:
        e.ip_id(1)
        stamp(e, ms, 0)

    new = edited(replace(t.frames[k], time=at), later)
    j = next(i for i in range(k + 1, len(frames)) if frames[i].time >= at)
    return Made([*frames[:j], new, *frames[j:]], j)


@kind(
    "retransmit-acked", "data sent again that had long been acknowledged", "net/ipv4/tcp_output.c:__tcp_retransmit_skb"
)
def _acked(t: Trace, k: int, r: random.Random) -> Made | None:
    """Behind a frame whose TSecr or acknowledgment shows that its sender had processed the peer's acknowledgment."""
    f = t.facts[k]
    s = f.s
    if not s.len or s.flags & SYN or f.again or not s.ip_id:
        return None
    acked = next((x for x in t.later(f, False) if x.s.flags & ACK and ahead(x.s.ack_seq, s.end_seq) >= 0), None)
    if acked is None:
        return None
    for x in t.later(acked, False):  # what its sender sent after it processed that
        if x.s.len and x.nxt is not None and ahead(x.s.seq, s.end_seq) >= 0 and x.s.time - acked.s.time > 50 * MS:
            if not _has(x, acked):
                return None
            j = x.k
            break
    else:
        return None
    frames = list(t.frames)
    with_ids(t, frames, f.way, j, t.packets(f))
    shown = t.facts[j].s
    step = t.packets(t.facts[j])
    ms = (shown.tsval - s.tsval) if shown.tsval is not None and s.tsval is not None else 0

    def again(e: Edit) -> None:
        stamp(e, ms, (shown.tsecr or 0) - (s.tsecr or 0))
        e.add(ACK_SEQ, shown.ack_seq - s.ack_seq)
        e.window(shown.window)
        e.ip_id(((shown.ip_id or 0) + step - (s.ip_id or 0)) & 0xFFFF)

    new = edited(replace(t.frames[k], time=t.frames[j].time + STEP, interface=t.frames[j].interface), again)
    return Made([*frames[: j + 1], new, *frames[j + 1 :]], j + 1)


def _has(x: Fact, cause: Fact) -> bool:
    """The sender of `x` shows that it had got its peer's frame `cause`, or one that was sent after it."""
    if x.s.tsecr is not None and cause.s.tsval is not None:
        return ahead(x.s.tsecr, cause.s.tsval) >= 0
    return ahead(x.s.ack_seq, cause.s.seq) > 0


# ---------------------------------------------------------------- exchanged


@kind("swap", "two segments of the tapped host in each other's place", "net/ipv4/tcp_output.c:tcp_write_xmit",
      sidecar=True)  # fmt: skip
def _swap(t: Trace, k: int, r: random.Random) -> Made | None:
    """Frames of the far host, or behind a queue of its own, may be reordered; stamps of two processors differ by us."""
    f = t.facts[k]
    j = f.mine_behind
    if j < 0 or not t.leaves_whole(f, ("qdisc",)):
        return None
    a, b = t.frames[k], t.frames[j]
    if b.time - a.time < LEAD:
        return None
    if f.s.data[f.s.l4 :] == t.facts[j].s.data[t.facts[j].s.l4 :]:
        return None
    frames = list(t.frames)
    frames[k], frames[j] = replace(b, time=a.time), replace(a, time=b.time)
    return Made(frames, k)


@kind("early", "a frame before the one that it acknowledges", "RFC 9293 3.10.7.4")
def _early(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    j = f.theirs_before
    if j < 0 or not f.s.flags & ACK or f.s.flags & RST:
        return None
    cause = t.facts[j]
    if not cause.s.seg_len or cause.again or ahead(f.s.ack_seq, cause.s.end_seq) < 0:
        return None
    if cause.before < 0:
        return None
    return _ahead_of(t, k, j)


def _ahead_of(t: Trace, k: int, j: int) -> Made | None:
    """Frame `k` 1 ms before frame `j`, with the timestamps of then; more than stamps of two processors differ by."""
    f, cause = t.facts[k], t.facts[j]
    at = t.frames[j].time - LEAD
    if max(t.frames[x].time for x in (cause.before, f.mine_before) if x >= 0) >= at:
        return None
    ms = -((t.frames[k].time - at) // MS)
    frames = list(t.frames)
    if f.s.tsval is not None:
        old = t.facts[f.mine_before].s.tsecr if f.mine_before >= 0 else None
        echo = (old or 0) - (f.s.tsecr or 0) if j > f.mine_before and old else 0
        restamped(t, frames, {k: ms})
        frames[k] = edited(frames[k], lambda e: stamp(e, 0, echo))
    moved = replace(frames.pop(k), time=at)
    place = next(i for i, x in enumerate(frames) if x.time >= at)
    return Made([*frames[:place], moved, *frames[place:]], place)


@kind(
    "beyond-cwnd", "new data before the acknowledgment that made room for them", "net/ipv4/tcp_output.c:tcp_cwnd_test"
)
def _beyond_cwnd(t: Trace, k: int, r: random.Random) -> Made | None:
    """At the start: ten segments are out, and the eleventh goes before the first acknowledgment comes."""
    f = t.facts[k]
    if not f.s.len or f.again or f.theirs_before < 0 or f.back not in t.syns:
        return None
    ack = t.facts[f.theirs_before]
    data = [x for x in t.earlier(f, True) if x.s.len]
    if not ack.pure_ack or len(data) != IW or f.mine_before > ack.k:
        return None
    whole = {x.s.len for x in (*data, f)} == {data[0].s.len} and data[0].s.len <= (t.syns[f.back].mss or 0)
    together = len({x.theirs_before for x in data}) == 1 and not any(x.again for x in data)
    if not whole or not together or ahead(ack.s.ack_seq, data[0].s.seq) <= 0:
        return None
    mine, theirs = t.syns.get(f.way), t.syns[f.back]
    trip = theirs.time - mine.time if mine is not None and 0 < theirs.time - mine.time < FIRST_TIMEOUT else 0
    if ack.s.time - data[-1].s.time > 2 * trip + PROBED:
        return None  # a tail's probe may be a new segment: it is due after two round trips and 2 ms
    return _ahead_of(t, k, ack.k)


@kind("beyond-window", "new data before the acknowledgment that opens the window for them", "RFC 9293 3.8.6")
def _beyond_window(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not f.s.len or f.again or f.theirs_before < 0 or f.mine_before > f.theirs_before or not t.is_held(f.s.daddr):
        return None
    ack = t.facts[f.theirs_before]
    edge = 0
    for x in t.earlier(f, False):
        if x.k != ack.k and x.s.flags & (ACK | RST) == ACK:
            width = x.s.window << (0 if x.s.flags & SYN else t.scale(x.way))
            edge = max(edge, ahead(x.s.ack_seq, f.s.seq) + width)
    if not ack.pure_ack or not 0 <= edge < f.s.len or len(t.earlier(f, False)) < 3:
        return None
    return _ahead_of(t, k, ack.k)


# ---------------------------------------------------------------- too late


@kind("late", "an answer of the handshake, or a reset, 3 s later", "RFC 9293 3.10.7")
def _late(t: Trace, k: int, r: random.Random) -> Made | None:
    """What it answers was not sent again meanwhile, so it had not been lost; the ids, or the tap's place, tell that.

    And it was not sent earlier, and lost before the tap.
    """
    f = t.facts[k]
    if f.before < 0 or f.before != f.theirs_before:
        return None
    cause = t.facts[f.before]
    third = not f.s.len and f.pure_ack and cause.s.flags & (SYN | ACK) == SYN | ACK
    if not (
        third or (f.s.flags & (SYN | ACK) == SYN | ACK and not f.again) or (f.s.flags & RST and cause.s.flags & SYN)
    ):
        return None
    silent = cause.mine_behind >= 0 and t.follows(t.facts[cause.mine_behind])
    if not t.is_held(cause.s.saddr) or not (t.leaves_whole(f) or t.leaves_whole(cause) or silent):
        return None
    return Made(postponed(t, k, LATE * MS), k)


@kind("ack-late", "an acknowledgment delayed by 700 ms", "net/ipv4/tcp_output.c:tcp_send_delayed_ack",
      "the frame that it answers was dropped behind the tap")  # fmt: skip
def _ack_late(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not f.pure_ack or f.acks <= 0 or f.theirs_before < 0 or f.before != f.theirs_before:
        return None
    if t.is_far(f):
        return None
    return Made(postponed(t, k, DELACK * MS), k)


def _timer(t: Trace, k: int) -> int:
    """How long (ns) there was silence on the connection before a frame that a timer sent; 0 if none did."""
    f = t.facts[k]
    if f.before < 0 or f.before != f.mine_before or not f.s.seg_len or not f.again or f.s.flags & RST:
        return 0
    if not t.facts[f.before].s.seg_len:
        return 0  # an acknowledgment of its own, which the timer did not begin with
    gap = t.frames[k].time - t.frames[f.before].time
    return gap if gap > TIMER else 0


def _sooner(t: Trace, k: int, gap: int) -> Made:
    """The frame after a quarter of its silence, with the timestamp that it would have had."""
    ns = gap * 3 // 4 // MS * MS
    frames = list(t.frames)
    restamped(t, frames, {k: -(ns // MS)})
    frames[k] = replace(frames[k], time=frames[k].time - ns)
    return Made(frames, k)


@kind("rto-early", "a retransmission long before its time-out", "net/ipv4/tcp_timer.c:tcp_retransmit_timer",
      "a first retransmission may be a tail loss probe, which is due earlier")  # fmt: skip
def _rto_early(t: Trace, k: int, r: random.Random) -> Made | None:
    """Where the silence was at least the least time-out, and nothing that was SACKed could make RACK's timer fire."""
    gap = _timer(t, k)
    f = t.facts[k]
    if gap < 200 * MS or f.s.flags & SYN or f.una is None or f.s.seq != f.una or f.theirs_before < 0:
        return None
    if t.facts[f.theirs_before].s.sack or not (t.is_near(f) or f.s.tsval is not None):
        return None
    return _sooner(t, k, gap)


@kind("tlp-early", "a tail loss probe long before it is due", "net/ipv4/tcp_output.c:tcp_schedule_loss_probe")
def _tlp_early(t: Trace, k: int, r: random.Random) -> Made | None:
    """By the tapped host: the last segment, sent again for the first time, in a silence that only a timer ends."""
    f = t.facts[k]
    if (
        not t.is_near(f)
        or f.before < 0
        or f.before != f.mine_before
        or not f.s.len
        or not f.again
        or f.s.end_seq != f.nxt
    ):
        return None
    if any(x.again and x.s.end_seq == f.s.end_seq for x in t.earlier(f, True)):
        return None
    if not t.facts[f.before].s.seg_len:
        return None  # an acknowledgment of its own, which the timer did not begin with
    gap = t.frames[k].time - t.frames[f.before].time
    same = f.s.end_seq, f.s.ip_id, f.s.tsval
    copies = [x for x in t.earlier(f, True) if (x.s.end_seq, x.s.ip_id, x.s.tsval) == same]
    return _sooner(t, k, gap) if gap > 20 * MS and not copies else None


@kind("syn-early", "a SYN or SYN-ACK sent again before its time", "net/ipv4/tcp_timer.c:tcp_retransmit_timer")
def _syn_early(t: Trace, k: int, r: random.Random) -> Made | None:
    gap = _timer(t, k)
    if gap < 900 * MS or not t.facts[k].s.flags & SYN:
        return None
    return _sooner(t, k, gap)


@kind("rto-late", "a retransmission long after its time-out", "net/ipv4/tcp_timer.c:tcp_retransmit_timer",
      "an earlier one was lost before the tap")  # fmt: skip
def _rto_late(t: Trace, k: int, r: random.Random) -> Made | None:
    gap = _timer(t, k)
    f = t.facts[k]
    if not gap or not (t.leaves_whole(f) or t.follows(f)):
        return None
    return Made(postponed(t, k, (2 * gap // MS + 1000) * MS), k)


def _probe(f: Fact) -> bool:
    """A keepalive or window probe: empty, one number back."""
    s = f.s
    return not s.seg_len and not s.flags & (SYN | RST | FIN) and f.nxt is not None and ahead(f.nxt, s.seq) == 1


@kind("probe-early", "a keepalive or window probe long before its time", "net/ipv4/tcp_timer.c:tcp_keepalive_timer")
def _probe_early(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not _probe(f) or f.before < 0 or f.s.sack:
        return None
    gap = t.frames[k].time - t.frames[f.before].time
    if gap < TIMER:
        return None
    ns = gap * 95 // 100 // MS * MS
    frames = list(t.frames)
    restamped(t, frames, {k: -(ns // MS)})
    frames[k] = replace(frames[k], time=frames[k].time - ns)
    return Made(frames, k)


@kind("probe-seq", "a keepalive or window probe two numbers back", "net/ipv4/tcp_output.c:tcp_xmit_probe_skb")
def _probe_seq(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not _probe(f) or f.before < 0 or t.frames[k].time - t.frames[f.before].time < TIMER:
        return None
    frames = list(t.frames)
    frames[k] = edited(frames[k], lambda e: e.add(SEQ, -1))
    return Made(frames, k)
