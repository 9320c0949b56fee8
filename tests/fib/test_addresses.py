"""Addresses and the routes that come and go with them."""

from errno import EADDRNOTAVAIL, EEXIST

import pytest

from refmodel.fib.devinet import inet_rtm_newaddr
from refmodel.fib.saddr import inet_confirm_addr, inet_select_addr
from refmodel.fib.types import IFA_F_NOPREFIXROUTE, IFA_F_SECONDARY, RT_SCOPE_HOST, RT_SCOPE_LINK, dotted, ip4
from tests.fib.lab import Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()


def addresses(lab: Lab, name: str) -> list[str]:
    return [
        dotted(a.ifa_local) + (" secondary" if a.ifa_flags & IFA_F_SECONDARY else "")
        for a in lab.net.in_devs[lab.devs[name].ifindex].ifa_list
    ]


def test_lo_brings_its_net_as_local_routes(lab: Lab) -> None:
    assert lab.table(255) == ["local 127.0.0.0/8", "local 127.0.0.1/32", "broadcast 127.255.255.255/32"]


def test_an_address_brings_a_local_a_broadcast_and_a_connected_route(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24")
    assert lab.table() == ["unicast 10.0.0.0/24"]
    assert lab.table(255)[:2] == ["local 10.0.0.1/32", "broadcast 10.0.0.255/32"]


def test_a_host_address_brings_no_connected_route(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/32")
    assert lab.table() == []


def test_a_point_to_point_net_has_no_network_broadcast(lab: Lab) -> None:
    assert inet_rtm_newaddr(lab.net, 2, ip4("10.0.0.0"), 31) == 0
    assert lab.table(255)[0] == "local 10.0.0.0/32"
    assert lab.table(255)[1].startswith("local 127")


def test_a_second_address_of_a_subnet_is_secondary(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24")
    lab.addr("a0", "10.0.0.2/24")
    lab.addr("a0", "10.0.1.1/24")
    assert addresses(lab, "a0") == ["10.0.0.1", "10.0.1.1", "10.0.0.2 secondary"]


def test_an_address_is_added_once(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24")
    assert lab.addr("a0", "10.0.0.1/24") == -EEXIST
    assert lab.addr("a0", "10.0.0.1/16") == 0


def test_an_address_that_is_not_there_cannot_be_deleted(lab: Lab) -> None:
    assert lab.deladdr("a0", "10.0.0.1/24") == -EADDRNOTAVAIL


def test_a_primary_takes_its_secondaries_along(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24")
    lab.addr("a0", "10.0.0.2/24")
    lab.deladdr("a0", "10.0.0.1/24")
    assert addresses(lab, "a0") == []
    assert lab.table() == []
    assert [x for x in lab.table(255) if "10." in x] == []


def test_with_promotion_the_first_secondary_takes_the_primary_s_place(lab: Lab) -> None:
    lab.net.conf_all.promote_secondaries = 1
    for last in (1, 2, 3):
        lab.addr("a0", f"10.0.0.{last}/24")
    lab.deladdr("a0", "10.0.0.1/24")
    assert addresses(lab, "a0") == ["10.0.0.2", "10.0.0.3 secondary"]
    assert lab.way("10.0.0.9") == "unicast dev a0 from 10.0.0.2"
    assert "local 10.0.0.3/32" in lab.table(255)


def test_a_broadcast_route_stays_while_another_address_needs_it(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24")
    lab.addr("a0", "10.0.0.2/24")
    lab.deladdr("a0", "10.0.0.2/24")
    assert "broadcast 10.0.0.255/32" in lab.table(255)


def test_routes_from_an_address_that_is_gone_go_too(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24")
    lab.addr("a1", "10.0.1.1/24")
    lab.route("192.0.2.0/24", via="10.0.0.2", prefsrc=ip4("10.0.1.1"))
    lab.deladdr("a1", "10.0.1.1/24")
    assert "unicast 192.0.2.0/24" not in lab.table()


def test_the_last_address_of_a_device_takes_all_its_routes(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24")
    lab.route("192.0.2.0/24", dev="a0")
    lab.deladdr("a0", "10.0.0.1/24")
    assert lab.table() == []


def test_an_address_may_come_without_its_connected_route(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24", flags=IFA_F_NOPREFIXROUTE)
    assert lab.table() == []


def test_the_source_is_of_the_destination_s_subnet(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24")
    lab.addr("a0", "10.0.1.1/24")
    assert dotted(inet_select_addr(lab.net, lab.devs["a0"], ip4("10.0.1.9"), 0)) == "10.0.1.1"
    assert dotted(inet_select_addr(lab.net, lab.devs["a0"], ip4("192.0.2.1"), 0)) == "10.0.0.1"


def test_a_device_without_an_address_borrows_another_device_s(lab: Lab) -> None:
    lab.addr("a1", "10.0.1.1/24")
    assert dotted(inet_select_addr(lab.net, lab.devs["a0"], 0, 0)) == "10.0.1.1"


def test_a_link_scoped_address_is_no_source_for_the_world(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24", scope=RT_SCOPE_LINK)
    assert inet_select_addr(lab.net, lab.devs["a0"], 0, 0) == 0
    assert dotted(inet_select_addr(lab.net, lab.devs["a0"], 0, RT_SCOPE_LINK)) == "10.0.0.1"


def test_an_address_is_confirmed_for_a_destination_of_its_subnet(lab: Lab) -> None:
    lab.addr("a0", "10.0.0.1/24")
    lab.addr("a0", "10.0.1.1/24")
    found = inet_confirm_addr(lab.net, None, ip4("10.0.1.9"), 0, RT_SCOPE_HOST)
    assert dotted(found) == "10.0.1.1"
    assert inet_confirm_addr(lab.net, None, ip4("10.0.1.9"), ip4("10.0.0.1"), RT_SCOPE_HOST) == 0
