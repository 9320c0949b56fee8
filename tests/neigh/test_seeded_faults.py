"""Each property has a fault that it alone, or it among others, finds: what cannot fail proves nothing."""

import pytest

from refmodel.engine.prove import prove_with
from refmodel.neigh import NEIGH
from refmodel.neigh.arp import ARP
from refmodel.neigh.ndisc import NDISC
from refmodel.rule import Machine

# property: (module, text, fault, cell)
NEIGH_FAULTS = {
    "timer_only_when_timed": (
        "timer",
        "updated=e.now, output=plain_output(s.ops), timer=NEVER)",
        "updated=e.now, output=plain_output(s.ops))",
        "Neigh.REACHABLE+Timer",
    ),
    "timer_when_timed": ("update", "armed = new in IN_TIMER", "armed = new == NUD.REACHABLE", "Neigh.NONE+Update"),
    "valid_has_no_queue": ("update", "        qlen=0,\n        qbytes=0,\n", "", "Neigh.INCOMPLETE+Update"),
    "queue_sizes": ("timer", "qlen=0, qbytes=0)", "qlen=0)", "Neigh.INCOMPLETE+Timer"),
    "valid_has_address": (
        "update",
        "if p.addr_len != 0 and not e.has_lladdr and s.nud_state not in VALID:",
        "if False:",
        "Neigh.INCOMPLETE+Update",
    ),
    "header_is_current": (
        "update",
        "hh_ha=e.lladdr if moved and s.hh else s.hh_ha",
        "hh_ha=s.hh_ha",
        "Neigh.STALE+Update",
    ),
    "header_where_cached": ("output", "first = s.ops == Ops.HH and not s.hh", "first = not s.hh", "Neigh.STALE+Output"),
    "connected_has_fast_path": (
        "timer",
        "nud_state=NUD.REACHABLE, updated=e.now, output=connected_output(s.ops))",
        "nud_state=NUD.REACHABLE, updated=e.now)",
        "Neigh.DELAY+Timer",
    ),
    "suspect_has_slow_path": (
        "timer",
        "t = replace(s, updated=e.now, output=plain_output(s.ops))",
        "t = replace(s, updated=e.now)",
        "Neigh.REACHABLE+Timer",
    ),
    "output_fits_device": (
        "update",
        "output=connected_output(s.ops) if new in CONNECTED else plain_output(s.ops),",
        "output=Out.RESOLVE,",
        "Neigh.NONE+Update",
    ),
    "direct_has_no_queue": ("output", "not e.skip_cache else s.output", "not e.skip_cache else Out.RESOLVE", "+Output"),
    "probes_bounded": ("timer", "require(s.probes < max_probes", "require(s.probes <= max_probes", "Neigh.PROBE+Timer"),
    "resolving_skips_unicast": ("output", "probes=p.ucast_probes, updated=now", "updated=now", "Neigh.NONE+Output"),
    "off_gc_list": (
        "update",
        "return not (t.nud_state == NUD.PERMANENT or t.ext_learned) if changed",
        "return t.nud_state != NUD.PERMANENT if changed",
        "Neigh.STALE+Update",
    ),
    "times_are_past": (
        "timer",
        "t = replace(s, updated=e.now, output=plain_output(s.ops))",
        "t = replace(s, updated=e.now + p.tick, output=plain_output(s.ops))",
        "Neigh.REACHABLE+Timer",
    ),
    "packets_are_accounted": (
        "timer",
        '(Mib(name="res_failed"), ErrorReport(s.qlen, reason))',
        '(Mib(name="res_failed"),)',
        "Neigh.INCOMPLETE+Timer",
    ),
    "packets_die_accounted": (
        "life",
        ", DropQueued(s.qlen, Reason.NOT_SPECIFIED))\n    return Absent()",
        ")\n    return Absent()",
        "Neigh.INCOMPLETE+Flush",
    ),
    "output_has_one_fate": ("output", "return t, (Queue(),)", "return t, ()", "Neigh.INCOMPLETE+Output"),
    "new_packet_is_kept": (
        "output",
        "qbytes=s.qbytes - e.evicted_bytes + e.truesize",
        "qbytes=s.qbytes - e.evicted_bytes",
        "Neigh.INCOMPLETE+Output",
    ),
    "queue_is_bounded": (
        "output",
        "qbytes=s.qbytes - e.evicted_bytes + e.truesize",
        "qbytes=s.qbytes + e.truesize",
        "Neigh.INCOMPLETE+Output",
    ),
    "sent_to_known_address": (
        "output",
        "(Transmit(Out.RESOLVE, s.ha),)",
        "(Transmit(Out.RESOLVE, p.broadcast),)",
        "Neigh.STALE+Output",
    ),
    "solicits_only_while_asking": (
        "output",
        "return replace(t, nud_state=NUD.DELAY), ()",
        "return probe(replace(t, nud_state=NUD.DELAY), p)",
        "Neigh.STALE+EventSend",
    ),
    "unicast_only_in_probe": (
        "output",
        "if probes < p.ucast_probes:",
        "if probes <= p.ucast_probes:",
        "Neigh.NONE+Output",
    ),
    "fails_only_when_exhausted": (
        "timer",
        "return probe(replace(s, timer=",
        "return probe(replace(s, nud_state=NUD.FAILED, timer=",
        "Neigh.PROBE+Timer",
    ),
    "only_admin_moves_fixed": (
        "update",
        "if not e.admin and s.nud_state in (NUD.NOARP, NUD.PERMANENT):",
        "if not e.admin and s.nud_state == NUD.NOARP:",
        "Neigh.PERMANENT+Update",
    ),
    "address_needs_update": (
        "life",
        "return replace(s, used=last_used",
        "return replace(s, ha=0, used=last_used",
        "Neigh.STALE+PeriodicGc",
    ),
    "override_changes_address": (
        "update",
        "differs(s, e, p) and not override(s, e, p) and not suspected(s, e, p):",
        "differs(s, e, p) and False:",
        "Neigh.STALE+Update",
    ),
    "locktime_protects_address": (
        "update",
        "e.now > s.updated + p.locktime",
        "e.now >= s.updated",
        "Neigh.STALE+Update",
    ),
    "address_change_is_told": ("update", "if renamed(s, e, p) or t.router", "if t.router", "Neigh.STALE+Update"),
    "told_as_it_is": ("timer", "newneigh(u)", "newneigh(t)", "Neigh.DELAY+Timer"),
    "failure_and_success_are_told": (
        "update",
        "if s.nud_state in VALID:\n        return t, (newneigh(t)",
        "if s.nud_state in CONNECTED:\n        return t, (newneigh(t)",
        "Neigh.STALE+Update",
    ),
    "stale_output_delays": (
        "output",
        "nud_state=NUD.DELAY, timer=e.now + p.delay_probe_time",
        "nud_state=NUD.DELAY, timer=e.now",
        "Neigh.STALE+Output",
    ),
    "unarmed_incomplete_is_admins": ("output", "timer=e.now + p.tick", "timer=s.timer", "Neigh.NONE+EventSend"),
    "collected_unheld": (
        "life",
        "s.on_gc_list and not e.held and s.timer",
        "s.on_gc_list and s.timer",
        "Neigh.FAILED+ForcedGc",
    ),
    "collected_above_threshold": (
        "life",
        "return looked_at(s, e, p) and not e.held",
        "return not e.held",
        "Neigh.STALE+PeriodicGc",
    ),
    "death_is_told": ("life", '(delneigh(s), Mib(name="destroys"))', '(Mib(name="destroys"),)', "Neigh.STALE+Flush"),
    "born_silent": ("life", "timer=NEVER,", "timer=e.now,", "Absent+Create"),
    "blackhole_swallows": ("output", "s.valid and s.hh and not e.skip_cache,", "s.valid,", "Stray+Output"),
    "fast_path_leaves_no_use": (
        "output",
        "return replace(s, confirmed=confirmed(s, e)), (Transmit(Out.HH",
        "return replace(s, used=e.now, confirmed=confirmed(s, e)), (Transmit(Out.HH",
        "Neigh.REACHABLE+Output",
    ),
}

