"""The queueing layer's machines are proved, and each property notices the fault that was made for it."""

from typing import NamedTuple

import pytest

from refmodel.engine.prove import prove, prove_with
from refmodel.engine.sampled import differences
from refmodel.ptr_ring import PTR_RING
from refmodel.rule import Machine
from refmodel.sched.account import FIFO
from refmodel.sched.bands import PFIFO_FAST
from refmodel.sched.bucket import BUCKET
from refmodel.sched.nolock import NOLOCK

MACHINES = (NOLOCK, PFIFO_FAST, FIFO, BUCKET, PTR_RING)


class Seed(NamedTuple):
    fault: str
    machine: Machine
    module: str
    old: str
    new: str
    caught: str


RUN, BANDS, BOOKS, TBF, RING = (
    "refmodel.sched.nolock",
    "refmodel.sched.bands",
    "refmodel.sched.account",
    "refmodel.sched.bucket",
    "refmodel.ptr_ring",
)
SEEDS = (
    Seed("the lock is kept", NOLOCK, RUN, "Pc.AFTER), locked=False", "Pc.AFTER)", "lock_is_held"),
    Seed("the lock is taken twice", NOLOCK, RUN, "Pc.SET_MISSED if s.locked else Pc.DEQUEUE", "Pc.DEQUEUE",
         "one_holder"),
    Seed("a bypass never ends", NOLOCK, RUN, "missed=missed, bypass=False), (Sent(),)",
         "missed=missed), (Sent(),)", "bypass_has_packet"),
    Seed("nobody looks for MISSED after the lock", NOLOCK, RUN, "sched=s.sched or s.missed", "sched=s.sched",
         "missed_is_seen"),
    Seed("the rings are looked at before what came back", NOLOCK, RUN, "Pc.XMIT), back=s.back - 1",
         "Pc.RETRY), back=s.back", "retry_has_nothing_back"),
    Seed("who comes second sets no MISSED", NOLOCK, RUN, "Pc.IDLE if s.missed else Pc.TRY_AGAIN), missed=True",
         "Pc.IDLE)", "waiting_is_watched"),
    Seed("who comes second does not try again", NOLOCK, RUN, "Pc.IDLE if s.missed else Pc.TRY_AGAIN), missed=True",
         "Pc.IDLE), missed=True", "waiting_is_watched"),
    Seed("MISSED is cleared after the last look into the rings", NOLOCK, RUN, "Pc.AFTER), locked=False",
         "Pc.AFTER), locked=False, missed=False", "waiting_is_watched"),
    Seed("a stopped queue's wake-up is not looked for again", NOLOCK, RUN,
         "missed = after_missed_cleared(s.stopped)", "missed = False", "waiting_is_watched"),
    Seed("who wakes a queue schedules nothing", NOLOCK, RUN, "waking=False, sched=True", "waking=False",
         "no_lost_wakeup"),
    Seed("the softirq clears SCHED and forgets the discipline", NOLOCK, RUN,
         "replace(moved(s, e.b, Pc.TRY), sched=False)", "replace(s, sched=False)", "no_lost_wakeup"),
    Seed("what came back is not marked", NOLOCK, RUN,
         "return replace(moved(s, e.b, Pc.UNLOCK), missed=True), ()", "return moved(s, e.b, Pc.UNLOCK), ()",
         "back_is_marked"),
    Seed("the bypass does not look again under the lock", NOLOCK, RUN,
         "Pc.XMIT if empty(s) else Pc.ENQUEUE_HELD), bypass=empty(s)", "Pc.XMIT), bypass=True",
         "bypass_overtakes_nothing"),
    Seed("a packet comes back twice", NOLOCK, RUN, "back=s.back + 1", "back=s.back + 2", "nothing_lost"),
    Seed("a packet that enters is not counted", PFIFO_FAST, BANDS, "entered=add(s.entered, 1)", "entered=s.entered",
         "nothing_lost"),
    Seed("the length is not kept", PFIFO_FAST, BANDS, "qlen=s.qlen - 1", "qlen=s.qlen", "qlen_counts_rings"),
    Seed("a full ring takes one more", PFIFO_FAST, BANDS,
         "require(not is_full(s, band, p.tx_queue_len)", "require(is_full(s, band, p.tx_queue_len) or e.priority >= 0",
         "ring_has_an_end"),
    Seed("the second band goes first", PFIFO_FAST, BANDS, "return 0 if len0 > 0 else 1 if len1 > 0",
         "return 1 if len1 > 0 else 0 if len0 > 0", "strict_priority"),
    Seed("the newest leaves first", PFIFO_FAST, BANDS, "(Left(band=band, ticket=head(s, band)),)",
         "(Left(band=band, ticket=add(head(s, band), length(s, band) - 1)),)", "first_in_first_out"),
    Seed("a packet enters at the head", PFIFO_FAST, BANDS, "ticket=add(head(s, band), length(s, band))",
         "ticket=head(s, band)", "enters_at_the_end"),
    Seed("a packet that is refused leaves another", PFIFO_FAST, BANDS, "return s, (Refused(band=band),)",
         "return replace(s, left=add(s.left, 1)), (Refused(band=band),)", "refused_or_entered"),
    Seed("the last band waits for ever", PFIFO_FAST, BANDS, "2 if len2 > 0 else 3", "2 if len2 > 1 else 3",
         "works_while_it_has_work"),
    Seed("a reset leaves the last band", PFIFO_FAST, BANDS, "ring2=emptied(s.ring2, p.tx_queue_len)", "ring2=s.ring2",
         "reset_empties"),
    Seed("a drop is not counted", FIFO, BOOKS, "drops=add(s.drops, 1)), (Drop(oldest=False),)",
         "drops=s.drops), (Drop(oldest=False),)", "nothing_lost"),
    Seed("what came back is not part of the queue", FIFO, BOOKS, "gso=s.gso + 1,\n        qlen=s.qlen + 1",
         "gso=s.gso + 1,\n        qlen=s.qlen", "qlen_counts_all"),
    Seed("what came back is counted again", FIFO, BOOKS,
         "gso=s.gso - 1, qlen=s.qlen - 1", "gso=s.gso - 1, packets=add(s.packets, 1), qlen=s.qlen - 1",
         "counted_once"),
    Seed("the limit is one too many", FIFO, BOOKS, "return qlen < limit", "return qlen <= limit",
         "list_has_an_end"),
    Seed("limit 0 keeps one", FIFO, BOOKS, "if p.kind != Kind.PFIFO_HEAD_DROP or p.limit == 0",
         "if p.kind != Kind.PFIFO_HEAD_DROP", "nothing_waits_without_limit"),
    Seed("the bypass does not wait for the driver", FIFO, BOOKS, "if s.qlen == 0 and s.hand == 0 and",
         "if s.hand == 0 and", "bypass_overtakes_nothing"),
    Seed("pfifo drops the oldest", FIFO, BOOKS, "if p.kind == Kind.PFIFO_HEAD_DROP and p.limit > 0",
         "if p.kind != Kind.BFIFO and p.limit > 0", "only_head_drop_drops_others"),
    Seed("what came back waits behind the list", FIFO, BOOKS,
         "return replace(s, gso=s.gso - 1, qlen=s.qlen - 1",
         "return replace(s, waiting=max(s.waiting - 1, 0), qlen=s.qlen - 1", "requeued_first"),
    Seed("a requeue counts as a drop", FIFO, BOOKS, "requeues=add(s.requeues, 1)", "drops=add(s.drops, 1)",
         "requeue_is_counted"),
    Seed("a bucket overflows", BUCKET, TBF, "return min(min(elapsed, buffer) + tokens, buffer) - need",
         "return min(elapsed, buffer) + tokens - need", "within_depth"),
    Seed("tokens are counted twice", BUCKET, TBF, "        t_c=e.now,\n        spent", "        spent", "rate_kept"),
    Seed("the peak is not paid", BUCKET, TBF, "min(min(elapsed, buffer) + ptokens, mtu) - pneed if peak",
         "min(min(elapsed, buffer) + ptokens, mtu) - pneed + 1 if peak", "peak_kept"),
    Seed("buckets are full before they have a size", BUCKET, TBF, "made=True", "made=False", "empty_before_made"),
    Seed("a change leaves the buckets as they were", BUCKET, TBF, "tokens=p.buffer,",
         "tokens=min(s.tokens, p.buffer),", "full_until_counted"),
    Seed("the peak bucket may be overdrawn", BUCKET, TBF,
         "after(s, now, e, p) >= 0 and pafter(s, now, e, p) >= 0", "after(s, now, e, p) >= 0", "overdrawn_never"),
    Seed("the watchdog comes too early", BUCKET, TBF, "return max(0 - left, 0 - pleft)", "return max(0 - left, 1)",
         "watchdog_is_right"),
    Seed("waiting costs tokens", BUCKET, TBF, "return replace(s, watch=until)",
         "return replace(s, watch=until, tokens=0)", "watchdog_not_early"),
    Seed("a slot is free before its batch is", PTR_RING, RING, "return r.waiting + r.held >= size",
         "return r.waiting >= size", "slots_suffice"),
    Seed("batches have thirty-two slots", PTR_RING, RING, "r.held + 1 >= batch(size)", "r.held + 1 >= 2 * batch(size)",
         "held_less_than_a_batch"),
    Seed("the position runs off the ring", PTR_RING, RING, "if r.head + 1 >= size", "if r.head >= size",
         "head_in_ring"),
    Seed("the ring's end frees nothing", PTR_RING, RING, "held=r.held + 1 if what == Freed.HELD else 0",
         "held=0 if what == Freed.BATCH else r.held + 1", "held_since_a_batch"),
    Seed("half a ring is full", PTR_RING, RING, "return r.waiting + r.held >= size",
         "return 2 * (r.waiting + r.held) >= size", "refuses_only_nearly_full"),
    Seed("a packet is produced twice", PTR_RING, RING, "waiting=r.waiting + 1", "waiting=r.waiting + 2",
         "produce_adds_one"),
    Seed("a packet is taken and stays", PTR_RING, RING, "        waiting=r.waiting - 1,\n        held",
         "        waiting=r.waiting,\n        held", "consume_takes_one"),
)  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_machine_is_proved_and_every_rule_lives(machine: Machine) -> None:
    report = prove(machine)
    assert report.ok, report.text()
    assert [x for x in report.never_enabled if x.endswith("anywhere")] == []
    assert report.falsified == ()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_the_prover_reads_the_rules_as_they_run(machine: Machine) -> None:
    assert differences(machine).differences == ()


@pytest.mark.parametrize("seed", SEEDS, ids=lambda s: f"{s.machine.name}: {s.fault}")
def test_the_proof_catches_and_names_the_fault(seed: Seed) -> None:
    report = prove_with(seed.machine, [(seed.module, seed.old, seed.new)])
    named = {x.rsplit(".", 1)[-1] for x in report.failed} | {f.kind for f in report.failures}
    assert seed.caught in named, report.text()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_every_property_has_a_fault_of_its_own(machine: Machine) -> None:
    caught = {s.caught for s in SEEDS if s.machine is machine}
    stated = (*machine.properties("invariant"), *machine.properties("transition"))
    assert {q.id.rsplit(".", 1)[1] for q in stated} <= caught
