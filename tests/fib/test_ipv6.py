"""IPv6: tables, the choice among routes, rules, and the choice of a source (examples of RFC 6724, section 10)."""

from errno import EACCES, EEXIST, EHOSTUNREACH, ENETUNREACH

import pytest

from refmodel.fib.addrconf import IFA_F_TEMPORARY, IPV6_PREFER_SRC_TMP, ip6, ip6_text, ipv6_dev_get_saddr
from refmodel.fib.fib6 import fib6_nl_delrule, fib6_nl_newrule, ip6_route_input, ip6_route_output_flags
from refmodel.fib.fib6_tables import addrconf_dev_up, fib6_add, inet6_addr_add, ip6_route_del
from refmodel.fib.net import FibRule
from refmodel.fib.types import IFA_F_DEPRECATED, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, RTN, FrAct
from refmodel.fib.types6 import Fib6, Fib6Info, Flow6, Route6
from refmodel.netdevice import NetDevice, loopback
from tests.fib.lab import Surroundings


class Lab6:
    """A Fib6 with lo, a0 and a1 (ifindex 2, 3), up."""

    def __init__(self) -> None:
        self.env = Surroundings()
        self.net = Fib6(self.env)
        self.devs = [loopback(), NetDevice("a0", 2), NetDevice("a1", 3)]
        for dev in self.devs:
            self.net.register(dev)
            addrconf_dev_up(self.net, dev, ip6(f"fe80::{dev.ifindex}"))

    def addr(self, ifindex: int, text: str, flags: int = 0) -> int:
        addr, plen = text.split("/")
        return inet6_addr_add(self.net, self.devs[ifindex - 1], ip6(addr), int(plen), flags)

    def route(
        self, text: str, ifindex: int, via: str = "", nlflags: int = NLM_F_CREATE | NLM_F_EXCL, **more: int
    ) -> int:
        addr, plen = text.split("/")
        gw = ip6(via) if via else 0
        rt = Fib6Info(ip6(addr), int(plen), self.devs[ifindex - 1], gw=gw, **more)  # type: ignore[arg-type]
        return fib6_add(self.net, rt, nlflags)

    def out(self, dst: str, **more: int) -> Route6:
        return ip6_route_output_flags(self.net, Flow6(ip6(dst), **more))  # type: ignore[arg-type]

    def way(self, dst: str, **more: int) -> str | int:
        rt = self.out(dst, **more)
        return (
            -rt.error if rt.error else f"{'via ' + ip6_text(rt.gateway) + ' ' if rt.gateway else ''}dev {rt.dev.name}"
        )

    def source(self, dst: str, ifindex: int = 2, prefs: int = 0) -> str:
        found = ipv6_dev_get_saddr(self.env, self.net.idevs, self.devs[ifindex - 1], ip6(dst), prefs)
        return "" if found is None else ip6_text(found)


@pytest.fixture
def lab() -> Lab6:
    return Lab6()


def test_an_own_address_is_reached_by_lo_and_its_prefix_by_its_device(lab: Lab6) -> None:
    lab.addr(2, "2001:db8:1::1/64")
    assert lab.way("2001:db8:1::1") == "dev lo"
    assert lab.way("2001:db8:1::9") == "dev a0"
    assert lab.way("::1") == "dev lo"


def test_the_longest_prefix_wins_and_without_one_the_network_is_unreachable(lab: Lab6) -> None:
    lab.route("2001:db8::/32", 2, "fe80::100")
    lab.route("2001:db8:5::/48", 3, "fe80::200")
    assert lab.way("2001:db8:5::1") == "via fe80::200 dev a1"
    assert lab.way("2001:db8:6::1") == "via fe80::100 dev a0"
    assert lab.way("2600::1") == -ENETUNREACH


def test_the_lower_metric_wins_and_the_other_serves_who_names_its_device(lab: Lab6) -> None:
    lab.route("2001:db8::/32", 2, "fe80::100", metric=10)
    lab.route("2001:db8::/32", 3, "fe80::200", metric=20)
    assert lab.way("2001:db8::1") == "via fe80::100 dev a0"
    assert lab.way("2001:db8::1", oif=3) == "via fe80::200 dev a1"


def test_a_link_local_destination_needs_its_device(lab: Lab6) -> None:
    assert lab.way("fe80::9", oif=3) == "dev a1"
    assert lab.way("ff02::1", oif=2) == "dev a0"


def test_a_router_of_high_preference_goes_before_one_of_the_same_metric(lab: Lab6) -> None:
    lab.route("::/0", 2, "fe80::100", pref=3)
    lab.route("::/0", 3, "", NLM_F_CREATE | NLM_F_APPEND, pref=1)
    assert lab.way("2600::1") == "dev a1"


def test_a_host_avoids_a_router_that_does_not_answer_and_a_router_does_not(lab: Lab6) -> None:
    lab.route("2600::/16", 2, "fe80::100")
    lab.route("::/0", 3, "fe80::200")
    lab.env.neighbours[ip6("fe80::100")] = 0x20
    assert lab.way("2600::1") == "via fe80::200 dev a1"
    lab.net.forwarding = 1
    assert lab.way("2600::1") == "via fe80::100 dev a0"


@pytest.mark.parametrize(("kind", "errno"), [(RTN.UNREACHABLE, EHOSTUNREACH), (RTN.PROHIBIT, EACCES)])
def test_reject_types_say_why(lab: Lab6, kind: RTN, errno: int) -> None:
    lab.route("2600::/16", 1, type=kind)
    assert lab.way("2600::1") == -errno


