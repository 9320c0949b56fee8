"""The way into transmission: dev_queue_xmit, the choice of a transmit queue, and the discipline or the bare device."""

from refmodel.dropreason import Reason
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.sched.const import (
    EINVAL,
    ENETDOWN,
    ENOMEM,
    NET_XMIT_DROP,
    NET_XMIT_MASK,
    NET_XMIT_SUCCESS,
    NETDEV_TX_OK,
    PRIO2BAND,
    QDISC_STATE_DEACTIVATED,
    TC_PRIO_MAX,
    TCQ_F_CAN_BYPASS,
    XMIT_RECURSION_LIMIT,
)
from refmodel.sched.env import SchedEnv, Txq
from refmodel.sched.generic import __qdisc_run, qdisc_run, qdisc_run_end, sch_direct_xmit
from refmodel.sched.qdisc import (
    Qdisc,
    QdiscCb,
    ToFree,
    __qdisc_drop,
    frame_len,
    qdisc_bstats_update,
    qdisc_run_begin,
)
from refmodel.skbuff import SKB_GSO_DODGY, SKB_GSO_TCPV4, SKB_GSO_TCPV6, SKB_GSO_UDP_L4, SkBuff

BAD_GSO_SINCE = 612
TCP_HLEN = 20
UDP_HLEN = 8


