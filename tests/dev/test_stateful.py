"""A card, its ring, byte queue limits and a discipline under Hypothesis: whatever the order, what enters leaves."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from refmodel.nic import driver as nic
from refmodel.nic.drivers import E1000E, IGB
from refmodel.sched.xmit import dev_queue_xmit
from tests.nic.test_driver import Card
from tests.sched.wire import packet


class Sending(RuleBasedStateMachine):
    """Packets come, the card sends now and then, and NAPI cleans now and then."""

    @initialize(driver=st.sampled_from((IGB, E1000E)), kind=st.sampled_from(("pfifo", "pfifo_fast")))
    def begin(self, driver: nic.Driver, kind: str) -> None:
        self.card = Card(driver, kind, 200)
        self.entered = 0

    @rule(n=st.integers(1, 60), size=st.sampled_from((60, 600, 1500)))
    def send(self, n: int, size: int) -> None:
        for _ in range(n):
            self.entered += 1
            dev_queue_xmit(self.card, packet(self.card.dev, size, mark=self.entered))

    @rule()
    def transmits(self) -> None:
        nic.device_transmit(self.card.card)

    @rule()
    def polls(self) -> None:
        self.card.poll()

    @rule(ms=st.integers(1, 3000))
    def waits(self, ms: int) -> None:
        self.card.now += ms * 1000

    @rule()
    def drains(self) -> None:
        """While the card sends and NAPI cleans, no queue stays stopped."""
        q = self.card.root_qdisc(self.card.dev)
        for _ in range(len(self.card.card.sent) + q.qlen + 4):
            nic.device_transmit(self.card.card)
            self.card.poll()
        assert (q.qlen, len(self.card.card.sent)) == (0, 0)
        assert not self.card.card.txq.xmit_stopped

    @invariant()
    def nothing_is_lost(self) -> None:
        q = self.card.root_qdisc(self.card.dev)
        assert self.entered == len(self.card.consumed) + len(self.card.card.sent) + q.qlen + q.drops

    @invariant()
    def limits_know_what_is_on_its_way(self) -> None:
        dql = self.card.card.txq.dql
        on_its_way = sum(count for _, _, count in self.card.card.sent)
        assert (dql.num_queued - dql.num_completed) & 0xFFFFFFFF == on_its_way

    @invariant()
    def order_is_kept(self) -> None:
        marks = [s.mark for s in self.card.wired]
        assert marks == sorted(marks)


TestSending = Sending.TestCase
TestSending.settings = settings(max_examples=25, stateful_step_count=20, deadline=None, derandomize=True)
