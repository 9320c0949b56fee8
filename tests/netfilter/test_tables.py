"""Chains: in order, jumps and returns, policies, counters; every walk ends."""

from itertools import product

import pytest

from conformance.differential.netfilter_packets import Event, ip, tcp, udp
from refmodel.dropreason import Reason
from refmodel.netfilter.core import NfHookState
from refmodel.netfilter.tables import ChainSpec, IptEntry, IptIp, Table, TableError
from refmodel.netfilter.targets import ACCEPT, RETURN, Nothing
from refmodel.netfilter.uapi import NF_ACCEPT, NF_DROP, NF_INET_FORWARD, NFPROTO_IPV4
from refmodel.skbuff import SkBuff
from tests.netfilter.play import A, B, Router


def counters(r: Router) -> list[tuple[int, int]]:
    return [(e.pcnt, e.bcnt) for e in r.nf.tables["filter"].rules()]


def test_first_rule_that_matches_decides() -> None:
    r = Router("-A FORWARD -p udp -j ACCEPT", "-A FORWARD -j DROP")
    assert [x.where for x in r.udp()] == ["tap1"]
    assert counters(r) == [(1, 29), (0, 0)]
    assert r.tcp(2, 1) == []
    assert counters(r) == [(1, 29), (1, 40)]
    assert r.drops == [Reason.NETFILTER_DROP]


def test_policy_decides_at_the_end_and_counts() -> None:
    r = Router("-A FORWARD -p tcp", policy="DROP")
    assert r.udp() == []
    assert ":FORWARD DROP [1:29]" in r.nf.iptables_save()


def test_return_goes_on_behind_the_jump_and_goto_behind_the_callers() -> None:
    r = Router("-A FORWARD -j mine", "-A FORWARD -p udp -j DROP", "-A mine -g other", "-A mine -p udp -j ACCEPT",
               "-A other -j RETURN", chains=("mine", "other"))  # fmt: skip
    assert r.udp() == []
    assert counters(r) == [(1, 29), (1, 29), (1, 29), (0, 0), (1, 29)]


def test_return_from_a_built_in_chain_is_its_policy() -> None:
    r = Router("-A FORWARD -j RETURN", "-A FORWARD -j ACCEPT", policy="DROP")
    assert r.udp() == []


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ("-f", [False, True]), ("! -f", [True, False]), ("-p tcp -m tcp --dport 80", [True, False]),
        ("-p tcp", [True, True]), ("-p tcp -m tcp --syn", [True, False]),
        ("-p tcp -m multiport --ports 80", [True, False]),
    ],
)  # fmt: skip
def test_later_fragment_matches_nothing_about_ports(rule: str, matches: list[bool]) -> None:
    r = Router(f"-A FORWARD {rule}")
    segment = tcp(A, B, 1000, 80, 1, 0, 2, 100, data=bytes(20))
    seen = []
    for part in (ip(A, B, 6, segment[:24], ident=9, frag=0x2000), ip(A, B, 6, segment[24:], ident=9, frag=3)):
        before = counters(r)[0][0]
        r.at("tap0", part)
        seen.append(counters(r)[0][0] > before)
    assert seen == matches


@pytest.mark.parametrize(("proto", "rule"), [(6, "-p tcp -m tcp --dport 80"), (17, "-p udp -m udp --dport 80")])
def test_cut_off_header_is_dropped_by_a_match_that_asks_for_it(proto: int, rule: str) -> None:
    r = Router(f"-A FORWARD {rule} -j ACCEPT")
    assert r.at("tap0", ip(A, B, proto, bytes(6))) == []
    assert r.drops == [Reason.NETFILTER_DROP]


def test_nft_loads_only_what_it_asks_for_and_drops_nothing() -> None:
    r = Router()
    text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
    rules = "-A FORWARD -p tcp -m tcp --dport 80\n-A FORWARD -p tcp -m tcp --syn\nCOMMIT\n"
    r.nf.iptables_restore(text + rules, nft=True)
    assert len(r.at("tap0", ip(A, B, 6, b"\x03\xe8\x00\x50"))) == 1
    assert counters(r) == [(1, 24), (0, 0)]


def test_fragment_one_unit_in_is_a_forgery() -> None:
    r = Router("-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT")
    assert r.at("tap0", ip(A, B, 6, bytes(16), frag=1)) == []


