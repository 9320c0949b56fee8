"""Mutants of the shipped captures of neighbours: what Linux would not have done is rejected where it happened."""

import random
from collections import Counter

from conformance.mutate_neigh import KINDS, Mutant, mutants
from tests.check.neigh_runs import cases, check, shipped

# What survives, and why: the capture ends before what is missing or changed had to show (an answer has 50 ms, a notice
# until the tap stopped, reachable_time half its base to spare), or a crafted peer may have had that link-layer address.
MAY_SURVIVE = {"link-source", "drop", "note-lladdr", "note-drop", "note-late"}
NEAR = 0.5  # s


def own(case: str) -> bool:
    """Captures of the newest kernel: the others show the same."""
    return not case.endswith(("-6.1", "-6.12"))


def rejected(m: Mutant) -> tuple[bool, bool]:
    """Whether the mutant diverges, and at the frame or within half a second of what is wrong."""
    found = [v.divergence for v in check(m.frames, m.setup) if v.divergence is not None]
    near = any(d.frame == m.at or abs(d.time - m.time / 1e6) < NEAR for d in found)
    return bool(found), near


def test_mutants_are_rejected_where_they_are_wrong():
    made, no, at = Counter(), Counter(), Counter()
    survivors: list[tuple[str, str, str]] = []
    for case in filter(own, cases("neigh", "arp", "nd")):
        for m in mutants(*shipped(case), random.Random(case)):
            made[m.kind] += 1
            bad, near = rejected(m)
            no[m.kind] += bad
            at[m.kind] += near
            if not bad:
                survivors.append((m.kind, case, m.says))
    assert set(made) == set(KINDS)
    assert {kind for kind, _, _ in survivors} <= MAY_SURVIVE, survivors
    assert sum(no.values()) >= 0.97 * sum(made.values()), survivors
    frames = [k for k in KINDS if not k.startswith("note-")]
    assert sum(at[k] for k in frames) >= 0.97 * sum(no[k] for k in frames)


def test_mutants_change_what_they_say():
    frames, setup = shipped("neigh-resolve")
    for m in mutants(frames, setup, random.Random(1), 2):
        assert m.frames != frames or m.setup != setup, m.kind
        assert [f.number for f in m.frames] == list(range(1, len(m.frames) + 1))
