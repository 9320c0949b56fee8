"""What a neighbour entry does, run by run; figures are Linux's defaults."""

from typing import Any

import pytest

from refmodel.neigh.entry import Entry, evictions
from refmodel.neigh.parms import Family, NdParms, NeighParms, Ops, parms
from refmodel.neigh.types import (
    NUD,
    Absent,
    Confirm,
    Create,
    Delete,
    Drop,
    DropQueued,
    Errno,
    ErrorReport,
    EventSend,
    Flush,
    ForcedGc,
    How,
    Msg,
    Notify,
    Out,
    Output,
    Override,
    PeriodicGc,
    Reason,
    Release,
    Result,
    SendQueued,
    Solicit,
    Stray,
    Timer,
    Transmit,
    Update,
)
from refmodel.profile import profile
from refmodel.rule import AssumptionBroken, Mib
from refmodel.types import NEVER
from tests.neigh.runs import MAC, OTHER, SECOND, SKB, START, STRICT, Run, kinds, reachable, stale


def test_the_first_packet_waits_and_everybody_is_asked() -> None:
    r = Run()
    effects = r.send()
    assert kinds(effects) == ["Queue", "Solicit"]
    assert effects[1] == Solicit(How.MULTICAST, 0, True, by="neigh.output.probe")
    assert (r.n.nud_state, r.n.probes, r.n.timer) == (NUD.INCOMPLETE, 4, START + SECOND)


def test_three_broadcasts_a_second_apart_then_failure_reports_what_waits() -> None:
    r = Run()
    r.send()
    r.send()
    assert [kinds(r.timer()) for _ in range(2)] == [["Solicit"], ["Solicit"]]
    effects = r.timer()
    assert r.now == START + 3 * SECOND
    assert r.n.nud_state == NUD.FAILED
    assert kinds(effects) == ["Mib", "ErrorReport", "Notify"]
    assert effects[1].n == 2
    assert effects[2].probes == 6
    assert not effects[2].has_lladdr


@pytest.mark.parametrize(
    ("family", "reason"), [(Family.INET, Reason.NEIGH_FAILED), (Family.INET6, Reason.NOT_SPECIFIED)]
)
def test_arp_gives_a_reason_for_unresolved_packets_and_discovery_none(family: Family, reason: Reason) -> None:
    r = Run(family, mcast_probes=1)
    r.send()
    assert [x.reason for x in r.timer() if isinstance(x, ErrorReport)] == [reason]


def test_a_reply_sends_what_waits() -> None:
    r = Run()
    r.send()
    r.send()
    effects = r.reply()
    assert kinds(effects) == ["SendQueued", "Notify", "Result"]
    assert (effects[0].n, effects[0].ha) == (2, MAC)
    assert (r.n.nud_state, r.n.timer, r.n.qlen) == (NUD.REACHABLE, START + 30 * SECOND, 0)


def test_a_request_while_a_packet_waits_goes_on_to_delay_and_listeners_see_that() -> None:
    r = Run()
    r.send()
    effects = r.request()
    assert r.n.nud_state == NUD.DELAY
    assert [x.nud_state for x in effects if isinstance(x, Notify)] == [NUD.DELAY]
    assert r.n.timer == START + 5 * SECOND


def test_a_request_of_a_stranger_makes_a_stale_entry() -> None:
    r = Run()
    r.request()
    assert (r.n.nud_state, r.n.ha, r.n.timer) == (NUD.STALE, MAC, NEVER)


def test_the_second_packet_uses_the_cached_header_and_leaves_no_trace() -> None:
    r = reachable()
    used = r.n.used
    r.wait(1)
    assert r.send() == (Transmit(Out.HH, MAC, by="neigh.output.cached"),)
    assert r.n.used == used


def test_an_ipv4_packet_through_an_ipv6_gateway_goes_around_the_cached_header() -> None:
    r = reachable()
    r.wait(1)
    assert r.send(skip_cache=True)[0].path == Out.RESOLVE
    assert r.n.used == r.now


def test_without_header_cache_the_connected_output_sends() -> None:
    r = reachable(ops=Ops.GENERIC)
    assert r.send()[0].path == Out.CONNECTED


def test_a_device_without_headers_never_resolves() -> None:
    e = Entry(NeighParms(ops=Ops.DIRECT, addr_len=0), STRICT)
    e.feed(Create(START))
    assert e.output(START, SKB)[1][0].path == Out.DIRECT


def test_an_idle_entry_grows_stale_after_its_reachable_time() -> None:
    r = reachable()
    effects = r.timer()
    assert (r.rule, effects) == ("reachable_still", ())
    effects = r.timer()
    assert (r.rule, r.n.nud_state) == ("reachable_idle", NUD.STALE)
    assert kinds(effects) == ["Notify"]


