"""What holds of the transmit ring in every state and on every step, each in one sentence."""

from refmodel.nic.ring import dist
from refmodel.nic.tx import (
    Clean,
    CleanStep,
    DeviceFetched,
    DeviceWroteBack,
    Reset,
    Send,
    SendStep,
    TxParams,
    TxRing,
    Xmit,
    free,
    room,
)
from refmodel.rule import invariant, pure, transition


@pure
def filled(s: TxRing, p: TxParams) -> int:
    """Slots from next_to_clean to next_to_use."""
    return dist(s.next_to_clean, s.next_to_use, p.count)


@pure
def will_look(s: TxRing) -> bool:
    """The cleaner has freed something and has yet to look at the stop bit."""
    return s.clean in (Clean.BARRIER, Clean.WAKE) or (s.clean == Clean.WALK and s.freed > 0)


@pure
def settled(s: TxRing) -> bool:
    """Neither processor is about to start or wake the queue."""
    return s.xmit in (Xmit.IDLE, Xmit.TAIL) and not will_look(s)


@pure
def flow_stopped(s: TxRing, p: TxParams) -> bool:
    """The queue is stopped for want of room, not for a hang or a lost link."""
    return s.stopped and not s.hung and not s.wake_skipped and (s.carrier or not p.link_stops)


@invariant()
def positions_in_ring(s: TxRing, p: TxParams) -> bool:
    """Every position is a slot of the ring."""
    return (
        s.next_to_use < p.count
        and s.tail < p.count
        and s.head < p.count
        and s.done < p.count
        and s.next_to_clean < p.count
        and s.clean_seen < p.count
    )


@invariant()
def one_owner(s: TxRing, p: TxParams) -> bool:
    """No descriptor is owned by both sides: clean, done, head, tail and use follow each other within one lap."""
    return (
        dist(s.next_to_clean, s.done, p.count)
        <= dist(s.next_to_clean, s.head, p.count)
        <= dist(s.next_to_clean, s.tail, p.count)
        <= filled(s, p)
    )


@invariant()
def gap_stays_empty(s: TxRing, p: TxParams) -> bool:
    """One slot always stays empty, and one more: a full ring never looks like an empty one."""
    return room(s, p) >= 2


@invariant()
def sender_sees_no_more(s: TxRing, p: TxParams) -> bool:
    """The sender never sees more room than there is."""
    return room(s, p) <= free(s, p)


@invariant()
def packets_fill_slots(s: TxRing, p: TxParams) -> bool:
    """The filled slots hold the packets: none without a slot, no slot without a packet."""
    return s.packets <= filled(s, p) and (s.packets > 0 or filled(s, p) == 0)


@invariant()
def written_back_fill_slots(s: TxRing, p: TxParams) -> bool:
    """The written-back slots hold the packets with DD: none without a slot, no slot without a packet."""
    back = dist(s.next_to_clean, s.done, p.count)
    return s.dd <= s.packets and s.dd <= back and (s.dd > 0 or back == 0)


@invariant()
def rest_fill_slots(s: TxRing, p: TxParams) -> bool:
    """The slots not written back hold the other packets."""
    rest = dist(s.done, s.next_to_use, p.count)
    return s.packets - s.dd <= rest and (s.packets > s.dd or rest == 0)


@invariant()
def stop_bit_on_its_way(s: TxRing) -> bool:
    """The sender looks at the ring again only after its stop bit is visible."""
    return not s.stop_stored or s.xmit in (Xmit.FULL_BARRIER, Xmit.LOW_BARRIER)


@invariant()
def skb_at_hand(s: TxRing) -> bool:
    """The sender holds an skb that is not in the ring only while it waits for room."""
    return (s.data > 0) == (s.xmit in (Xmit.FULL_BARRIER, Xmit.FULL_RECHECK)) and (s.data > 0 or not s.context)


@invariant()
def much_room_is_visible(s: TxRing, p: TxParams) -> bool:
    """Room to wake the queue is visible to the sender once the cleaner is not about to look at the stop bit."""
    return will_look(s) or s.hung or s.wake_skipped or free(s, p) < p.wake_at or s.clean_seen == s.next_to_clean


@invariant()
def wake_comes_after_barrier(s: TxRing) -> bool:
    """The cleaner reads the stop bit only after its position is visible."""
    return s.clean != Clean.WAKE or s.clean_seen == s.next_to_clean


@invariant()
def stopped_means_little_room(s: TxRing, p: TxParams) -> bool:
    """A stopped queue with a free ring always wakes: at rest, a queue stopped for want of room has little room."""
    return not settled(s) or not flow_stopped(s, p) or free(s, p) < p.wake_at


