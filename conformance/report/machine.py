"""The TCP state machine as a graph, and which of it a run has visited, as far as labels tell.

States are Linux's (include/net/tcp_states.h:TCP_ESTABLISHED and following), the moves those of RFC 9293 3.3.2 with what
Linux does besides: a listener's request sockets are NEW_SYN_RECV, an abort leads to CLOSE from everywhere.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Final

from msgspec import Struct

from conformance.check.verdict import FrameLabel

# from, to, why
MOVES: Final = (
    ("CLOSE", "LISTEN", "listen()"),
    ("CLOSE", "SYN_SENT", "connect() sends SYN"),
    ("LISTEN", "NEW_SYN_RECV", "SYN, answered by SYN+ACK"),
    ("LISTEN", "SYN_RECV", "SYN with Fast Open data"),
    ("NEW_SYN_RECV", "SYN_RECV", "the child socket is made"),
    ("NEW_SYN_RECV", "ESTABLISHED", "ACK of the SYN+ACK"),
    ("NEW_SYN_RECV", "CLOSE", "RST, or nobody answers"),
    ("SYN_SENT", "SYN_RECV", "SYN: both open"),
    ("SYN_SENT", "ESTABLISHED", "SYN+ACK"),
    ("SYN_SENT", "CLOSE", "RST, timeout or close()"),
    ("SYN_RECV", "ESTABLISHED", "ACK of the SYN+ACK"),
    ("SYN_RECV", "FIN_WAIT1", "close() sends FIN"),
    ("SYN_RECV", "CLOSE", "RST or timeout"),
    ("ESTABLISHED", "FIN_WAIT1", "close() sends FIN"),
    ("ESTABLISHED", "CLOSE_WAIT", "FIN"),
    ("ESTABLISHED", "CLOSE", "RST, abort or timeout"),
    ("FIN_WAIT1", "FIN_WAIT2", "ACK of the FIN"),
    ("FIN_WAIT1", "CLOSING", "FIN: both close"),
    ("FIN_WAIT1", "TIME_WAIT", "FIN with the ACK of ours"),
    ("FIN_WAIT1", "CLOSE", "RST, abort or timeout"),
    ("FIN_WAIT2", "TIME_WAIT", "FIN"),
    ("FIN_WAIT2", "CLOSE", "RST, abort or timeout"),
    ("CLOSING", "TIME_WAIT", "ACK of the FIN"),
    ("CLOSING", "CLOSE", "RST or timeout"),
    ("CLOSE_WAIT", "LAST_ACK", "close() sends FIN"),
    ("CLOSE_WAIT", "CLOSE", "RST, abort or timeout"),
    ("LAST_ACK", "CLOSE", "ACK of the FIN"),
    ("TIME_WAIT", "CLOSE", "60 s, or RST"),
)
STATES: Final = tuple(dict.fromkeys(s for move in MOVES for s in move[:2]))
Move = tuple[str, str]


class Visits(Struct):
    """How often each state was entered and each move made; `passed` are moves between two labels that nobody saw."""

    states: dict[str, int]
    moves: dict[str, int]
    passed: dict[str, int]


def visits(labels: Sequence[FrameLabel]) -> Visits:
    """What one connection visited: the states behind its frames, host by host, and the shortest ways between them."""
    states: Counter[str] = Counter()
    moves: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for host in dict.fromkeys(x.host for x in labels):
        seen = list(_changes(_state(x.state) for x in labels if x.host == host and _state(x.state)))
        states.update(seen)
        for a, b in pairwise(seen):
            way = _way(a, b)
            (moves if len(way) == 1 else passed).update(f"{x} {y}" for x, y in way)
            if len(way) > 1:
                states.update(y for _, y in way[:-1])
    return Visits(dict(states), dict(moves), dict(passed))


def together(many: Iterable[Visits]) -> Visits:
    """The visits of several connections."""
    states: Counter[str] = Counter()
    moves: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for v in many:
        states.update(v.states)
        moves.update(v.moves)
        passed.update(v.passed)
    return Visits(dict(states), dict(moves), dict(passed))


def _state(name: str) -> str:
    short = name.removeprefix("TCP_")
    return short if short in STATES else ""


def _changes(states: Iterable[str]) -> Iterator[str]:
    last = ""
    for s in states:
        if s != last:
            yield s
        last = s


@cache
def _way(start: str, end: str) -> tuple[Move, ...]:
    """The shortest way from one state to another; () if there is none. CLOSE is no way through."""
    queue: deque[tuple[str, tuple[Move, ...]]] = deque([(start, ())])
    seen = {start}
    while queue:
        at, way = queue.popleft()
        for a, b, _ in MOVES:
            if a != at or b in seen:
                continue
            if b == end:
                return (*way, (a, b))
            if b != "CLOSE":
                seen.add(b)
                queue.append((b, (*way, (a, b))))
    return ()
