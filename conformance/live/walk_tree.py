"""Call trees side by side: what function_graph drew, and the model's walk, both cut down to what both can show.

Of the kernel's calls those count which the model has, of the model's steps those whose function this kernel shows. The
calls within a call are aligned in order, so that as many as possible have their step; each context has its own trees.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct, field


class Node(NamedTuple):
    """A call or a step: its function, its context, and the number of the one that it is made in (-1: none)."""

    function: str
    context: str
    parent: int


class Forest(Struct):
    """Trees in order: for each node the numbers of those directly within it; the outermost by context."""

    nodes: list[Node]
    within: list[list[int]] = field(default_factory=list)
    roots: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.within = [[] for _ in self.nodes]
        for n, node in enumerate(self.nodes):
            if node.parent >= 0:
                self.within[node.parent].append(n)
            else:
                self.roots.setdefault(node.context, []).append(n)


class Alignment:
    """Which node of one forest is which of the other.

    A node of the other that finds no pair may have been inlined in this place: then what it calls is looked at instead
    (`opened`).
    """

    def __init__(self, one: Forest, other: Forest) -> None:
        self.one, self.other = one, other
        self.pairs: dict[int, int] = {}
        self.opened: list[int] = []
        self._size: dict[tuple[int, int], int] = {}
        for context, roots in one.roots.items():
            self._take(roots, other.roots.get(context, []))

    def _score(self, a: int, b: int) -> int:
        """How many nodes can be paired within `a` and `b`, themselves included; 0 for different functions."""
        if self.one.nodes[a].function != self.other.nodes[b].function:
            return 0
        if (a, b) not in self._size:
            left = self.one.within[a]
            self._size[a, b] = 1 + self._table(left, self._opened(left, self.other.within[b])[0])[0][0]
        return self._size[a, b]

    def _opened(self, left: Sequence[int], right: Sequence[int]) -> tuple[list[int], list[int]]:
        """`right` with what is within them instead of nodes without a pair, if more find one so; and those nodes."""
        now, gone = list(right), []
        best = self._table(left, now)[0][0]
        while True:
            paired = {j for _, j in self._chosen(left, now)}
            for at, node in enumerate(now):
                if node in paired or not self.other.within[node]:
                    continue
                changed = [*now[:at], *self.other.within[node], *now[at + 1 :]]
                score = self._table(left, changed)[0][0]
                if score > best:
                    now, best = changed, score
                    gone.append(node)
                    break
            else:
                return now, gone

    def _table(self, left: Sequence[int], right: Sequence[int]) -> list[list[int]]:
        """best[i][j]: how many nodes can be paired in order among left[i:] and right[j:]."""
        best = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
        for i in range(len(left) - 1, -1, -1):
            for j in range(len(right) - 1, -1, -1):
                score = self._score(left[i], right[j])
                both = score + best[i + 1][j + 1] if score else 0
                best[i][j] = max(both, best[i + 1][j], best[i][j + 1])
        return best

    def _chosen(self, left: Sequence[int], right: Sequence[int]) -> list[tuple[int, int]]:
        """The pairs of nodes among `left` and `right` themselves that make the best table."""
        best, found = self._table(left, right), []
        i = j = 0
        while i < len(left) and j < len(right):
            score = self._score(left[i], right[j])
            if score and best[i][j] == score + best[i + 1][j + 1]:
                found.append((left[i], right[j]))
                i, j = i + 1, j + 1
            elif best[i][j] == best[i + 1][j]:
                i += 1
            else:
                j += 1
        return found

    def _take(self, left: Sequence[int], right: Sequence[int]) -> None:
        now, gone = self._opened(left, right)
        self.opened += gone
        for a, b in self._chosen(left, now):
            self.pairs[a] = b
            self._take(self.one.within[a], self.other.within[b])

    def missing(self) -> list[int]:
        """The outermost nodes of the first forest that have no pair: what is within them is not asked for."""
        return [
            n
            for n, node in enumerate(self.one.nodes)
            if n not in self.pairs and (node.parent < 0 or node.parent in self.pairs)
        ]
