"""The connections of random workloads: who sends how much in which pieces, with which pauses, socket options and ends.

Each kind has a function that draws one flow from the generator it is given. Standard library only.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

T = TypeVar("T")

Options = tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class Step:
    """One thing that a thread of an application does; sizes in bytes, `pause` in s after each call.

    `send`: `size` bytes in calls of `chunk`, with `flags`. `recv`: until `size` bytes came, or the end for -1, in calls
    of `chunk`. `pause`, `shutdown` (SHUT_WR), `option` (`flags` names it, `size` is its value).
    """

    call: str
    size: int = 0
    chunk: int = 0
    pause: float = 0.0
    flags: str = ""


Lane = tuple[Step, ...]


@dataclass(frozen=True)
class Flow:
    """One connection (or exchange of datagrams): who listens, what both sides do, and how each ends.

    `lanes` run at the same time, each in a thread. `ends` is close, abort (SO_LINGER 0) or leave. `after` is in s.
    """

    kind: str
    port: int
    after: float
    client: tuple[Lane, ...]
    server: tuple[Lane, ...]
    options: tuple[tuple[str, str, int], ...] = ()
    server_options: tuple[tuple[str, str, int], ...] = ()
    ends: tuple[str, str] = ("close", "close")
    fast_open: int = 0


def pick(r: random.Random, weighted: Mapping[T, int]) -> T:
    """One of the keys, each as likely as its weight says."""
    return r.choices(list(weighted), list(weighted.values()))[0]


def log_size(r: random.Random, low: int, high: int) -> int:
    """A size whose logarithm is even between the two; now and then one that sits on an edge."""
    if r.random() < 0.15:
        return min(high, max(low, r.choice((1, 2, 536, 1447, 1448, 1449, 1460, 2896, 4096, 14480, 65536))))
    return int(low * (high / low) ** r.random())


@dataclass(frozen=True)
class Draw:
    """What a flow is drawn from: `large` is the most that its kind may send, `size` one size up to that, in bytes.

    `read` is the reader's chunk, `whole` reads all until the end, `blank` is the flow without its steps.
    """

    r: random.Random
    blank: Flow
    budget: int
    large: int
    size: int
    chunk: int
    pause: float
    read: int

    @property
    def whole(self) -> Step:
        """Reads until the end of the stream."""
        return Step("recv", -1, self.read)

    def send(self, size: int) -> Step:
        """Writes `size` bytes, in pieces of a drawn size."""
        return Step("send", size, self.r.choice((size, 1000, 16384, 65536)) if size < 200_000 else 65536)

    def flow(self, client: Lane, server: Lane, ends: tuple[str, str] = ("close", "close")) -> list[Flow]:
        """The flow in which each side has one thread."""
        return [replace(self.blank, client=(client,), server=(server,), ends=ends)]


def _request(d: Draw) -> list[Flow]:
    rounds = d.r.choice((1, 2, 3, 5, 8))
    think = d.r.choice((0.0, 0.0, 0.005, 0.05, 0.25))
    client: list[Step] = []
    server: list[Step] = []
    for _ in range(rounds):
        ask, reply = log_size(d.r, 1, 4000), log_size(d.r, d.r.choice((1, 500)), max(1000, d.large // rounds))
        client += [Step("send", ask, ask), Step("recv", reply, d.read), Step("pause", pause=think)]
        server += [Step("recv", ask, d.read), Step("pause", pause=d.r.choice((0.0, 0.0, 0.06))), d.send(reply)]
    return d.flow(tuple(client), (*server, d.whole))


def _written(d: Draw) -> Step:
    return Step("send", d.size, d.chunk, d.pause if d.size // d.chunk < 40 else 0.0)


def _push(d: Draw) -> list[Flow]:
    return d.flow((_written(d),), (d.whole,))


def _pull(d: Draw) -> list[Flow]:
    ask = log_size(d.r, 1, 600)
    server = (Step("recv", ask, d.read), d.send(d.size), Step("shutdown"), d.whole)
    return d.flow((Step("send", ask, ask), d.whole), server)


def _both_ways(d: Draw) -> list[Flow]:
    there, back = d.send(d.size), d.send(log_size(d.r, 1, d.large))
    reads: Lane = (d.whole,)
    client, server = ((there, Step("shutdown")), reads), ((back, Step("shutdown")), reads)
    return [replace(d.blank, client=client, server=server)]


def _stream(d: Draw) -> list[Flow]:
    count, piece = d.r.choice((5, 12, 30)), log_size(d.r, 1, 3000)
    beat = d.r.choice((0.005, 0.02, 0.05, 0.12))
    stream = Step("send", count * piece, piece, beat, d.r.choice(("", "", "MSG_MORE")))
    if d.r.random() < 0.5:
        return d.flow((stream,), (d.whole,))
    return d.flow((Step("send", 1, 1), d.whole), (Step("recv", 1, 1), stream))


def _slow_reader(d: Draw) -> list[Flow]:
    size = max(1, min(d.budget, d.r.choice((60_000, 200_000, 500_000))))
    wait, part, rest = d.r.choice((0.3, 1.0)), d.r.choice((1000, 8000, 30_000)), d.r.choice((0.0, 0.5))
    some = Step("recv", 10 * part, part, pause=0.05)
    reads = (Step("pause", pause=wait), some, Step("pause", pause=rest), d.whole)
    return d.flow((Step("send", size, 16384),), reads)


def _half_close(d: Draw) -> list[Flow]:
    reply = log_size(d.r, 1, d.large)
    client = (Step("send", d.size, d.chunk), Step("shutdown"), d.whole)
    return d.flow(client, (d.whole, Step("pause", pause=d.r.choice((0.0, 0.1))), d.send(reply)))


def _abort(d: Draw) -> list[Flow]:
    client = (_written(d), Step("pause", pause=d.r.choice((0.0, 0.0, 0.02))))
    if d.r.random() < 0.5:
        return d.flow(client, (d.whole,), ("abort", "close"))
    return d.flow(client, (Step("recv", d.size // 2 + 1, d.read),), ("close", "abort"))


def _unread(d: Draw) -> list[Flow]:
    return d.flow((_written(d),), (Step("recv", d.size // 3 + 1, d.read), Step("pause", pause=0.05)))


def _small_writes(d: Draw) -> list[Flow]:
    writes = tuple(
        Step("send", n, n, d.r.choice((0.0, 0.0, 0.01)), d.r.choice(("", "", "MSG_MORE")))
        for n in (log_size(d.r, 1, 2000) for _ in range(d.r.choice((3, 8, 20))))
    )
    if d.r.random() < 0.4:
        writes = (Step("option", 1, flags="TCP_CORK"), *writes, Step("option", 0, flags="TCP_CORK"))
    return d.flow(writes, (d.whole,))


def _keepalive(d: Draw) -> list[Flow]:
    idle: Options = (
        ("SOL_SOCKET", "SO_KEEPALIVE", 1),
        ("IPPROTO_TCP", "TCP_KEEPIDLE", 1),
        ("IPPROTO_TCP", "TCP_KEEPINTVL", 1),
    )
    steps = (Step("send", 50, 50), Step("pause", pause=d.r.choice((1.6, 2.6))), Step("send", 50, 50))
    (flow,) = d.flow(steps, (d.whole,))
    return [replace(flow, options=(*flow.options, *idle))]


def _user_timeout(d: Draw) -> list[Flow]:
    steps = (Step("send", d.size, 65536), Step("pause", pause=1.0), Step("send", 1000, 1000), Step("pause", pause=1.0))
    (flow,) = d.flow(steps, (d.whole,))
    timed = ("IPPROTO_TCP", "TCP_USER_TIMEOUT", d.r.choice((700, 1500, 5000)))
    return [replace(flow, options=(*flow.options, timed))]


def _fast_open(d: Draw) -> list[Flow]:
    first, reply = log_size(d.r, 1, 3000), log_size(d.r, 1, 20_000)
    server = (Step("recv", first, d.read), Step("send", reply, reply), d.whole)
    (one,) = d.flow((Step("recv", reply, d.read),), server)
    one = replace(one, fast_open=first)
    at = one.after
    return [one, replace(one, port=one.port + 100, after=at + 0.4), replace(one, port=one.port + 200, after=at + 0.7)]


def _urgent(d: Draw) -> list[Flow]:
    steps = (Step("send", d.size, d.chunk), Step("send", 1, 1, flags="MSG_OOB"), Step("send", 300, 300))
    (flow,) = d.flow(steps, (d.whole,))
    return [replace(flow, server_options=(*flow.server_options, ("SOL_SOCKET", "SO_OOBINLINE", 1)))]


def _refused(d: Draw) -> list[Flow]:
    return [replace(d.blank, client=((Step("send", 10, 10),),))]


def _datagrams(d: Draw) -> list[Flow]:
    sizes = [log_size(d.r, 1, 6000) for _ in range(d.r.choice((2, 6)))]
    return d.flow(tuple(Step("send", n, n, 0.02) for n in sizes), (d.whole,))


KINDS: Final[Mapping[str, tuple[int, Callable[[Draw], list[Flow]]]]] = {
    "request": (5, _request),
    "push": (4, _push),
    "pull": (4, _pull),
    "both-ways": (3, _both_ways),
    "stream": (3, _stream),
    "slow-reader": (3, _slow_reader),
    "half-close": (2, _half_close),
    "abort": (2, _abort),
    "unread": (1, _unread),
    "small-writes": (3, _small_writes),
    "keepalive": (1, _keepalive),
    "user-timeout": (1, _user_timeout),
    "fast-open": (2, _fast_open),
    "urgent": (1, _urgent),
    "refused": (1, _refused),
    "datagrams": (1, _datagrams),
}
"""The kinds of flows, how often each is drawn, and what draws it."""

PAUSING: Final = {"request": 2, "stream": 2, "keepalive": 1}


def flows_of(r: random.Random, start: str, budget: int) -> tuple[Flow, ...]:
    """The flows of a workload that may send about `budget` bytes; those for a `start` in the middle pause."""
    count = pick(r, {1: 8, 2: 3, 3: 2, 4: 1, 8: 1})
    weights = PAUSING if start == "middle" else {kind: weight for kind, (weight, _) in KINDS.items()}
    flows: list[Flow] = []
    for n in range(count):
        kind = pick(r, weights)
        share = budget // count
        large = max(1000, min(share, r.choice((20_000, 100_000, 400_000, 1_000_000, 4_000_000))))
        size = log_size(r, min(large, r.choice((1, 1, 1000, 30_000))), large)
        after = round(r.uniform(0, 0.3), 3) if n else 0.0
        draw = Draw(
            r,
            Flow(kind, 5000 + n, after, (), (), options_of(r), options_of(r)),
            share,
            large,
            size,
            chunk=r.choice((size, 1000, 4096, 16384, 65536)),
            pause=r.choice((0.0, 0.0, 0.001, 0.01, 0.06)),
            read=r.choice((65536, 65536, 4096, 1000)),
        )
        flows += KINDS[kind][1](draw)
    return tuple(flows)


def options_of(r: random.Random) -> Options:
    """Socket options of one side, set before connect or listen."""
    choices: tuple[tuple[str, str, tuple[int, ...]], ...] = (
        ("IPPROTO_TCP", "TCP_NODELAY", (1,)),
        ("IPPROTO_TCP", "TCP_QUICKACK", (0, 1)),
        ("SOL_SOCKET", "SO_SNDBUF", (5000, 30_000, 200_000)),
        ("SOL_SOCKET", "SO_RCVBUF", (5000, 30_000, 200_000)),
        ("IPPROTO_TCP", "TCP_NOTSENT_LOWAT", (1, 10_000)),
        ("IPPROTO_TCP", "TCP_MAXSEG", (536, 1000)),
        ("SOL_SOCKET", "SO_LINGER", (2,)),
        ("IPPROTO_TCP", "TCP_WINDOW_CLAMP", (20_000,)),
        ("IPPROTO_TCP", "TCP_LINGER2", (1,)),
        ("SOL_SOCKET", "SO_MAX_PACING_RATE", (500_000,)),
        ("IPPROTO_TCP", "TCP_THIN_LINEAR_TIMEOUTS", (1,)),
    )
    chosen = r.sample(choices, pick(r, {0: 4, 1: 4, 2: 2}))
    return tuple((level, name, r.choice(values)) for level, name, values in chosen)
