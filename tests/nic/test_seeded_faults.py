"""Each property catches a fault of its own: a changed rule, what breaks, and what the proof then names."""

from typing import NamedTuple

import pytest

from refmodel.engine.prove import prove_with
from refmodel.nic.itr import NIC_ITR
from refmodel.nic.napi import NAPI
from refmodel.nic.rx import NIC_RX
from refmodel.nic.tx import NIC_TX
from refmodel.nic.vector import NIC_VECTOR
from refmodel.rule import Machine

TX, RX, POLL, VECTOR = "refmodel.nic.tx", "refmodel.nic.rx", "refmodel.nic.napi", "refmodel.nic.vector"
ITR = "refmodel.nic.itr"


class Seed(NamedTuple):
    """What goes wrong, where, and the property that says so. `only` names the rule or cells that the fault is in."""

    fault: str
    machine: Machine
    module: str
    old: str
    new: str
    only: str
    caught: str


TX_SEEDS = (
    Seed("the use position runs off the ring", NIC_TX, "refmodel.nic.ring",
         "return a + n if a + n < count else a + n - count",
         "return a + n", "send_map", "positions_in_ring"),
    Seed("the doorbell names a slot past the filled ones", NIC_TX, TX, "tail=s.next_to_use, more=False",
         "tail=advance(s.next_to_use, 1, p.count), more=False", "step_doorbell", "one_owner"),
    Seed("the doorbell stops short", NIC_TX, TX, "tail=s.next_to_use, more=False",
         "tail=s.head, more=False", "step_doorbell", "last_of_list_rings"),
    Seed("the tail moves to what the device has read", NIC_TX, TX, "tail=s.next_to_use, more=False",
         "tail=s.head, more=False", "step_doorbell", "tail_ends_at_use"),
    Seed("the room test forgets the gap", NIC_TX, TX, "RESERVE: Final = 3", "RESERVE: Final = 0", "send_map",
         "gap_stays_empty"),
    Seed("the room test forgets the packet's size", NIC_TX, TX, "return data + RESERVE", "return RESERVE", "send_map",
         "fills_only_free"),
    Seed("the cleaner's position is visible before it moved", NIC_TX, TX, "packets=s.packets - 1,",
         "packets=s.packets - 1, clean_seen=s.next_to_use,", "TxRing.IDLE+CleanStep", "sender_sees_no_more"),
    Seed("a mapped packet is not counted", NIC_TX, TX, "packets=s.packets + 1", "packets=s.packets", "send_map",
         "packet_for_slots"),
    Seed("the ring forgets its packet", NIC_TX, TX, "packets=s.packets + 1", "packets=0", "send_map",
         "packets_fill_slots"),
    Seed("a freed packet leaves its slots behind", NIC_TX, TX,
         "next_to_clean=advance(s.next_to_clean, e.n, p.count),", "",
         "TxRing.IDLE+CleanStep", "completed_once"),
    Seed("a packet is freed before its DD bit", NIC_TX, TX,
         "if s.dd > 0 and s.budget > 0", "if s.packets > 0 and s.budget > 0",
         "TxRing.IDLE+CleanStep", "completed_once"),
    Seed("DD is not counted", NIC_TX, TX,
         "dd=s.dd + 1", "dd=s.dd", "TxRing.IDLE+DeviceWroteBack", "written_back_fill_slots"),
    Seed("a fetch counts as written back", NIC_TX, TX, "replace(s, head=advance(s.head, e.n, p.count))",
         "replace(s, head=advance(s.head, e.n, p.count), done=advance(s.head, e.n, p.count))",
         "TxRing.IDLE+DeviceFetched", "rest_fill_slots"),
    Seed("the barrier before the recheck is missing", NIC_TX, TX,
         "xmit=Xmit.LOW_RECHECK, stopped=s.stopped or s.stop_stored, stop_stored=False", "xmit=Xmit.LOW_RECHECK",
         "step_low_barrier", "stop_bit_on_its_way"),
    Seed("the recheck maps without clearing the skb at hand", NIC_TX, TX, "        data=0,\n", "", "step_reprieve",
         "skb_at_hand"),
    Seed("a pass that freed packets ends without a look at the stop bit", NIC_TX, TX,
         "clean=Clean.BARRIER if look else Clean.IDLE", "clean=Clean.IDLE",
         "TxRing.IDLE+CleanStep", "much_room_is_visible"),
    Seed("the barrier before the cleaner's look is missing", NIC_TX, TX, "clean=Clean.WAKE, clean_seen=s.next_to_clean",
         "clean=Clean.WAKE", "TxRing.IDLE+CleanStep", "wake_comes_after_barrier"),
    Seed("the cleaner sees the stop bit and does not wake", NIC_TX, TX,
         "budget=0,\n        stopped=False,", "budget=0,",
         "TxRing.IDLE+CleanStep", "stopped_means_little_room"),
    Seed("the threshold to wake is never reached", NIC_TX, TX, "free(s, p) >= p.wake_at\n",
         "free(s, p) >= p.count\n", "TxRing.IDLE+CleanStep", "stopped_means_packets"),
    Seed("the recheck stays stopped whatever the room", NIC_TX, TX,
         "    if room(s, p) < p.stop_below:\n        return replace(s, xmit=Xmit.TAIL), ()",
         "    if room(s, p) < p.count:\n        return replace(s, xmit=Xmit.TAIL), ()",
         "step_low", "stopped_means_little_room"),
    Seed("the loop looks at its budget too late", NIC_TX, TX, "s.dd > 0 and s.budget > 0", "s.dd > 0 and s.budget >= 0",
         "TxRing.IDLE+CleanStep", "pass_within_budget"),
    Seed("the count of freed packets outlives the pass", NIC_TX, TX, "freed=s.freed if look else 0", "freed=s.freed",
         "TxRing.IDLE+CleanStep", "counts_only_in_pass"),
    Seed("the device takes the driver's tail along", NIC_TX, TX, "replace(s, head=advance(s.head, e.n, p.count))",
         "replace(s, head=advance(s.head, e.n, p.count), tail=s.next_to_use)",
         "TxRing.IDLE+DeviceFetched", "device_moves_its_own"),
    Seed("the driver resets the device's head", NIC_TX, TX, "tail=s.next_to_use, more=False",
         "tail=s.next_to_use, head=s.done, more=False", "step_doorbell", "driver_moves_its_own"),
    Seed("a reset leaves the queue stopped", NIC_TX, TX, "return TxRing(carrier=s.carrier)",
         "return TxRing(carrier=s.carrier, stopped=s.stopped)", "TxRing.IDLE+Reset", "reset_empties"),
    Seed("a second sender does not wait for the lock", NIC_TX, TX,
         "at=SENDING)\ndef send_waits", "at=Xmit.TAIL)\ndef send_waits",
         "LOW_RECHECK+Send", "total"),
    Seed("the room test is not the same on both sides", NIC_TX, TX, "require(room(s, p) < size(e.data, e.context, p)",
         "require(room(s, p) <= size(e.data, e.context, p)", "TxRing.IDLE+Send", "disjoint"),
)  # fmt: skip

