"""tbf: the token bucket filter around a child discipline; source net/sched/sch_tbf.c."""

from typing import Any, Final, NamedTuple

from refmodel.dropreason import Reason
from refmodel.rule import cited
from refmodel.sched.bucket import NS_MAX, ptoks, toks, wait
from refmodel.sched.const import (
    EINVAL,
    NET_XMIT_DROP,
    NET_XMIT_SUCCESS,
    QDISC_STATE_DEACTIVATED,
)
from refmodel.sched.env import SchedEnv
from refmodel.sched.fifo import BFIFO, fifo_set_limit
from refmodel.sched.generic import __netif_schedule
from refmodel.sched.noop import NOOP
from refmodel.sched.qdisc import (
    Qdisc,
    QdiscCb,
    QdiscOps,
    ToFree,
    frame_len,
    qdisc_backlog_dec,
    qdisc_bstats_update,
    qdisc_dequeue_peeked,
    qdisc_drop,
    qdisc_peek_dequeued,
    qdisc_pkt_len,
    qdisc_reset,
    qdisc_root,
    qdisc_tree_reduce_backlog,
)
from refmodel.skbuff import SKB_GSO_TCPV4, SKB_GSO_TCPV6, SkBuff

NSEC_PER_SEC: Final = 1_000_000_000
TICK_SHIFT: Final = 6  # PSCHED_SHIFT: a tick of the configuration is 64 ns
U32: Final = 0xFFFFFFFF
MSB32: Final = 1 << 31
MSB64: Final = 1 << 63
ATM_CELL: Final = 53
ATM_DATA: Final = 48
UDP_HLEN: Final = 8


class Rate(NamedTuple):
    """struct psched_ratecfg: bytes a second, and the same as a factor `mult` >> `shift` from bytes to ns.

    `overhead` bytes are added to each packet, `mpu` is the least that one counts, `atm`: it goes in ATM cells.
    """

    rate_bytes_ps: int = 0
    mult: int = 1
    shift: int = 0
    overhead: int = 0
    mpu: int = 0
    atm: bool = False


