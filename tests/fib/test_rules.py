"""Policy rules: which table is asked, in which order, and what ends the question."""

from errno import EACCES, EEXIST, EINVAL, ENETUNREACH, ENOENT

import pytest

from refmodel.fib.frontend import fib_nl_delrule, fib_nl_newrule
from refmodel.fib.net import FIB_RULE_INVERT, FibRule
from refmodel.fib.types import FrAct, ip4
from tests.fib.lab import Lab

OTHER = "unicast via 10.0.1.2 dev a1 from 10.0.1.1"
MAIN = "unicast via 10.0.0.2 dev a0 from 10.0.0.1"


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.addr("a0", "10.0.0.1/24")
    lab.addr("a1", "10.0.1.1/24")
    lab.route("0.0.0.0/0", via="10.0.0.2")
    lab.route("192.0.2.0/24", via="10.0.1.2", table=100)
    return lab


def rule(lab: Lab, pref: int, action: FrAct = FrAct.TO_TBL, table: int = 0, **values: object) -> int:
    r = FibRule(pref, action, table)
    for name, value in values.items():
        setattr(r, name, value)
    return fib_nl_newrule(lab.net, r)


def test_until_there_is_a_rule_local_and_main_are_one_trie(lab: Lab) -> None:
    assert lab.net.tables[255].trie is lab.net.tables[254].trie
    rule(lab, 10, table=100)
    assert lab.net.tables[255].trie is not lab.net.tables[254].trie
    assert lab.way("10.0.0.1") == "local dev lo from 10.0.0.1"


def test_a_route_of_main_beats_a_shorter_local_one_only_while_they_are_one_trie(lab: Lab) -> None:
    lab.route("127.9.0.0/16", via="10.0.0.2")
    assert lab.way("127.9.0.1") == MAIN
    rule(lab, 40000, table=100)
    assert lab.way("127.9.0.1") == "local dev lo from 127.0.0.1"


def test_rules_are_asked_by_their_preference(lab: Lab) -> None:
    rule(lab, 32767, table=100)
    assert lab.way("192.0.2.1") == MAIN
    rule(lab, 10, table=100)
    assert lab.way("192.0.2.1") == OTHER


def test_a_table_without_an_answer_leaves_the_question_to_the_next_rule(lab: Lab) -> None:
    rule(lab, 10, table=100)
    assert lab.way("198.51.100.1") == MAIN


def test_a_thrown_route_leaves_the_question_to_the_next_rule(lab: Lab) -> None:
    rule(lab, 10, table=100)
    lab.route("192.0.2.1/32", type=9, table=100)
    assert lab.way("192.0.2.1") == MAIN
    assert lab.way("192.0.2.2") == OTHER


@pytest.mark.parametrize(
    ("action", "errno"),
    [(FrAct.UNREACHABLE, ENETUNREACH), (FrAct.PROHIBIT, EACCES), (FrAct.BLACKHOLE, EINVAL)],
)
def test_a_rule_may_end_the_question_itself(lab: Lab, action: FrAct, errno: int) -> None:
    rule(lab, 10, action)
    assert lab.way("192.0.2.1") == -errno
    assert lab.way("10.0.0.1") == "local dev lo from 10.0.0.1"


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({"src": ip4("10.0.1.0"), "src_len": 24}, {"src": "10.0.1.1"}),
        ({"mark": 5, "mark_mask": 7}, {"mark": 13}),
        ({"dscp": 0x10}, {"tos": 0x10}),
        ({"dscp": 0xB8, "dscp_full": True}, {"tos": 0xB8}),
        ({"ip_proto": 6}, {"ip_proto": 6}),
        ({"dport_range": (80, 90)}, {"dport": 85}),
        ({"sport_range": (80, 90)}, {"sport": 90}),
        ({"flags": FIB_RULE_INVERT, "mark": 5, "mark_mask": 7}, {}),
    ],
)
def test_a_rule_is_for_what_it_names(lab: Lab, values: dict[str, object], asked: dict[str, object]) -> None:
    rule(lab, 10, FrAct.PROHIBIT, **values)
    assert lab.way("192.0.2.1", **asked) == -EACCES  # type: ignore[arg-type]
    assert lab.way("192.0.2.1", **({} if asked else {"mark": 5})) != -EACCES


def test_a_rule_of_a_device_that_is_not_there_matches_nothing(lab: Lab) -> None:
    rule(lab, 10, FrAct.PROHIBIT, iifname="none0")
    assert lab.way("192.0.2.1") == MAIN


def test_goto_skips_rules_and_may_only_go_down(lab: Lab) -> None:
    rule(lab, 10, FrAct.GOTO, target=30)
    rule(lab, 20, FrAct.PROHIBIT)
    assert lab.way("192.0.2.1") == -EACCES
    rule(lab, 30, FrAct.NOP)
    assert lab.way("192.0.2.1") == MAIN
    assert rule(lab, 30, FrAct.GOTO, target=30) == -EINVAL
    assert lab.net.extack == "Backward goto not supported"


def test_a_suppressed_length_hides_the_default_route_of_a_table(lab: Lab) -> None:
    lab.route("0.0.0.0/0", via="10.0.1.2", table=100)
    rule(lab, 10, table=254, suppress_prefixlen=0)
    rule(lab, 20, table=100)
    assert lab.way("192.0.2.1") == OTHER
    assert lab.way("10.0.0.9") == "unicast dev a0 from 10.0.0.1"


def test_the_same_rule_twice_is_refused_and_an_absent_one_not_found(lab: Lab) -> None:
    assert rule(lab, 10, table=100) == 0
    assert rule(lab, 10, table=100) == -EEXIST
    assert fib_nl_delrule(lab.net, FibRule(10, FrAct.UNSPEC)) == 0
    assert fib_nl_delrule(lab.net, FibRule(10, FrAct.UNSPEC)) == -ENOENT


def test_a_rule_without_a_preference_goes_before_the_second_one(lab: Lab) -> None:
    r = FibRule(0, FrAct.TO_TBL, 100)
    assert fib_nl_newrule(lab.net, r, user_pref=False) == 0
    assert r.pref == 32765


def test_even_the_local_rule_can_be_deleted(lab: Lab) -> None:
    assert fib_nl_delrule(lab.net, FibRule(0, FrAct.UNSPEC)) == 0
    assert lab.way("10.0.0.1", oif=2) == "unicast dev a0 from 10.0.0.1"
