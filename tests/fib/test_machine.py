"""Routing as a whole under Hypothesis: whatever is added, deleted, brought up and down, its parts agree."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from refmodel.fib.frontend import fib_nl_delrule, fib_nl_newrule
from refmodel.fib.getroute import fib_table_dump
from refmodel.fib.lookup import fib_table_lookup
from refmodel.fib.net import FibRule
from refmodel.fib.types import (
    IFA_F_SECONDARY,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTN,
    RTNH_F_DEAD,
    FibResult,
    Flow4,
    FrAct,
    NhConfig,
    dotted,
    inet_make_mask,
    ip4,
)
from tests.fib.lab import Lab

DEVICES = st.sampled_from(("a0", "a1", "a2"))
HOSTS = st.builds(lambda net, n: net + n, st.sampled_from((ip4("10.0.0.0"), ip4("10.0.1.0"))), st.integers(1, 5))
LENGTHS = st.sampled_from((8, 16, 24, 30, 31, 32))
FLAGS = st.sampled_from((NLM_F_CREATE | NLM_F_EXCL, NLM_F_CREATE | NLM_F_APPEND, NLM_F_CREATE | NLM_F_REPLACE))
TYPES = st.sampled_from((RTN.UNICAST, RTN.UNICAST, RTN.UNREACHABLE, RTN.THROW))


class Routing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.lab = Lab()
        self.net = self.lab.net

    @rule(name=DEVICES, host=HOSTS, plen=LENGTHS)
    def add_address(self, name: str, host: int, plen: int) -> None:
        self.lab.addr(name, f"{dotted(host)}/{plen}")

    @rule(name=DEVICES, host=HOSTS, plen=LENGTHS)
    def delete_address(self, name: str, host: int, plen: int) -> None:
        self.lab.deladdr(name, f"{dotted(host)}/{plen}")

    @rule(name=DEVICES, up=st.booleans())
    def set_link(self, name: str, up: bool) -> None:
        self.lab.link(name, up)

    @rule(name=DEVICES, on=st.booleans())
    def set_carrier(self, name: str, on: bool) -> None:
        if self.lab.devs[name].up:
            self.lab.carrier(name, on)

    @rule(on=st.booleans())
    def set_promotion(self, on: bool) -> None:
        self.net.conf_all.promote_secondaries = int(on)

    @rule(
        dst=HOSTS,
        plen=LENGTHS,
        via=HOSTS,
        flags=FLAGS,
        kind=TYPES,
        prio=st.sampled_from((0, 10)),
        table=st.sampled_from((254, 100)),
    )
    def add_route(self, dst: int, plen: int, via: int, flags: int, kind: RTN, prio: int, table: int) -> None:
        text = f"{dotted(dst & inet_make_mask(plen))}/{plen}"
        gw = dotted(via) if kind is RTN.UNICAST else ""
        self.lab.route(text, via=gw, type=kind, priority=prio, table=table, nlflags=flags)

    @rule(dst=HOSTS, plen=LENGTHS, a=HOSTS, b=HOSTS)
    def add_multipath(self, dst: int, plen: int, a: int, b: int) -> None:
        text = f"{dotted(dst & inet_make_mask(plen))}/{plen}"
        self.lab.route(text, mp=(NhConfig(0, a), NhConfig(0, b, 3)), priority=5)

    @rule(dst=HOSTS, plen=LENGTHS, table=st.sampled_from((254, 100)))
    def delete_route(self, dst: int, plen: int, table: int) -> None:
        self.lab.delroute(f"{dotted(dst & inet_make_mask(plen))}/{plen}", table=table)

    @rule(dst=HOSTS, plen=LENGTHS, via=HOSTS)
    def what_is_added_behind_and_deleted_leaves_no_trace(self, dst: int, plen: int, via: int) -> None:
        text = f"{dotted(dst & inet_make_mask(plen))}/{plen}"
        before = list(fib_table_dump(self.net, 254))
        more = {"priority": 777, "table": 254}
        if self.lab.route(text, via=dotted(via), **more) == 0:
            assert self.lab.delroute(text, **more) == 0
        assert list(fib_table_dump(self.net, 254)) == before

    @rule(pref=st.sampled_from((5, 10, 40000)), table=st.sampled_from((100, 254)), jump=st.sampled_from((0, 10, 40000)))
    def add_rule(self, pref: int, table: int, jump: int) -> None:
        r = FibRule(pref, FrAct.GOTO if jump else FrAct.TO_TBL, 0 if jump else table)
        r.target = jump
        fib_nl_newrule(self.net, r)

    @rule(pref=st.sampled_from((5, 10, 40000)))
    def delete_rule(self, pref: int) -> None:
        fib_nl_delrule(self.net, FibRule(pref, FrAct.UNSPEC))

    @rule(dst=HOSTS, iif=st.sampled_from((0, 2, 3)), src=HOSTS)
    def ask(self, dst: int, iif: int, src: int) -> None:
        self.lab.get(dotted(dst), dotted(src) if iif else "", iif=iif)

    @invariant()
    def routes_of_a_prefix_stand_in_order(self) -> None:
        for tb in self.net.tables.values():
            for fah in tb.trie.values():
                keys = [(-fa.tb_id, -fa.fa_dscp, fa.fa_info.fib_priority) for fa in fah]
                assert keys == sorted(keys)
                assert fah

    @invariant()
    def every_fib_info_is_used_as_often_as_it_says(self) -> None:
        tries = {id(tb.trie): tb.trie for tb in self.net.tables.values()}
        used = [fa.fa_info for trie in tries.values() for fah in trie.values() for fa in fah]
        assert {id(fi): fi.fib_treeref for fi in self.net.infos} == {id(fi): used.count(fi) for fi in used}
        assert not any(fi.fib_dead for fi in self.net.infos)

    @invariant()
    def no_two_fib_infos_are_alike(self) -> None:
        def key(i: int) -> tuple[object, ...]:
            fi = self.net.infos[i]
            hops = tuple((nh.fib_nh_oif, nh.fib_nh_gw4, nh.fib_nh_scope, nh.fib_nh_weight) for nh in fi.fib_nh)
            return fi.fib_type, fi.fib_tb_id, fi.fib_priority, fi.fib_scope, fi.fib_prefsrc, fi.fib_protocol, hops

        keys = [key(i) for i in range(len(self.net.infos))]
        assert len(keys) == len(set(keys))

    @invariant()
    def every_address_has_its_local_route(self) -> None:
        # Not always first: an address may be another subnet's broadcast address as well.
        for ifa in self.net.addr_lst:
            head = self.net.tables[255].trie[ifa.ifa_local, 32]
            assert any(fa.fa_type == RTN.LOCAL and fa.tb_id == 255 for fa in head)

    @invariant()
    def a_subnet_has_one_primary_and_its_secondaries_stand_behind_it(self) -> None:
        for in_dev in self.net.in_devs.values():
            nets = [(a.ifa_address & a.ifa_mask, a.ifa_mask) for a in in_dev.ifa_list]
            for i, a in enumerate(in_dev.ifa_list):
                assert bool(a.ifa_flags & IFA_F_SECONDARY) == (nets.index(nets[i]) != i)

    @invariant()
    def a_lookup_never_ends_on_a_dead_nexthop(self) -> None:
        for tb in self.net.tables.values():
            for host in (ip4("10.0.0.3"), ip4("10.0.1.3"), ip4("11.0.0.1")):
                res = FibResult()
                if fib_table_lookup(self.net, tb, Flow4(host), res, 0) == 0:
                    assert not res.nh.fib_nh_flags & RTNH_F_DEAD
                    assert res.dev.up or res.type == RTN.LOCAL

    @invariant()
    def rules_stand_by_preference_and_jump_down(self) -> None:
        assert [r.pref for r in self.net.rules] == sorted(r.pref for r in self.net.rules)
        for r in self.net.rules:
            if r.ctarget is not None:
                assert r.ctarget in self.net.rules
                assert r.action != FrAct.GOTO or r.ctarget.pref == r.target > r.pref

    @invariant()
    def the_parts_of_a_multipath_route_fill_the_hash(self) -> None:
        for fi in self.net.infos:
            bounds = [nh.fib_nh_upper_bound for nh in fi.fib_nh if not nh.fib_nh_flags & RTNH_F_DEAD]
            if len(fi.fib_nh) > 1 and bounds:
                assert bounds == sorted(bounds)
                assert bounds[-1] == (1 << 31) - 1


TestRouting = Routing.TestCase
TestRouting.settings = settings(max_examples=20, stateful_step_count=25, deadline=None, derandomize=True)