@cited("net/sched/sch_generic.c:psched_ratecfg_precompute")
def psched_ratecfg_precompute(rate: int, overhead: int = 0, mpu: int = 0, atm: bool = False) -> Rate:
    """The largest factor that fits 32 bits, for `rate` bytes a second."""
    mult, shift = 1, 0
    if rate > 0:
        factor = NSEC_PER_SEC
        while True:
            mult = (factor // rate) & U32
            if mult & MSB32 or factor & MSB64:
                break
            factor <<= 1
            shift += 1
    return Rate(rate, mult, shift, overhead, mpu, atm)


@cited("include/net/sch_generic.h:psched_l2t_ns")
def psched_l2t_ns(r: Rate, length: int) -> int:
    """How many ns `length` bytes take at the rate."""
    n = max(length + r.overhead, r.mpu)
    cells = -(-n // ATM_DATA) * ATM_CELL if r.atm else n
    return (cells * r.mult) >> r.shift


@cited("net/sched/sch_tbf.c:psched_ns_t2l")
def psched_ns_t2l(r: Rate, ns: int) -> int:
    """How many bytes a packet may have to fit `ns` at the rate."""
    n = ns * r.rate_bytes_ps // NSEC_PER_SEC
    if r.atm:
        n = n // ATM_CELL * ATM_DATA
    return max(n - r.overhead, 0)


class TbfQopt(NamedTuple):
    """What configures tbf: rates in bytes a second, `limit` in bytes.

    The buckets' depths are `buffer` and `mtu` in ticks of 64 ns, or `burst` and `pburst` in bytes where they are given.
    """

    rate: int
    limit: int
    buffer: int = 0
    burst: int | None = None
    peakrate: int = 0
    mtu: int = 0
    pburst: int | None = None
    overhead: int = 0
    mpu: int = 0
    atm: bool = False


class Tbf:
    """struct tbf_sched_data: depths `buffer` and `mtu`, contents `tokens` and `ptokens`, time `t_c`, all in ns."""

    __slots__ = ("buffer", "limit", "max_size", "mtu", "peak", "ptokens", "qdisc", "rate", "t_c", "tokens", "watchdog")

    def __init__(self, child: Qdisc) -> None:
        self.limit = 0
        self.max_size = 0
        self.buffer = 0
        self.mtu = 0
        self.rate = Rate()
        self.peak = Rate()
        self.tokens = 0
        self.ptokens = 0
        self.t_c = 0
        self.qdisc = child
        self.watchdog: Any = None


@cited("net/sched/sch_api.c:qdisc_watchdog")
def qdisc_watchdog(arg: tuple[SchedEnv, Qdisc]) -> None:
    """The timer has the root discipline scheduled."""
    env, q = arg
    env.note("qdisc_watchdog", f"{q.ops.id} may have tokens again")
    __netif_schedule(env, qdisc_root(q))


@cited("net/sched/sch_api.c:qdisc_watchdog_schedule_range_ns")
def qdisc_watchdog_schedule_ns(env: SchedEnv, q: Qdisc, expires: int) -> None:
    """The timer is armed for `expires` ns, not for a discipline that is taken down."""
    if q.dev_queue.qdisc_sleeping.state & QDISC_STATE_DEACTIVATED:
        return
    q.priv.watchdog.start_us(-(-expires // 1000))


@cited("net/core/gso.c:skb_gso_validate_mac_len")
def skb_gso_validate_mac_len(skb: SkBuff, length: int) -> bool:
    """Each segment's frame is at most `length` bytes."""
    if skb.transport is None:
        return False
    tcp = skb.gso_type & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6)
    thlen = (skb.data[skb.transport + 12] >> 4) * 4 if tcp else UDP_HLEN
    return len(skb.mac_header) + skb.transport + thlen + skb.gso_size <= length


@cited("net/sched/sch_tbf.c:tbf_segment")
def tbf_segment(env: SchedEnv, skb: SkBuff, q: Qdisc, to_free: ToFree) -> int:
    """A super-packet that no bucket can pay for at once is cut, and its segments are queued."""
    priv: Tbf = q.priv
    prev_len = qdisc_pkt_len(skb)
    segs = env.skb_gso_segment(skb)
    if not segs:
        return qdisc_drop(skb, q, to_free)
    nb = 0
    length = 0
    for seg in segs:
        seg.cb = QdiscCb(frame_len(seg))
        ret = enqueue_child(env, seg, priv.qdisc, to_free)
        if ret != NET_XMIT_SUCCESS:
            q.drops += 1
        else:
            nb += 1
            length += qdisc_pkt_len(seg)
    q.qlen += nb
    q.backlog += length
    env.note("tbf_segment", f"{prev_len} > {priv.max_size}: {nb} of {len(segs)} segments queued")
    if nb > 0:
        qdisc_tree_reduce_backlog(q, 1 - nb, prev_len - length)
        env.consume_skb(skb)
        return NET_XMIT_SUCCESS
    env.kfree_skb(skb, Reason.NOT_SPECIFIED)
    return NET_XMIT_DROP


def enqueue_child(env: SchedEnv, skb: SkBuff, child: Qdisc, to_free: ToFree) -> int:
    """The child takes the packet or refuses it; source include/net/sch_generic.h:qdisc_enqueue."""
    assert child.enqueue is not None
    return child.enqueue(env, skb, child, to_free)


@cited("net/sched/sch_tbf.c:tbf_enqueue")
def tbf_enqueue(env: SchedEnv, skb: SkBuff, q: Qdisc, to_free: ToFree) -> int:
    """A packet longer than a full bucket is cut or dropped; the rest is for the child to judge."""
    priv: Tbf = q.priv
    length = qdisc_pkt_len(skb)
    if length > priv.max_size:
        if skb.is_gso and skb_gso_validate_mac_len(skb, priv.max_size):
            return tbf_segment(env, skb, q, to_free)
        env.note("tbf_enqueue", f"{length} bytes > {priv.max_size} of a full bucket: dropped")
        return qdisc_drop(skb, q, to_free)
    ret = enqueue_child(env, skb, priv.qdisc, to_free)
    if ret != NET_XMIT_SUCCESS:
        q.drops += 1
        return ret
    q.backlog += length
    q.qlen += 1
    return NET_XMIT_SUCCESS


@cited("net/sched/sch_tbf.c:tbf_dequeue")
def tbf_dequeue(env: SchedEnv, q: Qdisc) -> SkBuff | None:
    """The child's first packet leaves if both buckets can pay for it; else the watchdog is armed."""
    priv: Tbf = q.priv
    skb = priv.qdisc.ops.peek(env, priv.qdisc)
    if skb is None:
        return None
    length = qdisc_pkt_len(skb)
    now = env.ktime_get_ns()
    peak = priv.peak.rate_bytes_ps > 0
    elapsed = now - priv.t_c
    left = toks(priv.tokens, elapsed, psched_l2t_ns(priv.rate, length), priv.buffer)
    cost = psched_l2t_ns(priv.peak, length) if peak else 0
    pleft = ptoks(priv.ptokens, elapsed, cost, priv.buffer, priv.mtu, peak)
    if left >= 0 and pleft >= 0:
        env.note("tbf_dequeue", f"{length} bytes leave {left} ns in the bucket")
        skb = qdisc_dequeue_peeked(env, priv.qdisc)
        if skb is None:
            return None
        priv.t_c = now
        priv.tokens = left
        priv.ptokens = pleft
        qdisc_backlog_dec(q, skb)
        qdisc_bstats_update(q, skb)
        return skb
    until = now + wait(left, pleft)
    env.note("tbf_dequeue", f"{length} bytes are {until - now} ns too early")
    qdisc_watchdog_schedule_ns(env, q, min(until, NS_MAX))
    q.overlimits += 1
    return None


@cited("net/sched/sch_tbf.c:tbf_reset")
def tbf_reset(env: SchedEnv, q: Qdisc) -> None:
    """The child is emptied, the buckets are filled."""
    priv: Tbf = q.priv
    qdisc_reset(env, priv.qdisc)
    priv.t_c = env.ktime_get_ns()
    priv.tokens = priv.buffer
    priv.ptokens = priv.mtu
    priv.watchdog.stop()


@cited("net/sched/sch_tbf.c:tbf_change")
def tbf_change(env: SchedEnv, q: Qdisc, opt: TbfQopt) -> int:
    """Sets rates and depths and fills the buckets; -EINVAL for a peak rate not above the rate, or no depth."""
    priv: Tbf = q.priv
    buffer = min(opt.buffer << TICK_SHIFT, U32)
    mtu = min(opt.mtu << TICK_SHIFT, U32)
    rate = psched_ratecfg_precompute(opt.rate, opt.overhead, opt.mpu, opt.atm)
    peak = Rate()
    if opt.burst is not None:
        max_size = opt.burst
        buffer = psched_l2t_ns(rate, opt.burst)
    else:
        max_size = min(psched_ns_t2l(rate, buffer), U32)
    if opt.peakrate:
        peak = psched_ratecfg_precompute(opt.peakrate, opt.overhead, opt.mpu, opt.atm)
        if peak.rate_bytes_ps <= rate.rate_bytes_ps:
            return -EINVAL
        if opt.pburst is not None:
            max_size = min(max_size, opt.pburst)
            mtu = psched_l2t_ns(peak, opt.pburst)
        else:
            max_size = min(max_size, psched_ns_t2l(peak, mtu))
    if not max_size:
        return -EINVAL
    if priv.qdisc.ops is not NOOP:
        err = fifo_set_limit(env, priv.qdisc, opt.limit)
        if err:
            return err
    elif opt.limit > 0:
        child = Qdisc(BFIFO, q.dev_queue)
        child.parent_qdisc = q
        fifo_set_limit(env, child, opt.limit)
        priv.qdisc = child
    priv.limit = opt.limit
    # Linux limits the times to 32 bits where it works out max_size, but not in the buckets themselves.
    priv.mtu = mtu if opt.pburst is not None else opt.mtu << TICK_SHIFT
    priv.buffer = buffer if opt.burst is not None else opt.buffer << TICK_SHIFT
    priv.max_size = max_size
    priv.tokens = priv.buffer
    priv.ptokens = priv.mtu
    priv.rate = rate
    priv.peak = peak
    return 0


@cited("net/sched/sch_tbf.c:tbf_init")
def tbf_init(env: SchedEnv, q: Qdisc, opt: TbfQopt | None) -> int:
    """A tbf without parameters is refused."""
    q.priv = Tbf(Qdisc(NOOP, q.dev_queue))
    q.priv.watchdog = env.timer("qdisc_watchdog", qdisc_watchdog, (env, q))
    if opt is None:
        return -EINVAL
    q.priv.t_c = env.ktime_get_ns()
    return tbf_change(env, q, opt)


@cited("net/sched/sch_tbf.c:tbf_graft")
def tbf_graft(env: SchedEnv, q: Qdisc, new: Qdisc) -> Qdisc:
    """Another discipline becomes the child; what the old one held is thrown away. The old child."""
    priv: Tbf = q.priv
    old = priv.qdisc
    qdisc_tree_reduce_backlog(old, old.qlen, old.backlog)
    qdisc_reset(env, old)
    new.parent_qdisc = q
    priv.qdisc = new
    return old


TBF: Final = QdiscOps("tbf", tbf_enqueue, tbf_dequeue, qdisc_peek_dequeued, tbf_init, tbf_reset)

__all__ = ["TBF", "Rate", "Tbf", "TbfQopt", "tbf_change", "tbf_graft"]