def test_throw_leaves_the_question_to_the_next_table(lab: Lab6) -> None:
    lab.route("::/0", 2, "fe80::100")
    lab.route("2600::/16", 1, type=RTN.THROW, table=100)
    lab.route("2601::/16", 3, "fe80::200", table=100)
    assert fib6_nl_newrule(lab.net, FibRule(10, FrAct.TO_TBL, 100)) == 0
    assert lab.way("2600::1") == "via fe80::100 dev a0"
    assert lab.way("2601::1") == "via fe80::200 dev a1"


def test_deleting_a_default_rule_alone_changes_nothing(lab: Lab6) -> None:
    lab.route("::/0", 2, "fe80::100")
    assert fib6_nl_delrule(lab.net, 32766) == 0
    assert lab.way("2600::1") == "via fe80::100 dev a0"
    fib6_nl_newrule(lab.net, FibRule(10, FrAct.NOP))
    assert lab.way("2600::1") == -ENETUNREACH


def test_routes_by_gateways_of_one_metric_share_their_flows(lab: Lab6) -> None:
    lab.route("::/0", 2, "fe80::100")
    assert lab.route("::/0", 3, "fe80::200") == -EEXIST
    assert lab.route("::/0", 3, "fe80::200", NLM_F_CREATE | NLM_F_APPEND) == 0
    ways = {lab.way(f"2600::{i:x}") for i in range(64)}
    assert ways == {"via fe80::100 dev a0", "via fe80::200 dev a1"}
    assert ip6_route_del(lab.net, 0, 0, gw=ip6("fe80::100")) == 0
    assert {lab.way(f"2600::{i:x}") for i in range(64)} == {"via fe80::200 dev a1"}


def test_replace_takes_the_place_of_all_that_share(lab: Lab6) -> None:
    lab.route("::/0", 2, "fe80::100")
    lab.route("::/0", 3, "fe80::200", NLM_F_CREATE | NLM_F_APPEND)
    assert lab.route("::/0", 3, "fe80::300", NLM_F_REPLACE) == 0
    assert {lab.way(f"2600::{i:x}") for i in range(16)} == {"via fe80::300 dev a1"}


def test_what_comes_in_for_another_host_is_forwarded_and_for_this_one_delivered(lab: Lab6) -> None:
    lab.addr(2, "2001:db8:1::1/64")
    lab.route("::/0", 3, "fe80::200")
    assert ip6_route_input(lab.net, Flow6(ip6("2001:db8:1::1"), ip6("2600::1"), iif=3)).input == "ip6_input"
    assert ip6_route_input(lab.net, Flow6(ip6("2600::1"), ip6("2001:db8:1::9"), iif=2)).input == "ip6_forward"
    assert ip6_route_input(lab.net, Flow6(ip6("ff02::1"), ip6("fe80::9"), iif=2)).input == "ip6_mc_input"


# RFC 6724 10.1, with addresses of the documentation prefix


def test_rule_1_the_destination_itself(lab: Lab6) -> None:
    lab.addr(2, "2001:db8:1::1/64")
    lab.addr(3, "2001:db8:2::1/64")
    assert lab.source("2001:db8:2::1") == "2001:db8:2::1"


def test_rule_2_appropriate_scope(lab: Lab6) -> None:
    lab.addr(2, "2001:db8:3::1/64")
    assert lab.source("2001:db8:1::1") == "2001:db8:3::1"
    assert lab.source("ff05::1") == "2001:db8:3::1"
    assert lab.source("fe80::1") == "fe80::2"


def test_rule_3_deprecated_addresses_come_last(lab: Lab6) -> None:
    lab.addr(2, "2001:db8:1::2/64", IFA_F_DEPRECATED)
    lab.addr(2, "2001:db8:3::2/64")
    assert lab.source("2001:db8:1::1") == "2001:db8:3::2"


def test_rule_5_the_outgoing_interface(lab: Lab6) -> None:
    lab.addr(3, "2001:db8:1::2/64")
    lab.addr(2, "2001:db8:3::2/64")
    assert lab.source("2001:db8:1::1", 2) == "2001:db8:3::2"
    assert lab.source("2001:db8:3::1", 3) == "2001:db8:1::2"


def test_rule_6_matching_label(lab: Lab6) -> None:
    lab.addr(2, "2002:c633:6401::2/64")
    lab.addr(2, "2001:db8:1::2/64")
    assert lab.source("2002:c633:6401::1") == "2002:c633:6401::2"
    assert lab.source("2001:db8:1::1") == "2001:db8:1::2"


def test_rule_7_temporary_addresses_only_if_asked_for(lab: Lab6) -> None:
    lab.addr(2, "2001:db8:1::d5e3:7953:13eb:22e8/64", IFA_F_TEMPORARY)
    lab.addr(2, "2001:db8:1::2/64")
    assert lab.source("2001:db8:1::1") == "2001:db8:1::2"
    assert lab.source("2001:db8:1::1", prefs=IPV6_PREFER_SRC_TMP) == "2001:db8:1:0:d5e3:7953:13eb:22e8"


def test_rule_8_the_longest_matching_prefix(lab: Lab6) -> None:
    lab.addr(2, "2001:db8:1::2/64")
    lab.addr(2, "2001:db8:3::2/64")
    assert lab.source("2001:db8:1::1") == "2001:db8:1::2"
    assert lab.source("2001:db8:3::1") == "2001:db8:3::2"