RX_SEEDS = (
    Seed("the clean position runs off the ring", NIC_RX, "refmodel.nic.ring",
         "return a + n if a + n < count else a + n - count", "return a + n", "take_frame", "positions_in_ring"),
    Seed("a refill fills the slot that must stay empty", NIC_RX, "refmodel.nic.ring", "return count - 1 - dist",
         "return count - dist", "nic.rx.fill", "one_owner"),
    Seed("a refill is asked for one slot too many", NIC_RX, RX, "cleaned=room(s, p) if p.budget_first else 0",
         "cleaned=room(s, p) + 1 if p.budget_first else 0", "poll_rx", "refill_fits"),
    Seed("a refill goes on with nothing to do", NIC_RX, RX, "require(s.cleaned > 1, \"more slots to refill\")",
         "require(s.cleaned > 0, \"more slots to refill\")", "REFILL_END+RxStep", "refill_has_work"),
    Seed("igb forgets the tail after a refill that fell short", NIC_RX, RX,
         "if not p.tail_in_batches and s.next_to_use != s.tail:\n        return refilled(s, Rx.IDLE",
         "if False and s.next_to_use != s.tail:\n        return refilled(s, Rx.IDLE", "nic.rx.fill_fails at",
         "tail_keeps_up"),
    Seed("e1000e's tail names the slot after the batch", NIC_RX, RX,
         "tail=s.next_to_use, cleaned=s.cleaned - 1), (RxTail(tail=s.next_to_use),)",
         "tail=use, cleaned=s.cleaned - 1), (RxTail(tail=use),)", "fill_batched", "tail_in_whole_batches"),
    Seed("a batch has eight slots", NIC_RX, RX, "return s.next_to_use % RX_BUFFER_WRITE == 0",
         "return s.next_to_use % 8 == 0", "fill_batched", "tail_in_whole_batches"),
    Seed("a frame that went up is still counted", NIC_RX, RX,
         "open=False, frames=s.frames - 1), (FrameUp", "open=False), (FrameUp", "take_frame", "frames_in_ring"),
    Seed("the rest of a frame is read and the part kept", NIC_RX, RX,
         "open=False, frames=s.frames - 1), (FrameUp", "open=True, frames=s.frames - 1), (FrameUp", "take_frame",
         "part_has_rest"),
    Seed("the loop looks at its budget too late", NIC_RX, RX, "s.work >= s.budget", "s.work > s.budget", "take_frame",
         "work_within_budget"),
    Seed("the tail moves and the register is not written", NIC_RX, RX,
         "return refilled(s, Rx.CLEAN, use, use), (RxTail(tail=use),)", "return refilled(s, Rx.CLEAN, use, use), ()",
         "fill_last_of_batch", "tail_is_written"),
    Seed("a slot is filled without a buffer", NIC_RX, RX,
         "return refilled(s, Rx.CLEAN, s.next_to_use, s.tail), (AllocFailed(),)",
         "return refilled(s, Rx.CLEAN, advance(s.next_to_use, 1, p.count), s.tail), (AllocFailed(),)",
         "fill_fails_in_batch", "buffers_conserved"),
    Seed("the driver reads a descriptor that the device has not written", NIC_RX, RX,
         "if not written or s.work >= s.budget", "if s.work >= s.budget", "CLEAN+RxStep", "reads_only_written"),
    Seed("a part of a frame goes up", NIC_RX, RX, "return replace(taken(s, p.one_buffer, p), open=True), ()",
         "return replace(taken(s, p.one_buffer, p), open=True), (FrameUp(slot=s.next_to_clean),)", "take_part",
         "whole_frames_up"),
    Seed("the device writes without a buffer", NIC_RX, RX, "require(s.head != s.tail, \"the device has a buffer\")",
         "require(s.head == s.tail, \"the device has a buffer\")", "RxRing.IDLE+DeviceReceived", "device_needs_buffer"),
    Seed("the device takes the driver's position along", NIC_RX, RX, "device_mid=not e.eop,",
         "device_mid=not e.eop, next_to_clean=s.head,", "device_received", "device_moves_its_own"),
    Seed("the driver moves the device's head", NIC_RX, RX, "return replace(s, rx=Rx.REFILL), ()",
         "return replace(s, rx=Rx.REFILL, head=s.tail), ()", "step_batch", "driver_moves_its_own"),
)  # fmt: skip

