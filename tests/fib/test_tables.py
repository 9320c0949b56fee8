"""Routes as they are added, deleted and looked up."""

from errno import EACCES, EEXIST, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ENOENT, ESRCH

import pytest

from refmodel.fib.frontend import inet_rtm_newroute
from refmodel.fib.hashing import flow_hash_from_keys, siphash
from refmodel.fib.types import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTN,
    RTNH_F_DEAD,
    RTNH_F_ONLINK,
    NhConfig,
    ip4,
)
from tests.fib.lab import Lab


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.addr("a0", "10.0.0.1/24")
    lab.addr("a1", "10.0.1.1/24")
    return lab


def test_the_longest_prefix_wins(lab: Lab) -> None:
    lab.route("192.0.0.0/8", via="10.0.0.2")
    lab.route("192.0.2.0/24", via="10.0.1.2")
    assert lab.way("192.0.2.1") == "unicast via 10.0.1.2 dev a1 from 10.0.1.1"
    assert lab.way("192.0.3.1") == "unicast via 10.0.0.2 dev a0 from 10.0.0.1"


def test_without_a_route_the_network_is_unreachable(lab: Lab) -> None:
    assert lab.way("192.0.2.1") == -ENETUNREACH


def test_with_a_device_named_a_destination_without_a_route_is_on_its_link(lab: Lab) -> None:
    assert lab.way("192.0.2.1", oif=3) == "unicast dev a1 from 10.0.1.1"


def test_the_lower_metric_wins_and_the_other_takes_over_when_it_goes(lab: Lab) -> None:
    lab.route("192.0.2.0/24", via="10.0.0.2", priority=20)
    lab.route("192.0.2.0/24", via="10.0.1.2", priority=10)
    assert lab.way("192.0.2.1") == "unicast via 10.0.1.2 dev a1 from 10.0.1.1"
    assert lab.delroute("192.0.2.0/24", priority=10) == 0
    assert lab.way("192.0.2.1") == "unicast via 10.0.0.2 dev a0 from 10.0.0.1"


def test_a_route_with_a_dscp_is_for_packets_with_it_alone(lab: Lab) -> None:
    lab.route("192.0.2.0/24", via="10.0.0.2")
    lab.route("192.0.2.0/24", via="10.0.1.2", dscp=0x10)
    assert lab.way("192.0.2.1", tos=0x10) == "unicast via 10.0.1.2 dev a1 from 10.0.1.1"
    assert lab.way("192.0.2.1", tos=0x08) == "unicast via 10.0.0.2 dev a0 from 10.0.0.1"


def test_only_the_old_tos_bits_of_the_dscp_are_compared(lab: Lab) -> None:
    lab.route("192.0.2.0/24", via="10.0.1.2", dscp=0x10)
    assert lab.way("192.0.2.1", tos=0xB0) == "unicast via 10.0.1.2 dev a1 from 10.0.1.1"


@pytest.mark.parametrize(
    ("kind", "errno"),
    [(RTN.UNREACHABLE, EHOSTUNREACH), (RTN.BLACKHOLE, EINVAL), (RTN.PROHIBIT, EACCES), (RTN.THROW, ENETUNREACH)],
)
def test_reject_types_say_why(lab: Lab, kind: RTN, errno: int) -> None:
    assert lab.route("192.0.2.0/24", type=kind) == 0
    assert lab.way("192.0.2.1") == -errno


def test_a_gateway_must_be_on_a_link(lab: Lab) -> None:
    assert lab.route("192.0.2.0/24", via="172.16.0.1") == -ENETUNREACH
    assert lab.net.extack == "Nexthop has invalid gateway"


def test_a_gateway_may_not_be_a_broadcast_address(lab: Lab) -> None:
    assert lab.route("192.0.2.0/24", via="10.0.0.255") == -EINVAL


def test_a_gateway_that_is_said_to_be_on_the_link_needs_no_route(lab: Lab) -> None:
    assert lab.route("192.0.2.0/24", dev="a1", via="172.16.0.1", flags=RTNH_F_ONLINK) == 0
    assert lab.way("192.0.2.1") == "unicast via 172.16.0.1 dev a1 from 10.0.1.1"


def test_a_route_needs_a_device_that_is_there_and_up(lab: Lab) -> None:
    lab.link("a2", False)
    assert lab.route("192.0.2.0/24", dev="a2") == -ENETDOWN
    cfg = lab.config("192.0.2.0/24", 9)
    assert inet_rtm_newroute(lab.net, cfg) == -ENODEV


def test_a_source_hint_must_be_an_own_address(lab: Lab) -> None:
    assert lab.route("192.0.2.0/24", via="10.0.0.2", prefsrc=ip4("10.0.1.1")) == 0
    assert lab.way("192.0.2.1") == "unicast via 10.0.0.2 dev a0 from 10.0.1.1"
    assert lab.route("192.0.3.0/24", via="10.0.0.2", prefsrc=ip4("10.0.9.9")) == -EINVAL
    assert lab.net.extack == "Invalid prefsrc address"


def test_a_prefix_with_bits_behind_its_length_is_refused(lab: Lab) -> None:
    assert lab.route("192.0.2.1/24", via="10.0.0.2") == -EINVAL
    assert lab.net.extack == "Invalid prefix for given prefix length"


def test_the_same_prefix_and_metric_twice_is_refused_unless_asked_for(lab: Lab) -> None:
    lab.route("192.0.2.0/24", via="10.0.0.2")
    assert lab.route("192.0.2.0/24", via="10.0.1.2") == -EEXIST
    assert lab.route("192.0.2.0/24", via="10.0.1.2", nlflags=NLM_F_CREATE | NLM_F_APPEND) == 0
    assert lab.way("192.0.2.1") == "unicast via 10.0.0.2 dev a0 from 10.0.0.1"