def test_an_entry_in_use_goes_to_delay_in_silence() -> None:
    r = reachable()
    r.now = r.n.confirmed + 30 * SECOND + 1
    r.do(EventSend)
    assert r.timer() == ()
    assert r.n.nud_state == NUD.DELAY


def test_a_confirmation_keeps_an_entry_reachable() -> None:
    r = reachable()
    r.wait(20)
    r.do(Confirm)
    confirmed = r.n.confirmed
    r.timer()
    assert (r.n.nud_state, r.n.timer) == (NUD.REACHABLE, confirmed + 30 * SECOND)


def test_a_stale_entry_sends_at_once_and_asks_five_seconds_later_by_unicast() -> None:
    r = stale()
    assert kinds(r.send()) == ["Transmit"]
    assert (r.n.nud_state, r.n.timer) == (NUD.DELAY, r.now + 5 * SECOND)
    r.now += 1
    effects = r.timer()
    assert r.n.nud_state == NUD.PROBE
    assert kinds(effects) == ["Solicit", "Notify"]
    assert (effects[0].how, effects[0].ha) == (How.UNICAST, MAC)


def test_a_delayed_entry_confirmed_from_above_is_reachable_without_a_question() -> None:
    r = stale()
    r.send()
    r.wait(2)
    r.send(confirm=True)
    effects = r.timer()
    assert (r.rule, r.n.nud_state, kinds(effects)) == ("delay_confirmed", NUD.REACHABLE, ["Notify"])


def test_three_unanswered_unicast_questions_fail_the_entry() -> None:
    r = stale()
    r.send()
    r.now += 1
    asked = sum(isinstance(x, Solicit) for _ in range(4) for x in r.timer())
    assert (asked, r.n.nud_state, r.n.probes) == (3, NUD.FAILED, 3)


def test_mcast_resolicit_asks_everybody_after_unicast() -> None:
    r = stale(mcast_reprobes=2)
    r.send()
    r.now += 1
    asked = [x.how for _ in range(6) for x in r.timer() if isinstance(x, Solicit)]
    assert asked == [How.UNICAST] * 3 + [How.MULTICAST] * 2


def test_app_solicit_asks_the_daemon_before_everybody() -> None:
    r = Run(app_probes=2)
    asked = [x.how for x in r.send() if isinstance(x, Solicit)]
    asked += [x.how for _ in range(4) for x in r.timer() if isinstance(x, Solicit)]
    assert asked == [How.APP] * 2 + [How.MULTICAST] * 3


def test_where_nobody_may_be_asked_the_packet_is_dropped_unreported() -> None:
    r = Run(mcast_probes=0)
    assert r.send() == (Drop(Reason.NEIGH_FAILED, by="neigh.output.unaskable"),)
    assert r.n.nud_state == NUD.FAILED


def test_a_full_queue_drops_its_oldest() -> None:
    r = Run(queue_len_bytes=2 * SKB)
    for _ in range(2):
        r.send()
    effects = r.send()
    assert effects[0] == DropQueued(1, Reason.NEIGH_QUEUEFULL, by="neigh.output.enqueue")
    assert effects[1] == Mib(name="unresolved_discards", by="neigh.output.enqueue")
    assert (r.n.qlen, r.sizes) == (2, (SKB, SKB))


def test_a_packet_larger_than_the_queue_waits_alone() -> None:
    assert evictions((700, 700, 800), 3000, 2000) == (3, 2200, 800)
    r = Run(queue_len_bytes=0)
    for _ in range(3):
        r.send()
    assert r.n.qlen == 1


def test_evictions_that_do_not_fit_the_queue_break_an_assumption() -> None:
    r = Run()
    r.send()
    with pytest.raises(AssumptionBroken, match="oldest packets"):
        r.feed(Output(r.now, SKB, evicted=1, evicted_bytes=SKB, evicted_last=SKB))


def test_within_locktime_the_first_answer_wins() -> None:
    r = reachable()
    r.wait(1)
    r.reply(OTHER)
    assert (r.rule, r.n.ha) == ("kept", MAC)
    r.now += 1
    r.reply(OTHER)
    assert (r.rule, r.n.ha, r.n.hh_ha) == ("same", OTHER, OTHER)


def test_an_answer_with_another_address_that_may_not_override_confirms_the_old_one() -> None:
    r = stale()
    r.wait(100)
    r.do(Update, NUD.REACHABLE, lladdr=OTHER)
    assert (r.n.ha, r.n.confirmed, r.n.nud_state) == (MAC, r.now, NUD.STALE)


def test_discovery_without_override_makes_a_reachable_entry_stale() -> None:
    r = reachable(family=Family.INET6)
    r.do(Update, NUD.REACHABLE, lladdr=OTHER, weak_override=True, override_isrouter=True, isrouter=True)
    assert (r.n.nud_state, r.n.ha, r.n.router) == (NUD.STALE, MAC, False)