@invariant()
def stopped_means_packets(s: TxRing, p: TxParams) -> bool:
    """A queue stopped for want of room has packets in the ring whose completion will wake it."""
    return not settled(s) or not flow_stopped(s, p) or s.packets > 0


@invariant()
def pass_within_budget(s: TxRing, p: TxParams) -> bool:
    """A pass never frees more packets than its limit (in e1000e: begins no packet past its limit of descriptors)."""
    return s.budget >= 0 or p.limit_is_count


@invariant()
def counts_only_in_pass(s: TxRing) -> bool:
    """Outside a pass nothing is counted as freed."""
    return s.clean != Clean.IDLE or s.freed == 0


@invariant(
    falsified="a wake between the sender's recheck and its look at the stop bit lets it put the doorbell off in a full "
    "ring, and BUSY for the next packet returns without writing the tail; only ndo_tx_timeout mends that"
)
def stopped_queue_rang(s: TxRing, p: TxParams) -> bool:
    """When the sender has left a stopped queue, every packet in the ring has been handed to the device."""
    return s.xmit != Xmit.IDLE or not flow_stopped(s, p) or s.tail == s.next_to_use


@invariant(
    falsified="igb wakes no queue when the link comes back; one whose last packets completed while the carrier was off "
    "stays stopped over an empty ring until ndo_tx_timeout"
)
def link_loss_mended(s: TxRing, p: TxParams) -> bool:
    """Also after the link was lost, a stopped queue has packets in the ring whose completion will wake it."""
    return not settled(s) or not s.stopped or not s.carrier or s.hung or s.packets > 0


@transition()
def tail_ends_at_use(s: TxRing, e: object, t: TxRing) -> bool:
    """The tail moves only to the end of what the driver has filled."""
    return t.tail == s.tail or t.tail == t.next_to_use


@transition(Send, SendStep)
def fills_only_free(s: TxRing, e: object, t: TxRing, effects: object, p: TxParams) -> bool:
    """The sender fills only slots that were its own, and leaves a gap."""
    return dist(s.next_to_use, t.next_to_use, p.count) + 2 <= room(s, p) or t.next_to_use == s.next_to_use


@transition(Send, SendStep)
def packet_for_slots(s: TxRing, e: object, t: TxRing) -> bool:
    """A packet enters the ring exactly when the sender fills slots; BUSY and a drop leave the ring as it was."""
    return t.packets == s.packets + (1 if t.next_to_use != s.next_to_use else 0) and t.dd == s.dd


@transition(CleanStep)
def completed_once(s: TxRing, e: CleanStep, t: TxRing, effects: object, p: TxParams) -> bool:
    """A packet is freed once, whole, and only after the device wrote it back."""
    freed = s.packets - t.packets
    return (freed == 0 and t.dd == s.dd and t.next_to_clean == s.next_to_clean) or (
        freed == 1 and s.dd > 0 and t.dd == s.dd - 1 and dist(s.next_to_clean, t.next_to_clean, p.count) == e.n
    )


@transition(DeviceFetched, DeviceWroteBack)
def device_moves_its_own(s: TxRing, e: object, t: TxRing) -> bool:
    """The device moves none of the driver's positions and frees nothing."""
    return (
        t.next_to_use == s.next_to_use
        and t.tail == s.tail
        and t.next_to_clean == s.next_to_clean
        and t.packets == s.packets
    )


@transition(Send, SendStep, CleanStep)
def driver_moves_its_own(s: TxRing, e: object, t: TxRing) -> bool:
    """The driver moves none of the device's positions."""
    return t.head == s.head and t.done == s.done


@transition(SendStep, at=Xmit.TAIL)
def last_of_list_rings(s: TxRing, e: SendStep, t: TxRing) -> bool:
    """A mapped packet after which no other is promised is handed to the device at once."""
    return s.more or t.tail == t.next_to_use


@transition(
    Send,
    falsified="a last packet with a bad TSO header or a failed mapping returns OK without writing the tail for the "
    "packets of its list that came before it",
)
def drop_rings(s: TxRing, e: Send, t: TxRing) -> bool:
    """A last packet that is dropped still hands over the packets before it."""
    return e.more or t.xmit != Xmit.IDLE or s.stopped or s.stack_xoff or t.tail == t.next_to_use


@transition(Reset)
def reset_empties(s: TxRing, e: Reset, t: TxRing) -> bool:
    """A reset leaves the ring as it is or empty and running."""
    return t == s or (t.packets == 0 and t.next_to_use == t.next_to_clean and not t.stopped)
