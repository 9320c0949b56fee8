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
    """Which node of one forest is which of the other."""

    def __init__(self, one: Forest, other: Forest) -> None:
        self.one, self.other = one, other
        self.pairs: dict[int, int] = {}
        self._size: dict[tuple[int, int], int] = {}
        for context, roots in one.roots.items():
            self._take(roots, other.roots.get(context, []))

    def _score(self, a: int, b: int) -> int:
        """How many nodes can be paired within `a` and `b`, themselves included; 0 for different functions."""
        if self.one.nodes[a].function != self.other.nodes[b].function:
            return 0
        if (a, b) not in self._size:
            self._size[a, b] = 1 + self._table(self.one.within[a], self.other.within[b])[0][0]
        return self._size[a, b]

    def _table(self, left: Sequence[int], right: Sequence[int]) -> list[list[int]]:
        """best[i][j]: how many nodes can be paired in order among left[i:] and right[j:]."""
        best = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
        for i in range(len(left) - 1, -1, -1):
            for j in range(len(right) - 1, -1, -1):
                score = self._score(left[i], right[j])
                both = score + best[i + 1][j + 1] if score else 0
                best[i][j] = max(both, best[i + 1][j], best[i][j + 1])
        return best

    def _take(self, left: Sequence[int], right: Sequence[int]) -> None:
        best = self._table(left, right)
        i = j = 0
        while i < len(left) and j < len(right):
            score = self._score(left[i], right[j])
            if score and best[i][j] == score + best[i + 1][j + 1]:
                self.pairs[left[i]] = right[j]
                self._take(self.one.within[left[i]], self.other.within[right[j]])
                i, j = i + 1, j + 1
            elif best[i][j] == best[i + 1][j]:
                i += 1
            else:
                j += 1

    def missing(self) -> list[int]:
        """The outermost nodes of the first forest that have no pair: what is within them is not asked for."""
        return [
            n
            for n, node in enumerate(self.one.nodes)
            if n not in self.pairs and (node.parent < 0 or node.parent in self.pairs)
        ]