ARP_FAULTS = {
    "reply_only_to_requests": ("sip=e.tip, tha=e.sha, tip=e.sip", "sip=e.tip, tha=e.sha, tip=e.tip"),
    "reply_only_for_ours": ("e.ar_op == ARPOP_REQUEST and e.tip_local and", "e.ar_op == ARPOP_REQUEST and"),
    "probe_teaches_nothing": ("if e.sip == 0:", "if e.sip == 0 and not e.known:"),
    "ignore_means_silence": ("return p.arp_ignore == 8", "return p.arp_ignore == 4"),
    "reachable_needs_reply": (
        "e.ar_op == ARPOP_REPLY and e.pkt_type == Pkt.HOST\n    may",
        "e.ar_op == ARPOP_REPLY\n    may",
    ),
    "unsolicited_makes_no_entry": (
        "return p.arp_accept == 1 or (p.arp_accept == 2 and e.sip_subnet)",
        "return p.arp_accept == 1 or e.sip_subnet",
    ),
}

NDISC_FAULTS = {
    "foreign_is_void": ("e.hop_limit != 255 or e.code", "e.code"),
    "tentative_never_answers": (
        "        if not e.optimistic:\n            return Verdict.SILENT\n",
        "",
    ),
    "probe_teaches_nothing": ("    if dad:\n        return Verdict.DAD\n", ""),
    "answer_is_solicited": ("is_router(e, p), False, over, True)", "is_router(e, p), True, over, True)"),
    "reachable_needs_solicited": ("if e.solicited and e.known", "if e.known"),
    "failed_stays_failed": ("(e.failed or (e.has_lladdr and e.own_proxy))", "(e.has_lladdr and e.own_proxy)"),
}


