"""What becomes of a packet that comes in: for this host, for another one, for nobody."""

from errno import EHOSTUNREACH, EINVAL, ENETUNREACH, EXDEV

import pytest

from refmodel.fib.devinet import devinet_conf_proc
from refmodel.fib.route import ip_route_input_noref
from refmodel.fib.types import IPSKB_DOREDIRECT, RTCF_BROADCAST, RTCF_LOCAL, RTCF_MULTICAST, Route, ip4
from refmodel.skbuff import SkBuff
from tests.fib.lab import Lab


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.addr("a0", "10.0.0.1/24")
    lab.addr("a1", "10.0.1.1/24")
    lab.route("192.0.2.0/24", via="10.0.1.2")
    for name in ("a0", "a1"):
        devinet_conf_proc(lab.net, name, "forwarding", 1)
    return lab


def packet(dst: str, src: str) -> SkBuff:
    addresses = ip4(src).to_bytes(4, "big") + ip4(dst).to_bytes(4, "big")
    return SkBuff(bytes((0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0)) + addresses + bytes(8))


def arrives(lab: Lab, dst: str, src: str, name: str = "a0") -> Route | int:
    skb = packet(dst, src)
    skb.dev = lab.devs[name]
    err = ip_route_input_noref(lab.net, skb, ip4(dst), ip4(src), 0, lab.devs[name])
    return err or skb.dst


def test_an_own_address_is_delivered_here(lab: Lab) -> None:
    rt = arrives(lab, "10.0.0.1", "10.0.0.9")
    assert isinstance(rt, Route)
    assert (rt.input, rt.rt_flags) == ("ip_local_deliver", RTCF_LOCAL)


def test_an_own_address_of_another_device_is_delivered_too(lab: Lab) -> None:
    rt = arrives(lab, "10.0.1.1", "10.0.0.9")
    assert isinstance(rt, Route)
    assert rt.input == "ip_local_deliver"


@pytest.mark.parametrize("dst", ["10.0.0.255", "255.255.255.255"])
def test_broadcasts_are_delivered_here(lab: Lab, dst: str) -> None:
    rt = arrives(lab, dst, "10.0.0.9")
    assert isinstance(rt, Route)
    assert rt.rt_flags == RTCF_LOCAL | RTCF_BROADCAST


def test_a_host_without_an_address_may_speak_to_everybody(lab: Lab) -> None:
    assert isinstance(arrives(lab, "255.255.255.255", "0.0.0.0"), Route)
    assert arrives(lab, "10.0.0.1", "0.0.0.0") == -EINVAL


def test_a_joined_group_is_delivered_here_and_another_is_not(lab: Lab) -> None:
    rt = arrives(lab, "224.0.0.1", "10.0.0.9")
    assert isinstance(rt, Route)
    assert rt.rt_flags == RTCF_LOCAL | RTCF_MULTICAST
    assert arrives(lab, "224.0.0.9", "10.0.0.9") == -EINVAL


def test_another_host_s_packet_is_forwarded(lab: Lab) -> None:
    rt = arrives(lab, "192.0.2.1", "10.0.0.9")
    assert isinstance(rt, Route)
    assert (rt.input, rt.output, rt.dev.name, rt.rt_gw4) == ("ip_forward", "ip_output", "a1", ip4("10.0.1.2"))


def test_a_host_that_does_not_forward_has_no_route_for_it(lab: Lab) -> None:
    devinet_conf_proc(lab.net, "a0", "forwarding", 0)
    rt = arrives(lab, "192.0.2.1", "10.0.0.9")
    assert isinstance(rt, Route)
    assert (rt.input, rt.error) == ("ip_error", EHOSTUNREACH)


def test_a_router_without_a_route_says_that_the_network_is_unreachable(lab: Lab) -> None:
    rt = arrives(lab, "198.51.100.1", "10.0.0.9")
    assert isinstance(rt, Route)
    assert (rt.input, rt.error) == ("ip_error", ENETUNREACH)


@pytest.mark.parametrize("src", ["224.0.0.1", "255.255.255.255", "127.0.0.1"])
def test_martian_sources_are_dropped(lab: Lab, src: str) -> None:
    assert arrives(lab, "10.0.0.1", src) == -EINVAL


@pytest.mark.parametrize("dst", ["0.0.0.0", "127.0.0.1"])
def test_martian_destinations_are_dropped(lab: Lab, dst: str) -> None:
    assert arrives(lab, dst, "10.0.0.9") == -EINVAL


def test_the_rest_of_net_0_is_like_any_other_net(lab: Lab) -> None:
    rt = arrives(lab, "0.0.0.7", "10.0.0.9")
    assert isinstance(rt, Route)
    assert rt.error == ENETUNREACH


def test_net_127_comes_from_outside_where_route_localnet_lets_it(lab: Lab) -> None:
    devinet_conf_proc(lab.net, "a0", "route_localnet", 1)
    assert isinstance(arrives(lab, "127.0.0.1", "10.0.0.9"), Route)


def test_an_own_source_is_dropped_unless_accept_local(lab: Lab) -> None:
    assert arrives(lab, "10.0.0.1", "10.0.1.1") == -EINVAL
    devinet_conf_proc(lab.net, "a0", "accept_local", 1)
    assert isinstance(arrives(lab, "10.0.0.1", "10.0.1.1"), Route)


def test_strict_rp_filter_wants_the_way_back_where_the_packet_came_in(lab: Lab) -> None:
    assert isinstance(arrives(lab, "10.0.0.1", "192.0.2.1"), Route)
    devinet_conf_proc(lab.net, "a0", "rp_filter", 1)
    assert arrives(lab, "10.0.0.1", "192.0.2.1") == -EXDEV
    assert isinstance(arrives(lab, "10.0.0.1", "192.0.2.1", "a1"), Route)


def test_loose_rp_filter_wants_some_way_back(lab: Lab) -> None:
    devinet_conf_proc(lab.net, "all", "rp_filter", 2)
    assert isinstance(arrives(lab, "10.0.0.1", "192.0.2.1"), Route)
    assert arrives(lab, "10.0.0.1", "198.51.100.1") == -EXDEV


def test_the_greater_of_the_two_rp_filters_counts(lab: Lab) -> None:
    devinet_conf_proc(lab.net, "a0", "rp_filter", 1)
    devinet_conf_proc(lab.net, "all", "rp_filter", 2)
    assert isinstance(arrives(lab, "10.0.0.1", "192.0.2.1"), Route)


def test_a_packet_that_goes_back_where_it_came_from_asks_for_a_redirect(lab: Lab) -> None:
    skb = packet("192.0.2.1", "10.0.1.9")
    skb.dev = lab.devs["a1"]
    assert ip_route_input_noref(lab.net, skb, ip4("192.0.2.1"), ip4("10.0.1.9"), 0, lab.devs["a1"]) == 0
    assert lab.env.flags[id(skb)] == IPSKB_DOREDIRECT


def test_the_next_packet_of_a_way_gets_the_same_route(lab: Lab) -> None:
    first = arrives(lab, "192.0.2.1", "10.0.0.9")
    assert arrives(lab, "192.0.2.2", "10.0.0.9") is first
    lab.route("198.51.100.0/24", via="10.0.1.2")
    assert arrives(lab, "192.0.2.2", "10.0.0.9") is not first
