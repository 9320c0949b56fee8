"""Carrier: when a device's disciplines sleep and wake."""

from refmodel.dev.linkwatch import LinkWatch, netif_carrier_off, netif_carrier_on
from refmodel.netdevice import NetDevice
from refmodel.sched.attach import dev_activate, dev_deactivate
from refmodel.sched.xmit import dev_queue_xmit
from tests.sched.wire import Wire, packet


class Linked(Wire):
    """`below` is what a stacked device's iflink is."""

    below = 0

    def dev_get_iflink(self, dev: NetDevice) -> int:
        return self.below or dev.ifindex

    def dev_activate(self, dev: NetDevice) -> bool:
        return dev_activate(self, dev)

    def dev_deactivate(self, dev: NetDevice) -> None:
        dev_deactivate(self, dev)

    def working(self, dev: NetDevice) -> str:
        return str(self.netdev_queues(dev)[0].qdisc.ops.id)


def test_the_first_loss_is_dealt_with_at_once_and_the_next_within_a_second() -> None:
    wire = Linked()
    dev = wire.device()
    watch = LinkWatch(wire)
    netif_carrier_off(watch, dev)
    wire.advance(1000)
    assert wire.working(dev) == "noop"
    netif_carrier_on(watch, dev)
    # A carrier that comes to sleeping disciplines is urgent.
    wire.advance(1000)
    assert wire.working(dev) == "pfifo_fast"
    netif_carrier_off(watch, dev)
    wire.advance(900_000)
    assert wire.working(dev) == "pfifo_fast"
    wire.advance(100_000)
    assert wire.working(dev) == "noop"
    assert watch.changes[dev.ifindex] == (1, 2)


def test_a_stacked_device_is_always_urgent() -> None:
    wire = Linked()
    wire.below = 99
    dev = wire.device()
    watch = LinkWatch(wire)
    for change, discipline in ((netif_carrier_off, "noop"), (netif_carrier_on, "pfifo_fast")) * 2:
        change(watch, dev)
        wire.advance(1000)
        assert wire.working(dev) == discipline


def test_a_carrier_that_comes_back_before_anybody_looked_changes_nothing_but_the_counts() -> None:
    wire = Linked()
    dev = wire.device()
    watch = LinkWatch(wire)
    netif_carrier_off(watch, dev)
    netif_carrier_on(watch, dev)
    assert len(watch.pending) == 1
    wire.advance(1000)
    assert wire.working(dev) == "pfifo_fast"
    dev_queue_xmit(wire, packet(dev))
    assert len(wire.out) == 1