def test_a_route_added_without_append_goes_before_its_equals(lab: Lab) -> None:
    lab.route("192.0.2.0/24", via="10.0.0.2")
    assert lab.route("192.0.2.0/24", via="10.0.1.2", nlflags=NLM_F_CREATE) == 0
    assert lab.way("192.0.2.1") == "unicast via 10.0.1.2 dev a1 from 10.0.1.1"


def test_replace_takes_the_place_of_the_first_of_its_metric(lab: Lab) -> None:
    lab.route("192.0.2.0/24", via="10.0.0.2")
    assert lab.route("192.0.2.0/24", via="10.0.1.2", nlflags=NLM_F_REPLACE) == 0
    assert lab.table().count("unicast 192.0.2.0/24") == 1
    assert lab.way("192.0.2.1") == "unicast via 10.0.1.2 dev a1 from 10.0.1.1"


def test_replace_without_create_needs_something_to_replace(lab: Lab) -> None:
    assert lab.route("192.0.2.0/24", via="10.0.1.2", nlflags=NLM_F_REPLACE) == -ENOENT


def test_what_is_not_there_cannot_be_deleted(lab: Lab) -> None:
    assert lab.delroute("192.0.2.0/24") == -ESRCH


def test_routes_with_the_same_properties_share_one_fib_info(lab: Lab) -> None:
    before = len(lab.net.infos)
    lab.route("192.0.2.0/24", via="10.0.0.2")
    lab.route("192.0.3.0/24", via="10.0.0.2")
    assert len(lab.net.infos) == before + 1


def test_a_device_that_goes_down_takes_its_routes_and_leaves_its_local_ones(lab: Lab) -> None:
    lab.route("192.0.2.0/24", via="10.0.0.2")
    lab.link("a0", False)
    assert "unicast 192.0.2.0/24" not in lab.table()
    assert "local 10.0.0.1/32" in lab.table(255)
    assert "broadcast 10.0.0.255/32" not in lab.table(255)


def test_a_device_that_comes_up_again_has_its_connected_routes_but_no_static_one(lab: Lab) -> None:
    lab.route("192.0.2.0/24", via="10.0.0.2")
    lab.link("a0", False)
    lab.link("a0", True)
    assert "unicast 10.0.0.0/24" in lab.table()
    assert "unicast 192.0.2.0/24" not in lab.table()


def test_a_multipath_route_survives_one_dead_nexthop(lab: Lab) -> None:
    lab.route("192.0.2.0/24", mp=(NhConfig(0, ip4("10.0.0.2")), NhConfig(0, ip4("10.0.1.2"))))
    lab.link("a0", False)
    fi = lab.net.tables[254].trie[ip4("192.0.2.0"), 24][0].fa_info
    assert [bool(nh.fib_nh_flags & RTNH_F_DEAD) for nh in fi.fib_nh] == [True, False]
    for i in range(1, 9):
        assert lab.way(f"192.0.2.{i}") == "unicast via 10.0.1.2 dev a1 from 10.0.1.1"


def test_without_carrier_a_route_stays_unless_such_are_ignored(lab: Lab) -> None:
    lab.route("192.0.2.0/24", via="10.0.0.2")
    lab.carrier("a0", False)
    assert lab.way("192.0.2.1") == "unicast via 10.0.0.2 dev a0 from 10.0.0.1"
    lab.net.conf_all.ignore_routes_with_linkdown = 1
    assert lab.way("192.0.2.1") == -ENETUNREACH
    lab.carrier("a0", True)
    assert lab.way("192.0.2.1") == "unicast via 10.0.0.2 dev a0 from 10.0.0.1"


def test_nexthops_share_the_hash_by_their_weights(lab: Lab) -> None:
    lab.route("192.0.2.0/24", mp=(NhConfig(0, ip4("10.0.0.2"), 2), NhConfig(0, ip4("10.0.1.2"), 0)))
    fi = lab.net.tables[254].trie[ip4("192.0.2.0"), 24][0].fa_info
    # Three quarters of 2**31, rounded, less one; and all of it.
    assert [nh.fib_nh_upper_bound for nh in fi.fib_nh] == [(3 * (1 << 31) + 2) // 4 - 1, (1 << 31) - 1]


def test_both_directions_of_a_flow_take_the_same_nexthop(lab: Lab) -> None:
    a, b = bytes((192, 0, 2, 1)), bytes((10, 0, 0, 1))
    assert flow_hash_from_keys(a, b, 6, 80, 4000, 7) == flow_hash_from_keys(b, a, 6, 4000, 80, 7)


def test_siphash_gives_the_value_of_its_authors() -> None:
    key = (int.from_bytes(bytes(range(8)), "little"), int.from_bytes(bytes(range(8, 16)), "little"))
    assert siphash(bytes(range(15)), key) == 0xA129CA6149BE45E5


def test_of_several_default_routes_one_whose_gateway_does_not_answer_is_passed_over(lab: Lab) -> None:
    lab.route("0.0.0.0/0", via="10.0.0.2")
    lab.route("0.0.0.0/0", via="10.0.1.2", nlflags=NLM_F_CREATE | NLM_F_APPEND)
    assert lab.way("192.0.2.1") == "unicast via 10.0.0.2 dev a0 from 10.0.0.1"
    lab.env.neighbours[ip4("10.0.0.2")] = 0x20
    lab.env.neighbours[ip4("10.0.1.2")] = 0x02
    assert lab.way("192.0.2.1") == "unicast via 10.0.1.2 dev a1 from 10.0.1.1"
