"""The usual frames in one go: in-order data and acknowledgments that advance, between ends that lack nothing.

The law: what is done here is exactly what the parts do, in their order; each stage that is not plainly usual goes to
the part itself, before anything was changed. `tests/oracle/test_fast.py` holds that verdicts, labels, counters and
states do not depend on this module.
"""

from typing import Final

from conformance.oracle.delays import TCP_ATO_MIN, TCP_DELACK_MAX
from conformance.oracle.end import End, Label
from conformance.oracle.identity import ALIGNED, Identity
from conformance.oracle.ids import SEGMENT
from conformance.oracle.position import Origin
from conformance.oracle.promise import LEAST, U16_MAX, UNBOUNDED
from conformance.oracle.receiver import Receiver
from conformance.oracle.receiver_rules import ECN_CE, FAR_AWAY, FORGOTTEN, HELD_BACK, READS, READS_LATE, REMEMBERED
from conformance.oracle.recovery import CWR, INIT_CWND, NONE, OPEN, TLP, Flow
from conformance.oracle.scoreboard import Sent
from conformance.oracle.sender import Sender
from conformance.oracle.sender_rules import (
    BY_TLP,
    BY_WRITE,
    EARLY,
    LABELS,
    LATE,
    NEW,
    NOTHING,
    QUEUED,
    RETREATS,
    TICK,
)
from conformance.oracle.timers import MIN_RTT_WINDOW, RTO_MAX
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, PSH, RST, SYN
from refmodel.tcp.state import St
from refmodel.types import H32, M32

ESTABLISHED: Final = St.ESTABLISHED
NOT_CALM: Final = ~PSH
HIGH: Final = ~M32
OPENS_OR_RESETS: Final = SYN | RST
PLAIN_HEADER: Final = 0x50  # doff and the reserved bits of a TCP header without options
STAMPED_HEADER: Final = 0x80  # the same with an aligned timestamp
MICROSECONDS: Final = 1_000_000
READ: Final = Label("__tcp_cleanup_rbuf", "what was read is acknowledged")
AT_ONCE: Final = Label("__tcp_ack_snd_check")
QUICK: Final = Label("__tcp_ack_snd_check", "quick acknowledgments are on")
WRITTEN: Final = LABELS[BY_WRITE]
NO_HALF: Final = (0, 0, None)
WANTS: Final = "TcpExt.TCPWantZeroWindowAdv"