@cited("net/core/dev.c:qdisc_pkt_len_init")
def qdisc_pkt_len_init(env: SchedEnv, skb: SkBuff) -> Reason | None:
    """A super-packet counts the headers that its segments will have; a malformed one is refused."""
    length = frame_len(skb)
    skb.cb = QdiscCb(length)
    if not skb.is_gso or skb.transport is None:
        return None
    checked = env.kernel >= BAD_GSO_SINCE
    hdr_len = len(skb.mac_header) + skb.transport
    transport = skb.data[skb.transport :]
    if skb.gso_type & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6):
        short = len(transport) < TCP_HLEN
        doff = 0 if short else (transport[12] >> 4) * 4
        if checked and (short or doff < TCP_HLEN or doff > len(transport)):
            return Reason.SKB_BAD_GSO
        hdr_len += doff
    elif skb.gso_type & SKB_GSO_UDP_L4:
        short = len(transport) < UDP_HLEN
        if checked and short:
            return Reason.SKB_BAD_GSO
        hdr_len += 0 if short else UDP_HLEN
    segs = skb.gso_segs
    if skb.gso_type & SKB_GSO_DODGY:
        payload = length - hdr_len
        if payload <= 0:
            return Reason.SKB_BAD_GSO if checked else None
        segs = -(-payload // skb.gso_size)
    skb.cb.pkt_len = length + (segs - 1) * hdr_len
    env.note("qdisc_pkt_len_init", f"{length} bytes and headers of {segs} segments: {skb.cb.pkt_len}")
    return None


@cited("net/core/dev.c:skb_tx_hash")
def skb_tx_hash(env: SchedEnv, dev: NetDevice, skb: SkBuff) -> int:
    """The flow's hash scaled to the number of transmit queues."""
    index = ((env.skb_get_hash(skb) & 0xFFFFFFFF) * dev.num_tx_queues) >> 32
    env.note("skb_tx_hash", f"queue {index} of {dev.num_tx_queues} by the flow's hash")
    return index


@cited("net/core/dev.c:netdev_pick_tx")
def netdev_pick_tx(env: SchedEnv, dev: NetDevice, skb: SkBuff) -> int:
    """The transmit queue of a flow, where neither XPS nor the socket knows one."""
    return skb_tx_hash(env, dev, skb)


@cited("net/core/dev.c:netdev_core_pick_tx")
def netdev_core_pick_tx(env: SchedEnv, dev: NetDevice, skb: SkBuff) -> Txq:
    """A device with one transmit queue leaves no choice."""
    skb.queue_mapping = 0 if dev.num_tx_queues == 1 else netdev_pick_tx(env, dev, skb)
    env.note("netdev_core_pick_tx", f"transmit queue {skb.queue_mapping} of {dev.num_tx_queues}")
    return env.netdev_queues(dev)[skb.queue_mapping]


@cited("net/core/dev.c:dev_qdisc_enqueue")
def dev_qdisc_enqueue(env: SchedEnv, skb: SkBuff, q: Qdisc, to_free: ToFree) -> int:
    """The discipline takes the packet or refuses it."""
    assert q.enqueue is not None
    before = q.qlen
    rc = q.enqueue(env, skb, q, to_free) & NET_XMIT_MASK
    if rc == NET_XMIT_SUCCESS:
        env.note("dev_qdisc_enqueue", f"{q.ops.id}: queued, {before + 1} wait")
    else:
        env.note("dev_qdisc_enqueue", f"{q.ops.id}: refused, {before} wait")
    return rc


@cited("include/linux/skbuff.h:kfree_skb_list_reason")
def kfree_skb_list_reason(env: SchedEnv, to_free: ToFree) -> None:
    """What a discipline dropped is freed when no lock is held, all for the reason of the last."""
    if to_free:
        reason = to_free[0].cb.drop_reason
        for skb in to_free:
            env.kfree_skb(skb, reason)


@cited("net/core/dev.c:__dev_xmit_skb")
def __dev_xmit_skb(env: SchedEnv, skb: SkBuff, q: Qdisc, txq: Txq) -> int:
    """An empty discipline that may be bypassed is; else the packet is queued and the discipline run."""
    to_free: ToFree = []
    skb.cb.drop_reason = Reason.QDISC_DROP
    if q.nolock:
        if q.flags & TCQ_F_CAN_BYPASS and q.nolock_empty and qdisc_run_begin(env, q):
            env.note("__dev_xmit_skb", f"{q.ops.id} is empty: bypassed")
            qdisc_bstats_update(q, skb)
            if sch_direct_xmit(env, [skb], q, txq, True) and not q.nolock_empty:
                __qdisc_run(env, q)
            qdisc_run_end(env, q)
            return NET_XMIT_SUCCESS
        rc = dev_qdisc_enqueue(env, skb, q, to_free)
        qdisc_run(env, q)
        kfree_skb_list_reason(env, to_free)
        return rc
    if q.owner == env.softnet.cpu:
        env.note("__dev_xmit_skb", "this processor is inside the discipline: dropped")
        env.kfree_skb(skb, Reason.TC_RECLASSIFY_LOOP if env.kernel >= BAD_GSO_SINCE else Reason.TC_EGRESS)
        return NET_XMIT_DROP
    if q.state & QDISC_STATE_DEACTIVATED:
        env.note("__dev_xmit_skb", f"{q.ops.id} is deactivated: dropped")
        __qdisc_drop(skb, to_free)
        rc = NET_XMIT_DROP
    elif q.flags & TCQ_F_CAN_BYPASS and not q.qlen and qdisc_run_begin(env, q):
        env.note("__dev_xmit_skb", f"{q.ops.id} is empty: bypassed")
        qdisc_bstats_update(q, skb)
        if sch_direct_xmit(env, [skb], q, txq, True):
            __qdisc_run(env, q)
        qdisc_run_end(env, q)
        rc = NET_XMIT_SUCCESS
    else:
        q.owner = env.softnet.cpu
        rc = dev_qdisc_enqueue(env, skb, q, to_free)
        q.owner = -1
        if qdisc_run_begin(env, q):
            __qdisc_run(env, q)
            qdisc_run_end(env, q)
    kfree_skb_list_reason(env, to_free)
    return rc


@cited("net/core/dev.c:__dev_queue_xmit")
def __dev_queue_xmit(env: SchedEnv, skb: SkBuff) -> int:
    """The packet goes to its device's discipline, or straight to a device that has none.

    Bottom halves are disabled meanwhile: a softirq that the device raises runs at the end, in the sender's context.
    """
    env.local_bh_disable()
    rc = _to_discipline_or_device(env, skb)
    env.local_bh_enable()
    return rc


def _to_discipline_or_device(env: SchedEnv, skb: SkBuff) -> int:
    dev = skb.dev
    assert dev is not None
    bad = qdisc_pkt_len_init(env, skb)
    if bad is not None:
        env.note("__dev_queue_xmit", "headers of a super-packet are missing")
        env.tx_dropped(dev)
        env.kfree_skb(skb, bad)
        return -EINVAL
    txq = netdev_core_pick_tx(env, dev, skb)
    q: Qdisc = txq.qdisc
    if q.enqueue is not None:
        band = PRIO2BAND[skb.priority & TC_PRIO_MAX]
        env.note("__dev_queue_xmit", f"{dev.name} has {q.ops.id}; priority {skb.priority} is band {band}")
        return __dev_xmit_skb(env, skb, q, txq)
    if not dev.up:
        env.note("__dev_queue_xmit", f"{dev.name} is down")
        env.tx_dropped(dev)
        env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return -ENOMEM
    cpu = env.softnet.cpu
    rest = [skb]
    if txq.xmit_lock_owner == cpu or env.softnet.recursion > XMIT_RECURSION_LIMIT:
        env.note("__dev_queue_xmit", f"dead loop on virtual device {dev.name}")
        rc = -ENETDOWN
    else:
        env.note("__dev_queue_xmit", f"{dev.name} has no queue")
        rest = env.validate_xmit_skb(skb, dev)
        if not rest:
            return -ENOMEM
        rc = -ENOMEM
        is_list = False
        locked = txq.xmit_lock_owner
        txq.xmit_lock_owner = cpu if not dev.lltx else locked
        if not txq.xmit_stopped:
            is_list = len(rest) > 1
            env.softnet.recursion += 1
            rest, rc = env.dev_hard_start_xmit(rest, dev, txq)
            env.softnet.recursion -= 1
            # TCP takes an error to mean that nothing was sent, which is not so for the segments of a super-packet.
            rc = NETDEV_TX_OK if is_list else rc
        txq.xmit_lock_owner = locked
        if not rest:
            return rc
        env.note("__dev_queue_xmit", f"virtual device {dev.name} asks to queue a packet")
        rc = rc if is_list else -ENETDOWN
    env.tx_dropped(dev)
    for left in rest:
        env.kfree_skb(left, Reason.NOT_SPECIFIED)
    return rc


@cited("include/linux/netdevice.h:dev_queue_xmit")
def dev_queue_xmit(env: SchedEnv, skb: SkBuff) -> int:
    """A packet with its link-layer header is sent: 0, a code of the discipline (NET_XMIT_), or a negative errno."""
    return __dev_queue_xmit(env, skb)