def test_an_advertisement_sets_and_clears_the_router_flag_and_tells() -> None:
    r = reachable(family=Family.INET6)
    effects = r.do(Update, NUD.REACHABLE, lladdr=MAC, override_isrouter=True, isrouter=True)
    assert (r.n.router, kinds(effects)) == (True, ["Notify", "Result"])
    effects = r.do(Update, NUD.REACHABLE, lladdr=MAC, override_isrouter=True, isrouter=True)
    assert kinds(effects) == ["Result"]


def test_a_request_with_the_known_address_changes_nothing() -> None:
    r = reachable()
    before = r.n
    r.wait(3)
    assert kinds(r.request()) == ["Result"]
    assert r.n == before


def test_an_address_learnt_in_passing_counts_as_confirmed_long_ago() -> None:
    r = reachable()
    r.wait(3)
    r.request(OTHER)
    assert (r.n.nud_state, r.n.ha, r.n.confirmed) == (NUD.STALE, OTHER, r.now - 60 * SECOND)


@pytest.mark.parametrize("fixed", [NUD.PERMANENT, NUD.NOARP])
def test_frames_do_not_change_fixed_entries(fixed: NUD) -> None:
    r = Run()
    r.admin(fixed, MAC)
    assert r.reply(OTHER) == (Result(Errno.EPERM, by="neigh.update.refused"),)
    assert (r.n.nud_state, r.n.ha) == (fixed, MAC)


def test_a_valid_state_needs_an_address() -> None:
    r = Run()
    assert r.admin(NUD.PERMANENT) == (Result(Errno.EINVAL, by="neigh.update.no_lladdr"),)


def test_set_to_incomplete_by_hand_an_entry_waits_for_ever() -> None:
    r = reachable()
    r.admin(NUD.INCOMPLETE)
    assert (r.n.nud_state, r.deadline) == (NUD.INCOMPLETE, NEVER)
    assert kinds(r.send()) == ["Queue"]


def test_set_to_none_by_hand_an_entry_keeps_its_queue() -> None:
    r = Run()
    r.send()
    r.admin(NUD.NONE)
    assert (r.n.nud_state, r.n.qlen, r.deadline) == (NUD.NONE, 1, NEVER)
    assert [x.n for x in r.reply() if isinstance(x, SendQueued)] == [1]


def test_a_used_permanent_entry_is_resolved_anew() -> None:
    r = Run()
    r.admin(NUD.PERMANENT, MAC)
    r.admin(NUD.NONE, use=True)
    assert r.n.nud_state == NUD.NONE
    assert kinds(r.do(EventSend)) == ["Solicit"]


def test_a_managed_entry_is_asked_for_one_jiffy_later() -> None:
    r = Run()
    effects = r.admin(NUD.NONE, managed=True)
    assert kinds(effects) == ["Notify", "Result"]
    r.do(EventSend, immediate_ok=False)
    assert (r.n.nud_state, r.n.timer) == (NUD.INCOMPLETE, r.now + 4_000)
    assert kinds(r.timer()) == ["Solicit"]


def test_deletion_is_told_twice_failure_and_end() -> None:
    r = reachable()
    told = [(x.msg, x.nud_state) for x in r.do(Delete) if isinstance(x, Notify)]
    assert told == [(Msg.NEWNEIGH, NUD.FAILED), (Msg.DELNEIGH, NUD.FAILED)]
    assert r.state == Absent()


def test_deletion_of_a_failed_entry_is_told_once() -> None:
    r = Run(mcast_probes=0)
    r.send()
    assert [x.msg for x in r.do(Delete) if isinstance(x, Notify)] == [Msg.DELNEIGH]


def test_deletion_reports_what_waits() -> None:
    r = Run()
    r.send()
    assert [x.n for x in r.do(Delete) if isinstance(x, ErrorReport)] == [1]


def test_a_device_that_goes_down_drops_what_waits_unreported() -> None:
    r = Run()
    r.send()
    effects = r.do(Flush)
    assert kinds(effects) == ["Notify", "Mib", "DropQueued"]
    assert r.state == Absent()


def test_permanent_entries_outlive_the_carrier() -> None:
    r = Run()
    r.admin(NUD.PERMANENT, MAC)
    r.do(Flush, skip_perm=True)
    assert r.n.nud_state == NUD.PERMANENT
    r.do(Flush)
    assert r.state == Absent()


def test_a_held_entry_dies_into_a_blackhole_that_still_knows_its_header() -> None:
    r = reachable()
    r.do(Flush, held=True)
    dead: object = r.state
    assert dead == Stray(True, True, MAC)
    assert kinds(r.send()) == ["Transmit"]
    assert kinds(r.send(skip_cache=True)) == ["Drop"]
    assert r.reply()[0].err == Errno.EPERM
    r.do(Release)
    assert r.state == Absent()