def test_limit_lets_the_burst_through_and_then_one_a_time() -> None:
    r = Router("-A FORWARD -m limit --limit 1/second --limit-burst 3 -j ACCEPT", policy="DROP")
    assert [len(r.udp()) for _ in range(5)] == [1, 1, 1, 0, 0]
    r.now += 1_000_000
    assert [len(r.udp()) for _ in range(3)] == [1, 0, 0]
    r.now += 60_000_000
    assert [len(r.udp()) for _ in range(5)] == [1, 1, 1, 0, 0]


def test_nth_packet_matches_in_turn() -> None:
    r = Router("-A FORWARD -m statistic --mode nth --every 3 --packet 1 -j DROP")
    assert [len(r.udp()) for _ in range(7)] == [1, 0, 1, 1, 0, 1, 1]


def test_mark_is_set_and_seen() -> None:
    r = Router("-A FORWARD -p udp -j MARK --set-xmark 0x6/0xf", "-A FORWARD -m mark --mark 0x2/0x3 -j DROP")
    assert r.udp() == []
    assert len(r.tcp(2, 1)) == 1


def test_frame_to_all_is_seen_as_such() -> None:
    r = Router("-A INPUT -m pkttype --pkt-type broadcast -j DROP")
    packet = ip(A, "10.0.1.1", 17, udp(A, "10.0.1.1", 1000, 53, b"x"))
    assert r.received("tap0", Event("", "tap0", packet, broadcast=True).frame) == []
    assert [x.where for x in r.received("tap0", Event("", "tap0", packet).frame)] == ["udp 53"]


# ---- every walk ends

TARGETS = ("accept", "return", "next", "a", "b", "goto a", "goto b")


def table(first: tuple[str, str], second: tuple[str, str], conditional: bool) -> Table:
    """FORWARD goes to a; a and b have two rules each."""
    jumps: dict[int, str] = {}

    def entry(what: str) -> IptEntry:
        ip_ = IptIp(proto=17) if conditional else IptIp()
        target = {"accept": ACCEPT, "return": RETURN}.get(what, Nothing())
        e = IptEntry(ip_, (), target, goto=what.startswith("goto"))
        if what[-1] in "ab" and what not in ("accept",):
            jumps[id(e)] = what[-1]
        return e

    chains = [ChainSpec("FORWARD", "DROP", rules=[entry("a")]), ChainSpec("a", rules=[entry(x) for x in first]),
              ChainSpec("b", rules=[entry(x) for x in second])]  # fmt: skip
    return Table("filter", chains, jumps)


def has_loop(first: tuple[str, str], second: tuple[str, str], conditional: bool) -> bool:
    """Whether chains reachable from FORWARD come back to themselves, by their calls alone."""

    def calls(rules: tuple[str, str]) -> list[str]:
        found = []
        for what in rules:
            if what[-1] in "ab":
                found.append(what[-1])
                if not conditional and what.startswith("goto"):
                    break
            elif what in ("accept", "return") and not conditional:
                break
        return found

    graph = {"a": calls(first), "b": calls(second)}

    def visit(chain: str, path: tuple[str, ...]) -> bool:
        return chain in path or any(visit(x, (*path, chain)) for x in graph[chain])

    return visit("a", ())


@pytest.mark.parametrize("conditional", [False, True])
def test_tables_with_two_chains_are_taken_exactly_without_loops_and_then_every_walk_ends(conditional: bool) -> None:
    taken = refused = 0
    env = Router()
    for rules in product(TARGETS, repeat=4):
        first, second = rules[:2], rules[2:]
        try:
            t = table(first, second, conditional)
        except TableError:
            assert has_loop(first, second, True), rules  # what comes behind a certain verdict is not looked at by all
            refused += 1
            continue
        assert not has_loop(first, second, conditional), rules
        taken += 1
        skb = SkBuff(ip(A, B, 17, udp(A, B, 1, 2, b"")))
        verdict = t.ipt_do_table(env, env.nf.ct, skb, NfHookState(NF_INET_FORWARD, NFPROTO_IPV4, None, None))
        assert verdict in (NF_ACCEPT, NF_DROP)
        assert sum(e.pcnt for e in t.entries) <= 2 * len(t.entries)
    assert taken + refused == len(TARGETS) ** 4
    assert taken
    assert refused
