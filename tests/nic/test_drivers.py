"""The parameter sets: each driver's constants, and how many descriptors an skb takes."""

import pytest

from refmodel.nic.drivers import DRIVERS, E1000E, IGB, IXGBE, Driver
from refmodel.nic.vector import E1000_IMS_UP

ALL = pytest.mark.parametrize("driver", DRIVERS.values(), ids=list(DRIVERS))


@ALL
def test_ring_sizes_are_allowed_ones(driver: Driver) -> None:
    for count in (driver.tx.count, driver.rx.count):
        assert driver.ring_min <= count <= driver.ring_max
        assert count % 8 == 0


@ALL
def test_a_full_skb_still_fits_after_the_queue_was_left_running(driver: Driver) -> None:
    frags = (4096,) * 17
    need = driver.descriptors(256, frags) + 3 + driver.tx.counts_context
    assert need <= driver.tx.stop_below


@pytest.mark.parametrize(
    ("driver", "head", "frags", "n"),
    [
        (IGB, 60, (), 1),
        (IGB, 32769, (), 2),
        (IGB, 66, (32768, 32768), 3),
        (E1000E, 66, (32768,), 3),
        (IXGBE, 66, (32768,), 3),
    ],
)
def test_descriptors_of_an_skb(driver: Driver, head: int, frags: tuple[int, ...], n: int) -> None:
    assert driver.descriptors(head, frags) == n


def test_e1000e_comes_up_with_all_three_vectors() -> None:
    assert E1000_IMS_UP == 0x1570244
    assert [p.ims for p in E1000E.vectors] == [0x400000, 0x1070244]