def test_nothing_is_collected_below_gc_thresh1() -> None:
    r = stale()
    r.wait(1000)
    r.do(PeriodicGc, entries=127)
    assert r.rule == "gc_spared"
    r.do(PeriodicGc, entries=128)
    assert r.state == Absent()


def test_a_confirmation_counts_as_a_use_for_collection() -> None:
    r = stale()
    r.wait(1000)
    r.do(Confirm)
    r.wait(59)
    r.do(PeriodicGc, entries=500)
    assert r.rule == "gc_spared"
    r.wait(1)
    r.do(PeriodicGc, entries=500)
    assert r.rule == "gc_collected"


def test_a_full_table_collects_what_is_older_than_five_seconds() -> None:
    r = stale()
    r.wait(5)
    r.do(ForcedGc)
    assert r.rule == "purge_spared"
    r.now += 1
    r.do(ForcedGc)
    assert r.rule == "purged"


def test_a_full_table_refuses_a_new_entry() -> None:
    r = Run()
    r.do(Delete)
    assert kinds(r.do(Create, entries=1024)) == ["Mib", "Drop"]
    assert r.state == Absent()
    r.do(Create, entries=1024, gc_freed=1)
    assert r.rule == "create"


@pytest.mark.parametrize(
    ("facts", "key", "address"),
    [
        ({}, {"multicast": True, "mc_ha": 7}, 7),
        ({"loopback": True, "dev_addr": 8}, {}, 8),
        ({"noarp": True, "dev_addr": 8}, {"broadcast": True}, 8),
        ({"pointopoint": True}, {}, (1 << 48) - 1),
        ({}, {"broadcast": True}, (1 << 48) - 1),
    ],
)
def test_what_needs_no_resolution_is_noarp(facts: dict[str, object], key: dict[str, object], address: int) -> None:
    r = Run()
    r.do(Delete)
    r.parms = type(r.parms)(**facts)  # type: ignore[arg-type]
    r.do(Create, **key)
    assert (r.n.nud_state, r.n.ha) == (NUD.NOARP, address)


def test_loopback_entries_are_off_gc_list_since_6_12() -> None:
    for kernel, listed in ((601, True), (612, False)):
        r = Run()
        r.do(Delete)
        r.parms = type(r.parms)(loopback=True, kernel=kernel)
        r.do(Create)
        assert r.n.on_gc_list == listed


def test_jiffies_follow_hz() -> None:
    assert [(parms(profile(hz=h)).tick, parms(profile(hz=h)).timer_floor) for h in (100, 250, 1000)] == [
        (10_000, 10_000),
        (4_000, 8_000),
        (1_000, 10_000),
    ]


def test_sysctls_of_each_family_have_their_own_names() -> None:
    p = profile(sysctls={"net.ipv6.neigh.default.ucast_solicit": 7, "net.ipv4.neigh.default.locktime": 50})
    six, four = parms(p, Family.INET6), parms(p)
    assert (six.ucast_probes, four.ucast_probes) == (7, 3)
    assert (six.locktime, four.locktime) == (0, 500_000)
    assert isinstance(six, NdParms)


def test_a_timer_does_not_fire_early() -> None:
    r = Run()
    r.send()
    with pytest.raises(AssumptionBroken, match="its time has come"):
        r.do(Timer)


def test_override_by_an_administrator_takes_a_new_address_into_the_header() -> None:
    r = reachable()
    r.admin(NUD.PERMANENT, OTHER)
    assert r.send() == (Transmit(Out.HH, OTHER, by="neigh.output.cached"),)
    assert r.n.on_gc_list is False


def test_without_override_netlink_leaves_another_address_alone() -> None:
    r = reachable()
    r.do(Update, NUD.PERMANENT, lladdr=OTHER, override=Override.NO, admin=True)
    assert (r.rule, r.n.nud_state) == ("kept", NUD.REACHABLE)


@pytest.mark.parametrize("state", [x for x in NUD if x != NUD.NONE])
@pytest.mark.parametrize("waiting", [0, 2])
@pytest.mark.parametrize("more", [{}, {"mcast_reprobes": 2, "app_probes": 1}, {"ucast_probes": 0}, {"retrans_time": 0}])
def test_left_alone_an_entry_comes_to_rest(state: NUD, waiting: int, more: dict[str, Any]) -> None:
    r = Run(**more)
    for _ in range(waiting):
        r.send()
    r.admin(state, MAC)
    fired = 0
    while r.deadline != NEVER:
        r.now += 1
        r.timer()
        fired += 1
        assert fired < 12
    assert r.n.nud_state not in (NUD.REACHABLE, NUD.DELAY, NUD.PROBE)
