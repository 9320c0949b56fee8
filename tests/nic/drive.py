"""Drives one machine strictly: every step finds exactly one rule, keeps the assumptions and all invariants."""

from typing import Any

from refmodel.engine.run import pick
from refmodel.rule import Machine


class Drive:
    def __init__(self, machine: Machine, state: Any, params: Any, kernel: str = "6.12") -> None:
        self.machine = machine
        self.at = state
        self.params = params
        self.run = pick(machine, kernel, check=True)
        self.effects: list[Any] = []
        self.rules: list[str] = []

    def do(self, *events: Any) -> list[Any]:
        """Applies the events; the effects of these steps."""
        out: list[Any] = []
        for e in events:
            r, self.at, effects = self.run.apply(self.at, e, self.params)
            assert all(x.by for x in effects)
            self.rules.append(r.id)
            out += effects
            for q in self.machine.properties("invariant"):
                if not q.falsified and (not q.at or getattr(self.at, self.at.AT) in q.at):
                    assert q.fn(*(self.at, self.params)[: q.arity]), f"{q.id} after {r.id}: {self.at}"
        self.effects += out
        return out


def kinds(effects: list[Any]) -> list[str]:
    return [type(x).__name__ for x in effects]