@pytest.mark.parametrize("name", NEIGH_FAULTS)
def test_a_fault_in_the_neighbour_machine_is_named(name: str) -> None:
    module, text, fault, cell = NEIGH_FAULTS[name]
    report = prove_with(NEIGH, [(f"refmodel.neigh.{module}", text, fault)], only=cell)
    assert f"neigh.properties.{name}" in report.failed


@pytest.mark.parametrize("name", ARP_FAULTS)
def test_a_fault_in_arp_is_named(name: str) -> None:
    report = prove_with(ARP, [("refmodel.neigh.arp", *ARP_FAULTS[name])])
    assert f"neigh.arp.{name}" in report.failed


@pytest.mark.parametrize("name", NDISC_FAULTS)
def test_a_fault_in_discovery_is_named(name: str) -> None:
    report = prove_with(NDISC, [("refmodel.neigh.ndisc", *NDISC_FAULTS[name])])
    assert f"neigh.ndisc.{name}" in report.failed


def test_a_missing_guard_is_an_overlap() -> None:
    text = 'require(s.probes >= max_probes(s, p), "as many solicitations as allowed were sent")'
    report = prove_with(NEIGH, [("refmodel.neigh.timer", text, 'require(True, "always")')], only="Neigh.PROBE+Timer")
    assert "disjoint" in report.failed


def test_a_narrower_guard_leaves_a_gap() -> None:
    text = 'require(not e.immediate_ok, "the caller may not send now")'
    fault = 'require(not e.immediate_ok and s.qlen == 0, "the caller may not send now")'
    report = prove_with(NEIGH, [("refmodel.neigh.output", text, fault)], only="Neigh.NONE+EventSend")
    assert "total" in report.failed


@pytest.mark.parametrize(("machine", "faults"), [(NEIGH, NEIGH_FAULTS), (ARP, ARP_FAULTS), (NDISC, NDISC_FAULTS)])
def test_every_property_has_a_seeded_fault(machine: Machine, faults: dict[str, object]) -> None:
    names = {
        q.id.rsplit(".", 1)[1]
        for kind in ("invariant", "transition")
        for q in machine.properties(kind)
        if not q.falsified
    }
    assert names == set(faults)
