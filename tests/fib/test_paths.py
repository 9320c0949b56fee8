"""What ICMP teaches about a path: its MTU, a better gateway, and for how long."""

import pytest

from refmodel.fib.asked import ipv4_redirect, ipv4_update_pmtu
from refmodel.fib.devinet import netdevice_event
from refmodel.fib.exceptions import ip_dst_mtu_maybe_forward, ipv4_default_advmss, ipv4_mtu
from refmodel.fib.route import ip_route_output_flow
from refmodel.fib.types import RTAX_LOCK, RTAX_MTU, NetdevEvent, NhConfig, Route, ip4
from tests.fib.lab import Lab

SECOND = 1_000_000
FAR = "192.0.2.1"


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.addr("a0", "10.0.0.1/24")
    lab.route("192.0.2.0/24", via="10.0.0.2")
    return lab


def path(lab: Lab, dst: str = FAR) -> Route:
    rt = ip_route_output_flow(lab.net, lab.flow(dst))
    assert isinstance(rt, Route)
    return rt


def mtu(lab: Lab, dst: str = FAR) -> int:
    return ipv4_mtu(lab.net, path(lab, dst))


def test_a_path_s_mtu_is_its_device_s_until_icmp_says_less(lab: Lab) -> None:
    assert mtu(lab) == 1500
    ipv4_update_pmtu(lab.net, lab.flow(FAR), 1400)
    assert mtu(lab) == 1400
    assert mtu(lab, "192.0.2.2") == 1500


def test_no_path_carries_more_than_a_total_length_can_say(lab: Lab) -> None:
    assert lab.devs["lo"].mtu == 65536
    assert mtu(lab, "127.0.0.1") == 65535  # IP_MTU of a UDP socket connected to it, 6.18


def test_a_path_s_mtu_is_forgotten_after_ten_minutes(lab: Lab) -> None:
    ipv4_update_pmtu(lab.net, lab.flow(FAR), 1400)
    lab.env.advance(599 * SECOND)
    assert mtu(lab) == 1400
    lab.env.advance(2 * SECOND)
    assert mtu(lab) == 1500


def test_less_than_552_is_taken_for_552_and_locked(lab: Lab) -> None:
    ipv4_update_pmtu(lab.net, lab.flow(FAR), 300)
    rt = path(lab)
    assert (ipv4_mtu(lab.net, rt), rt.rt_mtu_locked) == (552, True)
    ipv4_update_pmtu(lab.net, lab.flow(FAR), 100)
    assert mtu(lab) == 552


def test_icmp_never_raises_an_mtu(lab: Lab) -> None:
    ipv4_update_pmtu(lab.net, lab.flow(FAR), 1400)
    ipv4_update_pmtu(lab.net, lab.flow(FAR), 1450)
    assert mtu(lab) == 1400


def test_a_locked_metric_is_not_discovered(lab: Lab) -> None:
    lab.route("198.51.100.0/24", via="10.0.0.2", mx={RTAX_LOCK: 1 << RTAX_MTU, RTAX_MTU: 1450})
    ipv4_update_pmtu(lab.net, lab.flow("198.51.100.1"), 1000)
    assert mtu(lab, "198.51.100.1") == 1450


def test_forwarding_does_not_use_what_was_learned(lab: Lab) -> None:
    ipv4_update_pmtu(lab.net, lab.flow(FAR), 1400)
    assert ip_dst_mtu_maybe_forward(lab.net, path(lab), True) == 1500


def test_the_advertised_mss_does_not_shrink_with_the_path(lab: Lab) -> None:
    ipv4_update_pmtu(lab.net, lab.flow(FAR), 1000)
    assert ipv4_default_advmss(lab.net, path(lab)) == 1460


def test_every_nexthop_of_a_route_learns(lab: Lab) -> None:
    lab.addr("a1", "10.0.1.1/24")
    lab.route("203.0.113.0/24", mp=(NhConfig(0, ip4("10.0.0.2")), NhConfig(0, ip4("10.0.1.2"))))
    ipv4_update_pmtu(lab.net, lab.flow("203.0.113.1"), 1300)
    fi = lab.net.tables[254].trie[ip4("203.0.113.0"), 24][0].fa_info
    assert [[x.pmtu for chain in nh.exceptions.values() for x in chain] for nh in fi.fib_nh] == [[1300], [1300]]


def test_a_device_s_smaller_mtu_lowers_what_was_learned(lab: Lab) -> None:
    ipv4_update_pmtu(lab.net, lab.flow(FAR), 1400)
    lab.devs["a0"].mtu = 1300
    netdevice_event(lab.net, lab.devs["a0"], NetdevEvent.CHANGEMTU, 1500)
    assert mtu(lab) == 1300
    lab.devs["a0"].mtu = 1500
    netdevice_event(lab.net, lab.devs["a0"], NetdevEvent.CHANGEMTU, 1300)
    assert mtu(lab) == 1500


def test_ip_ends_on_a_device_whose_mtu_is_below_68(lab: Lab) -> None:
    lab.devs["a0"].mtu = 67
    netdevice_event(lab.net, lab.devs["a0"], NetdevEvent.CHANGEMTU, 1500)
    assert 2 not in lab.net.in_devs
    assert lab.table() == []
    lab.devs["a0"].mtu = 68
    netdevice_event(lab.net, lab.devs["a0"], NetdevEvent.CHANGEMTU, 67)
    assert lab.net.in_devs[2].ifa_list == []


def test_a_redirect_is_taken_from_the_gateway_alone_and_once_the_new_one_is_known(lab: Lab) -> None:
    lab.net.conf_all.accept_redirects = 1
    old, new = ip4("10.0.0.2"), ip4("10.0.0.3")
    ipv4_redirect(lab.net, lab.flow(FAR), lab.devs["a0"], 1, ip4("10.0.0.9"), new)
    assert lab.env.asked == []
    ipv4_redirect(lab.net, lab.flow(FAR), lab.devs["a0"], 1, old, new)
    assert lab.env.asked == [new]
    assert path(lab).rt_gw4 == old
    lab.env.neighbours[new] = 0x02
    ipv4_redirect(lab.net, lab.flow(FAR), lab.devs["a0"], 1, old, new)
    assert path(lab).rt_gw4 == new
    assert path(lab, "192.0.2.2").rt_gw4 == old


def test_a_redirect_to_an_address_off_the_link_is_refused_without_shared_media(lab: Lab) -> None:
    lab.net.conf_all.shared_media = lab.net.in_devs[2].conf.shared_media = 0
    ipv4_redirect(lab.net, lab.flow(FAR), lab.devs["a0"], 1, ip4("10.0.0.2"), ip4("172.16.0.1"))
    assert lab.env.asked == []


def test_a_bucket_of_exceptions_is_kept_short(lab: Lab) -> None:
    for i in range(1, 255):
        ipv4_update_pmtu(lab.net, lab.flow(f"192.0.2.{i}"), 1400)
    fi = lab.net.tables[254].trie[ip4("192.0.2.0"), 24][0].fa_info
    assert max(len(chain) for chain in fi.fib_nh[0].exceptions.values()) <= 11