NAPI_SEEDS = (
    Seed("the interrupt stays masked after a poll", NAPI, POLL, "masked=s.masked and down(s))", "masked=s.masked)",
         "driver_unmasks", "masked_is_polled"),
    Seed("the driver unmasks though it goes down", NAPI, POLL, "masked=s.masked and down(s))", "masked=False)",
         "driver_unmasks", "down_is_masked"),
    Seed("the driver unmasks before napi_complete_done", NAPI, POLL,
         "poll=Poll.EMPTY, pending", "masked=False, poll=Poll.EMPTY, pending",
         "driver_empty", "unmasks_after_complete"),
    Seed("a poll that found nothing more leaves work in the ring", NAPI, POLL,
         "poll=Poll.EMPTY, pending=s.pending - e.work",
         "poll=Poll.EMPTY, pending=s.pending", "driver_empty", "work_is_seen"),
    Seed("an interrupt during the poll sets no MISSED bit", NAPI, POLL, "missed=True, cause=False, masked=True",
         "cause=False, masked=True", "interrupt_missed", "work_is_seen"),
    Seed("MISSED is dropped by napi_complete_done", NAPI, POLL,
         "        if s.missed\n        else Complete.DEFER", "        if False\n        else Complete.DEFER",
         "Napi.EMPTY+DriverStep", "work_is_seen"),
    Seed("MISSED is cleared and nothing scheduled", NAPI, POLL,
         "replace(scheduled(s, p), poll=Poll.RETURNED, missed=False,",
         "replace(s, sched=False, poll=Poll.RETURNED, missed=False,", "complete_again", "missed_not_lost"),
    Seed("MISSED reschedules without the list", NAPI, POLL, "return replace(s, sched=True, listed=Listed.PENDING,",
         "return replace(s, sched=True,", "complete_again", "scheduled_is_somewhere"),
    Seed("an instance is listed without SCHED", NAPI, POLL, "return replace(s, sched=True, listed=Listed.PENDING,",
         "return replace(s, listed=Listed.PENDING,", "nic.napi.schedule", "listed_is_scheduled"),
    Seed("the poll starts and the instance stays listed", NAPI, POLL, "poll=Poll.DRIVER, listed=Listed.NOWHERE, work=0",
         "poll=Poll.DRIVER, work=0", "poll_starts", "not_taken_while_polled"),
    Seed("the poll gives SCHED away while it looks", NAPI, POLL,
         "poll=Poll.EMPTY, pending", "sched=False, poll=Poll.EMPTY, pending",
         "driver_empty", "poll_is_owned"),
    Seed("the run ends with its own list kept", NAPI, POLL,
         "listed=Listed.NOWHERE if s.listed == Listed.NOWHERE else Listed.PENDING,",
         "", "list_repoll", "polled_in_softirq"),
    Seed("a full poll gives SCHED back", NAPI, POLL, "poll=Poll.RETURNED, pending=s.pending - e.work, work=p.weight",
         "poll=Poll.RETURNED, sched=False, pending=s.pending - e.work, work=p.weight",
         "driver_full", "full_keeps_sched"),
    Seed("scheduling raises no softirq", NAPI, POLL, "softirq=s.softirq or raises(s, p))\n\n\n@pure\ndef defers",
         "softirq=s.softirq)\n\n\n@pure\ndef defers", "nic.napi.schedule", "pending_is_raised"),
    Seed("a run that ends with work does not raise the softirq again", NAPI, POLL,
         "softirq=s.softirq or again,", "softirq=s.softirq,",
         "list_repoll", "flag_is_raised"),
    Seed("6.1 trusts in_net_rx_action, which it does not have", NAPI, POLL,
         "p.kernel < 612 or not s.sd_in_action", "not s.sd_in_action",
         "nic.napi.schedule", "old_kernels_raise"),
    Seed("in_net_rx_action is not set", NAPI, POLL,
         "sd_in_action=True,\n        listed=", "listed=", "nic.napi.softirq",
         "flag_while_running"),
    Seed("the loop forgets the budget", NAPI, POLL,
         "Loop.SQUEEZED if budget <= 0 or time_up", "Loop.SQUEEZED if time_up",
         "Napi.OUT+PollOther", "polls_on_budget"),
    Seed("the loop forgets the budget after its own poll", NAPI, POLL,
         "Loop.SQUEEZED if budget <= 0 or time_up", "Loop.SQUEEZED if time_up",
         "Napi.RETURNED+NetRxStep", "polls_on_budget"),
    Seed("a poll completes with its weight used up", NAPI, POLL, "require(e.work < p.weight and not e.tx_left",
         "require(e.work <= p.weight and not e.tx_left", "driver_empty", "completes_below_weight"),
    Seed("an unclean transmit ring returns more than the weight", NAPI, POLL,
         "pending=s.pending - e.work, work=p.weight",
         "pending=s.pending - e.work, work=e.work + p.weight", "driver_full", "work_within_weight"),
    Seed("napi_disable leaves the timer armed", NAPI, POLL, "npsvc=True, timer=False)", "npsvc=True)", "disable_done",
         "disabled_is_quiet"),
    Seed("napi_disable does not mask", NAPI, POLL, "return replace(s, masked=True, disable=True), (MaskIrq(),)",
         "return replace(s, disable=True), (MaskIrq(),)", "disable_waits", "down_is_masked"),
    Seed("who used up the weight goes off the lists", NAPI, POLL,
         "Listed.REPOLL if full and not quits", "Listed.NOWHERE if full and not quits",
         "Napi.RETURNED+NetRxStep", "weight_is_repolled"),
    Seed("the interrupt does not mask itself", NAPI, POLL, "replace(scheduled(s, p), cause=False, masked=True)",
         "replace(scheduled(s, p), cause=False)", "nic.napi.interrupt", "interrupt_masks"),
    Seed("a squeeze is not counted", NAPI, POLL,
         "return t, (TimeSqueeze(), RaiseSoftirq())", "return t, (RaiseSoftirq(),)",
         "other_squeezed", "squeeze_is_counted"),
    Seed("a run without others' work left ends for no rule", NAPI, POLL,
         "require(s.listed == Listed.REPOLL", "require(s.listed == Listed.TAKEN",
         "Napi.OUT+NetRxStep", "total"),
)  # fmt: skip

