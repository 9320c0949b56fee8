"""The shortest run to a state, found by searching the levels of a finished search backwards."""

from itertools import pairwise
from typing import Any

import numpy as np

from refmodel.engine.explore_sites import BLOCKED, Move, Sites
from refmodel.engine.explore_table import Words
from refmodel.engine.runs import Run, RunStep

CHUNK = 1 << 15


def run_to(
    sites: Sites, levels: list[Words], state: int, depth: int, title: str, last: tuple[int, Move] | None = None
) -> Run:
    """The run from the start to `state` at `depth`, with the step `last` (site, move) taken from there if given."""
    path = [state]
    for d in range(depth, 0, -1):
        path.append(_predecessor(sites, levels[d - 1], path[-1]))
    path.reverse()
    steps = [_step_between(sites, a, b) for a, b in pairwise(path)]
    if last is not None:
        steps.append(_step(sites, path[-1], *last))
    start = tuple((c.name, c.start) for c in sites.system.components)
    return Run(system=sites.system.name, title=title, start=start, steps=tuple(steps))


def _predecessor(sites: Sites, level: Words, state: int) -> int:
    for at in range(0, len(level), CHUNK):
        part = level[at : at + CHUNK]
        after, origin, _ = sites.successors(part)
        hits = np.flatnonzero(after == np.uint64(state))
        if len(hits):
            return int(part[origin[hits].min()])
    raise AssertionError("every state of a level has a predecessor in the level before")


def _after(sites: Sites, state: int, index: int, move: Move) -> int | None:
    if move.local >= BLOCKED:
        return None
    for k, site in enumerate(sites.sites):
        local = (state >> int(site.shift)) & int(site.mask)
        new = local
        if k == index:
            new = move.local
        elif move.sends[k]:
            new = site.put(local, move.sends[k])
            if new == BLOCKED:
                return None
        state += (new - local) << int(site.shift)
    return state


def _step_between(sites: Sites, before: int, after: int) -> RunStep:
    for k, site in enumerate(sites.sites):
        local = (before >> int(site.shift)) & int(site.mask)
        for move in sites.moves(k, local):
            if _after(sites, before, k, move) == after:
                return _step(sites, before, k, move)
    raise AssertionError("neighbouring states on a path are joined by a move")


def _step(sites: Sites, state: int, index: int, move: Move) -> RunStep:
    site = sites.sites[index]
    t = move.taken
    before: Any = sites.components_at(state)[index][0]
    sent = tuple(
        (w.name, m) for x in (t.effects if t else ()) for _, _, w in sites.exits[index] if (m := w.carry(x)) is not None
    )
    return RunStep(
        component=site.component.name,
        kind=move.kind,
        event=move.event,
        rule=t.rule if t else "",
        says=t.says if t else "",
        before=before,
        after=t.state if t and t.state is not None else before,
        effects=t.effects if t else (),
        sent=sent,
        wire=move.wire,
    )