def follow(e: End, r: End, s: Segment, now: int) -> Label:
    """`e` sends a frame to `r` at `now` us, as the tap saw it: who of `e` sent it. Raises Refusal."""
    label = sends(e, s, now)
    pending, late, since = r.pending, r.stack.late, r.rx.clock.since
    if (
        (pending and now - pending[0].time // 1000 > late)
        or (since >= 0 and now - since >= TCP_DELACK_MAX + late)
        or r.life.owes_ack is not None
        or r.ident.ids.holes
    ):
        settle(r, now, s.number)
    if s.flags & OPENS_OR_RESETS:
        r.ident.heard(s)
    pending.append(s)
    return label


def settle(e: End, now: int, frame: int) -> None:
    """`End.settle`."""
    pending, late = e.pending, e.stack.late
    if pending and pending[0].time // 1000 < now - late:
        if e.decided:
            e.settle(now, frame)
            return
        oldest = now - late
        while pending and pending[0].time // 1000 < oldest:
            process(e, pending.popleft())
    since = e.rx.clock.since
    if (0 <= since <= now - TCP_DELACK_MAX - late) or e.life.owes_ack is not None or e.ident.ids.holes:
        e.settle(now, frame)


def sends(e: End, s: Segment, now: int) -> Label:
    """`End.sends`."""
    if s.flags & NOT_CALM != ACK or e.decided or s.truncated:
        return e.sends(s)
    n = s.len
    ident, rx, tx, life = e.ident, e.rx, e.tx, e.life
    calm = identified(ident, s, now, n)
    if not calm:
        ident.check(s)
    pending, late, since = e.pending, e.stack.late, rx.clock.since
    if (
        (pending and now - pending[0].time // 1000 > late)
        or (since >= 0 and now - since >= TCP_DELACK_MAX + late)
        or life.owes_ack is not None
        or ident.ids.holes
    ):
        settle(e, now, s.number)
    label: Label | None = None
    if e.state is not ESTABLISHED or life.owes_ack is not None or life.alert:
        label = life.explain(s)
        if label is not None and e.stack.linux:
            rx.answers(s)
    mss = 0
    if label is None:
        if not (calm and stands(e, rx, s, now, n)):
            rx.explain(s)
        if calm:
            mss = classified(e, tx, s, now, n)
        if not mss:
            label = tx.classify(s)
        elif n:
            label = LABELS[tx.how]
        if label is None:
            label = caused(rx, s, now)
    if not acknowledged(e, rx, s, label, now, n):
        rx.sent(s, label)
    if not (mss and departed(e, tx, s, n, mss)):
        tx.sent(s, label)
    if life.confirmed and (label is WRITTEN or label is AT_ONCE or label is READ or label is QUICK):
        life.repeats = 0
    else:
        life.sent(s, label)
    e.last_sent = s
    return label


def identified(ident: Identity, s: Segment, now: int, n: int) -> bool:
    """`Identity.check` of a frame like the one before it; False: not decided, and nothing changed."""
    if ident.ttl != s.ttl or ident.df != s.df or s.tos & 3 or ident.ecn_ok or s.urg_ptr or not (n or s.flags == ACK):
        return False
    data, l4, tsval = s.data, s.l4, s.tsval
    clock = ident.clock
    seen = passed = 0
    if tsval is None:
        if ident.ts_ok or data[l4 + 12] != PLAIN_HEADER:
            return False
    else:
        first = clock.first
        if (
            data[l4 + 12] != STAMPED_HEADER
            or first is None
            or ident.ts_ok is False
            or data[l4 + 20 : l4 + 24] != ALIGNED
        ):
            return False
        passed, seen = now - first[0], (tsval - first[1]) * 1_000
        if tsval < clock.ts or seen > passed or seen < 0 or clock.rate != 1_000 or now < clock.at - MICROSECONDS:
            return False
    i = s.ip_id
    if i is not None:
        ids = ident.ids
        last = ids.last
        if not i or last is None or ids.holes or data[s.l3 + 6] & 0x80:
            return False
        step = (i - last) & 0xFFFF
        if not ids.low <= step <= ids.high:
            return False
        if n <= SEGMENT or n <= ids.single:
            ids.low = ids.high = 1
        else:
            unit = ident._unit(s)
            ids.low, ids.high = -(-n // unit) if unit else 1, -(-n // SEGMENT)
        ids.kind = ""
        ids.gap = 0
        ids.odd = None
        ids.exact += 1
        ids.span += step
        if step == 1 and ids.size > ids.single:
            ids.single = ids.size
        ids.recent.append(s)
        ids.last = i
        ids.time = now
        ids.size = n
    ident._stepped = s.number
    if tsval is not None:
        clock.ts = tsval
        clock.at = clock.top = now
        clock.loose = False
        if not clock.sure and passed > 500_000 and seen // 100 > passed // 1_000 * 9:
            clock.sure = True
    if not n:
        ident.acks += 1
    ident.frames += 1
    ident.past.append(s)
    return True


def stands(e: End, rx: Receiver, s: Segment, now: int, n: int) -> bool:
    """`Receiver.explain` where everything is in order; False: not decided, and no input was processed."""
    re = rx.re
    if not rx.known or s.sack or re.ranges or re.dsack is not None or re.told_at_fin is not None or rx.fuzzy:
        return False
    nxt, wup, t, last = re.nxt, rx.wup, s.tsecr, rx.latest
    base = 0 if nxt <= M32 else nxt & HIGH
    ack = s.ack_seq + base
    stack = e.stack
    if not -H32 < ack - nxt < H32 or ack < wup or 0 <= rx.clock.since < now - TCP_DELACK_MAX:
        return False
    if n and not s.ip_id and (s.seq - e.tx.f.nxt) & M32:
        return False  # it may fill a gap
    if t is not None and last is not None and (echoed := last.tsecr) and echoed != t and (echoed - t) & M32 < H32:
        return False
    rx.stale = False
    if rx.credits and now - rx.credit_at > (FAR_AWAY if rx.loose else stack.late + HELD_BACK):
        rx.credits = 0
    pending = e.pending
    recent, count = rx.ts_recent, 0
    if pending:
        f = e.tx.f
        snd_nxt = f.nxt & M32
        limit = (now - stack.base + 1) * 1_000
        ts_ok = rx.ts_ok
        for p in pending:
            d = p.ack_seq - snd_nxt
            if p.flags & NOT_CALM != ACK or p.tos & 3 == ECN_CE or (d and (0 < d < H32 or d < -H32)):
                return False
            seq, size, tsval = p.seq + base, p.len, p.tsval
            if seq != nxt and (size or seq < wup or seq > nxt or nxt - seq > H32):
                return False
            if tsval != recent and ts_ok and recent and tsval is not None:
                d = recent - tsval
                if d > 1 or d < -H32:
                    return False
            stop = seq + size
            if stop > ack:
                break
            if nxt == ack and p.time >= limit and rx.echoes(s, recent):
                break
            if tsval is None or recent is None:
                later = tsval if ts_ok else None
            elif (
                tsval == recent
                or seq > wup
                or not (tsval - recent) & M32 < H32
                or (p.number == rx.half[0] and seq > rx.half[1])
                or (p.ack_seq - f.una) & M32 >= H32
            ):
                later = recent
            else:
                later = tsval
            if later != t and later is not None and t is not None and ts_ok is True and (later - t) & M32 < H32:
                break
            recent = later
            if stop > nxt:
                nxt = stop
            count += 1
    if nxt != ack:
        return False
    if t != recent and (rx.loose or not rx.echoes(s, recent)):
        return False
    if nxt <= wup and not n and count < len(pending) and not rx.credits:
        return False
    while count:
        process(e, pending.popleft())
        count -= 1
    promise = rx.promise
    shift, edge = promise.shift, promise.edge
    window = s.window << shift if shift >= 0 else -1
    left = edge - ack
    if (
        rx.ecn_ok
        or e.life.small
        or shift < 0
        or (window > left and window > promise.ceiling)
        or (window < left and edge < UNBOUNDED)
    ):
        rx._check_window(s)
    return True


def classified(e: End, tx: Sender, s: Segment, now: int, n: int) -> int:
    """`Sender.classify` of new data and of what is empty: what a segment holds at most (bytes).

    0: not decided, and nothing changed.
    """
    f = tx.f
    nxt = f.nxt
    if not tx.started or not tx.agreed or s.seq != nxt & M32 or not f.mss or tx.soon >= 0:
        return 0
    board, stack = f.board, e.stack
    size, most, widest, stamps = tx.mss_key
    if s.data[s.l4 + 12] == size and f.max_window == widest and f.mss == most and f.ts_ok is stamps:
        mss: int = tx.mss_now
    else:
        mss = tx._mss(s)
    left = now
    if stack.near is True and s.tsval is not None:
        if tx.ts_base is None:
            return 0
        tsval, at = tx.ts_base
        lag = s.tsval - tsval
        if not -H32 < lag < H32:
            return 0
        lag = now - at - lag * TICK
        if lag >= QUEUED:
            left = now - lag + TICK
        elif lag < 0:
            return 0
    out = board.out
    if out and left - f.due > LATE:
        return 0
    hi = nxt + n
    segs = 1 if n <= mss else -(-n // mss)
    if n:
        if 0 <= tx.fin < hi or (0 <= tx.right < hi and f.una != tx.iss):
            return 0
        counted = stack.given and stack.near and f.ca == OPEN and not board.sacked and not tx.middle
        if counted and out + segs - INIT_CWND - f.delivered - (f.tlp_high >= 0) > 0:
            return 0
        how = BY_WRITE
        if not out:
            if n < mss and tx.full and tx._wakes(s, left):
                return 0
        elif (
            f.kind == TLP
            and f.tlp_high < 0
            and left - f.due >= -EARLY
            and not tx._lags(s)
            and tx._fires(f.due, f.due - f.armed, left)
        ):
            how = BY_TLP
        tx.how = how
        tx.what = NEW
    else:
        tx.what = NOTHING
    ip_id = s.ip_id
    if ip_id:
        last = tx.last_id
        if ip_id == last:
            tx.contiguous = True
            tx.last_id = (ip_id + segs) & 0xFFFF
        else:
            tx._counts_ids(s)
    else:
        tx.contiguous = stack.exact
    tx.sure = True
    tx.classified = s.number
    tx.now = left
    tx.lo = nxt
    tx.hi = hi
    return mss


def caused(rx: Receiver, s: Segment, now: int) -> Label:
    """`Receiver.cause`."""
    clock = rx.clock
    if rx.stale or rx.fin_due or rx.loose or rx.re.nxt <= rx.wup:
        return rx.cause(s)
    waited = now - rx.text_at
    owed = now - clock.since if clock.since >= 0 else waited
    if max(owed, waited) >= TCP_ATO_MIN - clock.jiffy or (clock.since >= 0 and 0 <= clock.due <= now + 2 * clock.jiffy):
        return rx.cause(s)
    if clock.now:
        return READ if waited > READS_LATE else AT_ONCE
    if waited < READS:
        return QUICK
    promise = rx.promise
    if waited < READS_LATE and clock.pingpong < clock.thresh and promise.says(s) > promise.window:
        return QUICK
    return READ


def acknowledged(e: End, rx: Receiver, s: Segment, label: Label, now: int, n: int) -> bool:
    """`Receiver.sent` of what acknowledges the position; False: not decided, and nothing changed."""
    re, promise = rx.re, rx.promise
    nxt, wup, shift = re.nxt, rx.wup, promise.shift
    window = s.window << shift if shift > 0 else s.window if not shift else -1
    if (
        window <= 0
        or s.ack_seq != (nxt if nxt <= M32 else nxt & M32)
        or rx.stale
        or promise.window <= 0
        or rx.fuzzy
        or nxt < wup
        or rx.old_sets
        or rx.untold
        or rx.ofo_told
        or label.by == "tcp_delack_timer_handler"
    ):
        return False
    pending = e.pending
    rx.latest = s
    rx.origin = None
    if n and pending and (p := pending[0]).seg_len:
        rx.half = (p.number, wup, p.tsval)
    else:
        rx.half = NO_HALF
    clock = rx.clock
    promise.give = 0
    edge = nxt + window
    if 0 <= edge - promise.edge < 1 << shift:
        low, high = e.counts.low, e.counts.high
        high[WANTS] = high.get(WANTS, 0) + 1
        if WANTS not in low:
            low[WANTS] = 0
    promise.edge = edge
    promise.window = window
    if clock.since >= 0:
        if clock.quick:
            clock.quick -= 1
            if not clock.quick:
                clock.ato = TCP_ATO_MIN
        clock.since = -1
    clock.due = -1
    clock.pushed = 0
    clock.now = clock.mandated = False
    if n and clock.pingpong < 255 and now - clock.lrcvtime < clock.ato:
        clock.pingpong += 1
    if rx.loose:
        astray = rx.astray
        waiting = astray.under_way
        if waiting and waiting[0][1] <= nxt:
            astray.acknowledged(nxt)
        if not n and astray.inputs > 0:
            astray.inputs -= 1
    if rx.credits:
        if re.sack and not rx.dsack_off:
            rx.credits = 0
        elif not n and nxt <= wup:
            rx.credits -= 1
    rx.wup = nxt
    rx.compressed = 0
    rx.fin_due = False
    re.told_at_fin = re.dsack = re.midway = None
    recent, t = rx.ts_recent, s.tsecr
    if t != recent and t is not None and recent is not None and rx.ts_ok and 0 < (t - recent) & M32 < H32:
        rx.ts_recent = t
    if rx.ts_loose and not pending:
        rx.ts_loose = False
    return True


def departed(e: End, tx: Sender, s: Segment, n: int, mss: int) -> bool:
    """`Sender.sent` of what `classified` decided; False: not decided, and nothing changed."""
    f = tx.f
    if tx.lo != f.nxt or e.ident.ids.gap:
        return False
    low, high = e.counts.low, e.counts.high
    if not n:
        low["Tcp.OutSegs"] = low.get("Tcp.OutSegs", 0) + 1
        high["Tcp.OutSegs"] = high.get("Tcp.OutSegs", 0) + 1
        if s.ip_id and tx.last_id == (s.ip_id + 1) & 0xFFFF:
            tx.hollow, tx.fresh = False, True
    elif tx.how == BY_WRITE:
        if n <= mss:
            segs = 1
            tx.full = n == mss
        elif n % mss:
            if not s.flags & PSH:
                return False
            segs = -(-n // mss)
            tx.full = False
        else:
            segs = n // mss
            tx.full = True
        now, hi, board = tx.now, tx.hi, f.board
        out = board.out
        sent = Sent(tx.lo, hi, now, mss, segs)
        sent.source, sent.at, sent.tsval = s, s.payload_at, s.tsval or 0
        tx.fresh = True
        board.q.append(sent)
        board.out = out + segs
        f.nxt = hi
        low["Tcp.OutSegs"] = low.get("Tcp.OutSegs", 0) + segs
        high["Tcp.OutSegs"] = high.get("Tcp.OutSegs", 0) + segs
        low["TcpExt.TCPOrigDataSent"] = low.get("TcpExt.TCPOrigDataSent", 0) + segs
        high["TcpExt.TCPOrigDataSent"] = high.get("TcpExt.TCPOrigDataSent", 0) + segs
        if f.sack_ok and f.tlp_on and (f.ca == OPEN or f.ca == CWR):
            arm(f, now)
        elif not out or f.kind == TLP:
            f.restart(now)
    else:
        return False
    if s.tsval is not None:
        tx.last_ts = s.tsval
    return True


def arm(f: Flow, now: int) -> None:
    """`Flow.set_timer` in Open or CWR with SACK, tail probes on, and something out."""
    rtt, board = f.rtt, f.board
    srtt, j = rtt.srtt, rtt.jiffy
    if not srtt or f.backoff:
        f.set_timer(now)
        return
    f.armed = now
    f.kind = TLP
    rto = -(-((srtt >> 3) + rtt.rttvar) // j) * j
    if rto > RTO_MAX:
        rto = RTO_MAX
    pto = -(-((srtt >> 2) + (rtt.floor if board.out == 1 else rtt.least_wait)) // j) * j
    left = board.q[0].time + rto - now
    f.due = now + (left if 0 < left < pto else pto)


def process(e: End, p: Segment) -> None:
    """`End.process` of an input that was taken from the queue, and about which nothing is decided."""
    life, tx, rx = e.life, e.tx, e.rx
    d = p.ack_seq - (tx.f.nxt & M32)
    if (
        e.state is not ESTABLISHED
        or p.flags & NOT_CALM != ACK
        or p.truncated
        or not tx.agreed
        or not life.confirmed
        or (d and (0 < d < H32 or d < -H32))
    ):
        if life.takes(p):
            tx.takes(p)
            rx.takes(p)
            if e.state is not ESTABLISHED:
                life.moves()
        return
    n = p.len
    if life.far:
        life.heard.append((p, ESTABLISHED))
    if n:
        life.got = True
    now = p.time // 1000
    if not answers(tx, p, now):
        tx.takes(p)
    if not arrives(e, rx, p, now, n):
        rx.takes(p)


def answers(tx: Sender, p: Segment, now: int) -> bool:
    """`Sender.takes` where nothing is lost; False: not decided, and nothing changed."""
    f = tx.f
    una = f.una
    ack = p.ack_seq + (0 if una <= M32 else una & HIGH)
    if not 0 <= ack - una < H32 or p.sack or p.number == tx.early:
        return False
    if una == tx.iss or f.ts_ok is None or f.tlp_high >= 0:
        return False
    board = f.board
    q = board.q
    gone = segs = 0
    if q:
        if (
            ack == una
            or tx.doubt
            or f.ca != OPEN
            or not f.sack_ok
            or not f.tlp_on
            or board.sacked
            or board.lost
            or board.retrans
            or q[0].seq < una
            or not q[0].time
        ):
            return False
        for sent in q:
            if sent.end > ack:
                if sent.segs > 1 and ack > sent.seq:
                    return False
                break
            if sent.sacked:
                return False
            gone += 1
            segs += sent.segs
        if not gone:
            return False
    elif ack > una:
        return False
    tx.heard = now
    win = p.window << tx.wscale
    if ack + win > tx.right:
        tx.right = ack + win
    elif ack + win < tx.right or not win:
        tx.retreats = (*tx.retreats, ack + win)[-RETREATS:]
    d = p.seq - tx.wl1
    if gone or 0 < d < H32 or d < -H32 or (not d and (win > f.wnd or (not win and tx.zero_is_news))):
        tx.wl1 = p.seq
        f.wnd = win
        if win > f.max_window:
            f.max_window = win
    if gone:
        f.retransmits = 0
        f.una = ack
        f.delivered += segs
        when, end = f.rack_time, f.rack_end
        first = q[0].time
        for k in range(gone):
            sent = q[k]
            last = sent.time
            if last > when or (last == when and sent.end > end):
                when, end = last, sent.end
        f.rack_time, f.rack_end = when, end
        f.rack_rtt = now - last if now > last else 0
        del q[:gone]
        board.out = board.out - segs if q else 0
        rtt = f.rtt
        least = now - last if now > last else 0
        if least <= rtt.min_rtt or now - rtt.min_at > MIN_RTT_WINDOW:
            rtt.min_rtt, rtt.min_at = least or rtt.jiffy, now
        rtt.sample(now - first if now > first else 0, ack, f.nxt)
        f.backoff = 0
        f.echo = -1
        if q:
            arm(f, now)
        else:
            f.armed, f.kind = now, NONE
    tx.past.append((p.number, now, una, ack, p.tsval))
    return True


def arrives(e: End, rx: Receiver, p: Segment, now: int, n: int) -> bool:
    """`Receiver.takes` of what is next in order; False: not decided, and nothing changed."""
    re, stack, promise, clock = rx.re, e.stack, rx.promise, rx.clock
    nxt, recent, wup = re.nxt, rx.ts_recent, rx.wup
    tsval = p.tsval
    if not rx.known or p.seq != (nxt if nxt <= M32 else nxt & M32) or re.ranges or rx.skips or nxt < wup or rx.ecn_ok:
        return False
    stamped = tsval is not None and tsval != recent
    if tsval is not None and recent and 1 < (recent - tsval) & M32 < H32:
        return False
    if n and ((promise.edge <= nxt and stack.near is True) or re.told_at_fin is not None):
        return False
    origin = rx.origin
    if origin is None:
        origin = rx.origin = Origin(re, recent)
    if len(origin.since) < FORGOTTEN:
        origin.since.append(p)
    if tsval is None or recent is None:
        later = tsval if rx.ts_ok else None
    elif (
        not stamped
        or nxt > wup
        or not (tsval - recent) & M32 < H32
        or (p.number == rx.half[0] and nxt > rx.half[1])
        or (p.ack_seq - e.tx.f.una) & M32 >= H32
    ):
        later = recent
    else:
        later = tsval
    if later is not None and later != recent:
        rx.ts_recent, rx.ts_at = later, now
        stamps = rx.stamps
        stamps.append((p.number, now, later))
        if len(stamps) > REMEMBERED:
            del stamps[0]
    top = rx.top
    if tsval is not None and tsval != top and (top is None or (tsval - top) & M32 < H32):
        rx.top = tsval
        if later != tsval and nxt <= wup:
            rx.ts_loose = True
    end = nxt + n
    pieces = rx._pieces(p) if rx.loose else 1
    if rx.loose:
        rx.astray.comes(nxt, end, pieces, tsval, now)
    if not n:
        return True
    re.dsack = None
    re.twice, re.midway = False, None
    re.nxt = end
    rx.text_at = now
    arrivals = rx.arrivals
    arrivals.append((p.number, now, nxt, end))
    if len(arrivals) > REMEMBERED:
        del arrivals[0]
    window = promise.window if promise.window > 0 else 0
    if n >= clock.rcv_mss:
        clock.last_seg_size = 0
        clock.rcv_mss = clock.advmss if 0 < clock.advmss < n else n
        if p.flags & PSH:
            clock.pushed |= 1
    else:
        clock.measure(n, p.flags, p.payload_at - p.l4, 32 if tsval is not None else 20)
    if clock.ato and now - clock.lrcvtime <= TCP_ATO_MIN // 2:
        clock.ato = (clock.ato >> 1) + TCP_ATO_MIN // 2
        clock.lrcvtime = now
    else:
        clock.data(now, window)
    if n >= LEAST:
        most = 2 * (promise.advmss or U16_MAX) * pieces
        ceiling = promise.ceiling if promise.ceiling > promise.window else promise.window
        promise.ceiling = ceiling + (most if most > 2 * n else 2 * n)
    if clock.since < 0:
        clock.since, clock.frame = now, p.number
    rx.dup_acks = 0
    if clock.mandated or end - wup > clock.rcv_mss or (clock.quick and clock.pingpong < clock.thresh):
        clock.now = True
    else:
        clock.check(now, end - wup, False, e.tx.f.rtt.srtt >> 3)
    return True
