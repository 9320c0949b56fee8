"""Each property has a fault that it finds: what cannot fail proves nothing."""

import pytest

from refmodel.engine.prove import prove_with
from refmodel.ip.fragment import FRAGMENT
from refmodel.ip.ident import IDENTS
from refmodel.ip.ipq import IPQ
from refmodel.ip.limits import ICMP_LIMITS
from refmodel.rule import Machine

# property: (text, fault)
IPQ_FAULTS = {
    "meat_is_within": ("meat=0 if e.too_far else s.meat", "meat=s.meat"),
    "df_size_is_a_size": ("max_size=max(m.max_size, whole),\n", "max_size=max(m.max_size, n),\n"),
    "open_end_is_at_eights": ("e.size // 8 * 8 if e.mf else e.size", "e.size"),
    "bytes_have_an_ecn": ("ce=m.ce or e.ecn == Ecn.CE,", "ce=m.ce,"),
    "end_is_said_once": ("if e.mf and end > b.len and b.last_in:", "if e.mf and end > b.len + 8 and b.last_in:"),
    "whole_means_whole": (
        "if not (a.first_in and a.last_in and a.meat == a.len)",
        "if not (a.last_in and a.meat == a.len)",
    ),
    "whole_fits_its_length": ("Reassembled(len=a.len + 4 * e.head_ihl,", "Reassembled(len=a.len + 4 * e.ihl,"),
    "ecn_is_of_one_kind": ("if a.not_ect and (a.ect or a.ce)", "if a.not_ect and a.ce"),
    "done_is_done": ("return s, (Dropped(reason=Drop.DUP_FRAG),)", "return replace(s, phase=Phase.OPEN), ()"),
    "every_fragment_has_one_fate": ("    return added(s, e), (Kept(),)\n", "    return added(s, e), ()\n"),
    "death_is_told": (
        'return over(added(s, e)), (Killed(), Mib(name="IpReasmFails"))',
        'return over(added(s, e)), (Mib(name="IpReasmFails"),)',
    ),
    "told_only_with_a_first": ("if s.first_in and e.icmp:", "if e.icmp:"),
    "Reassembled.len": ("if a.len + 4 * e.head_ihl > LARGEST", "if a.len > LARGEST"),
    "total": ("require(verdict(s, e) == Verdict.DUP,", "require(verdict(s, e) == Verdict.OVERLAP,"),
}
FRAGMENT_FAULTS = {
    "pieces_tile": ("left=s.left - n, ptr=s.ptr + n,", "left=s.left - n, ptr=s.ptr + n // 8 * 8,"),
    "offset_follows": ("offset=s.offset + n)", "offset=s.offset + n // 8 * 8)"),
    "cut_at_eights": ("return left if left <= mtu else mtu // 8 * 8", "return left if left <= mtu else mtu"),
    "starts_at_eights": ("e.total, e.units * 8, e.mf)", "e.total, e.units * 8 + 4, e.mf)"),
    "pieces_fit": ("return left if left <= mtu else mtu // 8 * 8", "return left if left <= mtu + 8 else mtu // 8 * 8"),
    "only_the_last_ends": ("mf=s.left - n > 0 or s.not_last_frag", "mf=s.left - n > 0"),
    "middle_pieces_are_eights": ("return left if left <= mtu else mtu // 8 * 8", "return min(left, mtu)"),
    "cutting_ends": (
        'require(s.left == 0, "all was cut")\n    return s, ()',
        'require(s.left == 0, "all was cut")\n    return replace(s, left=s.total), ()',
    ),
}
LIMITS_FAULTS = {
    "peer_burst_is_bounded": ("return min(tokens + passed, XRLIM_BURST_FACTOR * timeout)", "return tokens + passed"),
    "peer_pays": (
        "return Peer(filled(s.tokens, e.passed, p.timeout) - p.timeout,",
        "return Peer(filled(s.tokens, e.passed, p.timeout),",
    ),
    "peer_gains_with_time_only": (
        "filled(s.tokens, e.passed, p.timeout), s.last + e.passed), ()",
        "filled(s.tokens, e.passed + 1, p.timeout), s.last + e.passed), ()",
    ),
    "global_burst_is_bounded": ("return min(s.credit + e.incr, p.burst)", "return s.credit + e.incr"),
    "global_gains_with_time_only": ("s.stamp + e.passed if may_fill(s, e, p) else s.stamp)", "s.stamp)"),
    "global_refuses_only_when_empty": (
        'require(s.credit <= 0 and not may_fill(s, e, p), "no credit")',
        'require(not may_fill(s, e, p), "no credit")',
    ),
}
IDENT_FAULTS = {
    "taken_in_a_row": ("next=add(first, e.segs)", "next=add(s.next, e.segs)"),
    "no_jump_in_a_tick": ("return e.jump if s.stamp != e.now else 0", "return e.jump"),
}
ALL = [
    (m, module, name, *fault)
    for m, module, faults in (
        (IPQ, "ipq", IPQ_FAULTS), (FRAGMENT, "fragment", FRAGMENT_FAULTS),
        (ICMP_LIMITS, "limits", LIMITS_FAULTS), (IDENTS, "ident", IDENT_FAULTS),
    )
    for name, fault in faults.items()
]  # fmt: skip


@pytest.mark.parametrize(("machine", "module", "name", "text", "fault"), ALL, ids=[x[2] for x in ALL])
def test_a_fault_is_found(machine: Machine, module: str, name: str, text: str, fault: str) -> None:
    report = prove_with(machine, [(f"refmodel.ip.{module}", text, fault)])
    assert name in report.failed or f"ip.{module}.{name}" in report.failed, report.failed