VECTOR_SEEDS = (
    Seed("the handler leaves the vector masked", NIC_VECTOR, VECTOR, "t = replace(s, phase=Phase.IDLE, masked=s.down)",
         "t = replace(s, phase=Phase.IDLE)", "handler_ends", "masked_in_handler"),
    Seed("an unclean ring sets no cause", NIC_VECTOR, VECTOR,
         "pending=True, cause=True, masked=s.down", "pending=True, masked=s.down",
         "handler_again", "cause_for_pending"),
    Seed("the handler does not write the mask", NIC_VECTOR, VECTOR,
         "return t, (SetCause(mask=p.ims), VectorUnmask(mask=p.ims))", "return t, (SetCause(mask=p.ims),)",
         "handler_again", "handler_unmasks"),
)  # fmt: skip

ITR_SEEDS = (
    Seed("a higher rate is added to, without an end", NIC_ITR, ITR,
         "min(itr + new // 4, new)", "itr + new // 4", "poll_ends_later", "rate_in_range"),
    Seed("the conservative mode keeps the lowest latency", NIC_ITR, ITR,
         "Latency.LOW if p.throttle == Throttle.CONSERVATIVE and found == Latency.LOWEST else found", "found",
         "poll_ends_later", "conservative_is_never_lowest"),
    Seed("a rate waits though it was written", NIC_ITR, ITR,
         "after_poll(s, e, p, waits=False)", "after_poll(s, e, p, waits=True)", "poll_ends_now",
         "waits_for_its_vector"),
    Seed("a higher rate comes at once", NIC_ITR, ITR,
         "min(itr + new // 4, new) if new > itr else new", "new", "poll_ends_later", "rises_in_steps"),
    Seed("a lower rate comes in steps", NIC_ITR, ITR,
         "if new > itr else new", "if new > itr else new + (itr - new) // 2", "poll_ends_later", "falls_at_once"),
    Seed("a new rate is forgotten", NIC_ITR, ITR,
         "after_poll(s, e, p, waits=True), ()", "after_poll(s, e, p, waits=False), ()", "poll_ends_later",
         "change_is_written"),
    Seed("the rate waits on after it was written", NIC_ITR, ITR,
         "replace(s, waits=False), (WriteRate(itr=s.itr", "s, (WriteRate(itr=s.itr", "interrupt_writes",
         "interrupt_leaves_none"),
    Seed("the handler clears the wait and writes nothing", NIC_ITR, ITR,
         "replace(s, waits=False), (WriteRate(itr=s.itr, every=False),)", "replace(s, waits=False), ()",
         "interrupt_writes", "writes_only_changes"),
    Seed("the watchdog pushes transmit descriptors alone", NIC_ITR, ITR,
         "after = Watchdog.RDTR if s.watchdog == Watchdog.TIDV else Watchdog.RDTR_AGAIN",
         "after = Watchdog.RDTR if s.watchdog == Watchdog.TIDV else Watchdog.IDLE", "watchdog_tidv",
         "pushed_in_turn"),
)  # fmt: skip

SEEDS = (*TX_SEEDS, *RX_SEEDS, *NAPI_SEEDS, *VECTOR_SEEDS, *ITR_SEEDS)


def ident(seed: Seed) -> str:
    return f"{seed.machine.name}: {seed.fault}"


@pytest.mark.parametrize("seed", SEEDS, ids=ident)
def test_the_proof_catches_and_names_the_fault(seed: Seed) -> None:
    only = seed.only if "+" in seed.only or "." in seed.only or not seed.only else "." + seed.only
    report = prove_with(seed.machine, [(seed.module, seed.old, seed.new)], only=only.removesuffix(" at"))
    named = {x.rsplit(".", 1)[-1] for x in report.failed} | {f.kind for f in report.failures}
    assert seed.caught in named, report.text()


def test_every_property_has_a_fault_of_its_own() -> None:
    caught = {(s.machine.name, s.caught) for s in SEEDS}
    for machine in (NIC_TX, NIC_RX, NAPI, NIC_VECTOR, NIC_ITR):
        stated = (*machine.properties("invariant"), *machine.properties("transition"))
        wanted = {q.id.rsplit(".", 1)[1] for q in stated if not q.falsified}
        assert wanted - {c for m, c in caught if m == machine.name} == set()
