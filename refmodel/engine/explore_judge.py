"""Whole arrays of packed states judged by a predicate that is asked once for each combination of what it reads."""

import numpy as np

from refmodel.engine.explore_check import Predicate, follow
from refmodel.engine.explore_sites import Site, Sites
from refmodel.engine.explore_table import MISSING, Bools, Column, Ints, KeyMap, Words


class _Classes:
    """The local states of one site, grouped by the fields that a predicate reads."""

    def __init__(self, site: Site, paths: tuple[tuple[str, ...], ...] | None) -> None:
        self.site = site
        self.paths = paths
        self.ids: dict[object, int] = {}
        self.column = Column()

    def of(self, local: Ints) -> Ints:
        """The class of each local state."""
        site = self.site
        fresh: list[int] = []
        for core, _ in site.locals.items[self.column.used :]:
            state = site.cores.items[core][0]
            key: object = state
            if self.paths is not None:
                key = tuple(follow(site.states.items[state], p) for p in self.paths)
            fresh.append(self.ids.setdefault(key, len(self.ids)))
        self.column.extend(fresh)
        return self.column.data[local]


class Judge:
    """Answers a predicate for arrays of packed states."""

    def __init__(self, sites: Sites, predicate: Predicate) -> None:
        self.sites = sites
        self.predicate = predicate
        self.classes = [
            _Classes(s, predicate.reads[s.component.name]) for s in sites.sites if s.component.name in predicate.reads
        ]
        self.width = np.uint64(63 // max(1, len(self.classes)))
        self.answers = KeyMap()

    def __call__(self, states: Words) -> Bools:
        """Whether the predicate holds in each state; raises PropertyError where it cannot be asked."""
        keys = np.zeros(len(states), np.uint64)
        for c in self.classes:
            keys = (keys << self.width) | c.of(self.sites.locals_of(c.site.index, states)).astype(np.uint64)
        found = self.answers.find(keys)
        if (found == MISSING).any():
            unknown = np.flatnonzero(found == MISSING)
            asked, at = np.unique(keys[unknown], return_index=True)
            told = [self.one(int(states[unknown[i]])) for i in at.tolist()]
            self.answers.add(asked, np.array(told, np.int64))
            found = self.answers.find(keys)
        holds: Bools = found == 1
        return holds

    def one(self, state: int) -> bool:
        """Whether the predicate holds in one packed state."""
        parts = self.sites.components_at(state)
        return self.predicate.holds({s.component.name: p[0] for s, p in zip(self.sites.sites, parts, strict=True)})
