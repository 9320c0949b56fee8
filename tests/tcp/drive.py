"""Connections step by step, with every invariant and step property checked on the way, and two of them on a wire."""

from collections.abc import Iterable
from typing import Any

from refmodel.engine.run import pick
from refmodel.profile import version_number
from refmodel.rule import State
from refmodel.tcp.events import CallResult, Connect, Listen, Output, Seg, Tx, Wake
from refmodel.tcp.machine import TCP
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import Sock, St

SECOND = 1_000_000
INVARIANTS = [q for q in TCP.properties("invariant") if not q.falsified]
STRICT = {k: pick(TCP, k, check=True) for k in ("6.1", "6.12", "6.18")}


class Run:
    """One end: `state`, and what each event made it do."""

    def __init__(self, state: State, params: TcpParams | None = None, kernel: str = "6.12") -> None:
        self.state: Any = state
        self.params = params or TcpParams(kernel=version_number(kernel))
        self.dispatcher = STRICT[kernel]
        self.rules: list[str] = []

    def do(self, event: Any) -> tuple[Any, ...]:
        """The effects of one event; the state moves on, and has its invariants."""
        rule, self.state, effects = self.dispatcher.apply(self.state, event, self.params)
        self.rules.append(rule.id)
        for q in INVARIANTS:
            if isinstance(self.state, q.of or object) and (not q.at or getattr(self.state, self.state.AT) in q.at):
                assert q.fn(*(self.state, self.params)[: q.arity]), f"{q.says} after {rule.id}: {self.state}"
        assert all(x.by for x in effects)
        return effects

    def sent(self, event: Any) -> list[Tx]:
        """The segments that one event sends."""
        return only(Tx, self.do(event))

    def result(self, event: Any) -> CallResult:
        """What the call returns."""
        found = only(CallResult, self.do(event))
        assert len(found) == 1
        return found[0]


def only(kind: type, effects: Iterable[Any]) -> list[Any]:
    """The effects of one kind."""
    return [x for x in effects if type(x) is kind]


def arrives(x: Tx, receiver: Any, **given: Any) -> Seg:
    """The segment as the receiver reads it."""
    fields: dict[str, Any] = {
        "seq": x.seq,
        "ack_seq": x.ack_seq,
        "len": x.len,
        "syn": x.syn,
        "ack": x.ack,
        "rst": x.rst,
        "fin": x.fin,
        "win": x.win,
        "ts": x.ts,
        "tsecr": 0,
        "tsval": 1000,
        "mss": x.mss,
        "wscale_ok": x.wscale_ok,
        "wscale": x.wscale,
        "sack_ok": x.sack_ok,
        "space": 65536,
        "now": 10 * SECOND,
    }
    return Seg(**(fields | given))


def syn_sent(**given: Any) -> Run:
    """A socket that has sent its SYN with sequence number 1000."""
    run = Run(Sock(), TcpParams(**given))
    assert [x.syn for x in run.sent(Connect(isn=1000, now=SECOND, ts_now=500))] == [True]
    return run


def established(**given: Any) -> Run:
    """A client: snd_nxt 1001, rcv_nxt 5001, windows of 64 KiB, no options."""
    run = syn_sent(**given)
    run.do(Seg(seq=5000, ack_seq=1001, syn=True, win=65535, now=2 * SECOND, space=65535))
    assert run.state.state == St.ESTABLISHED
    return run


def seg(**given: Any) -> Seg:
    """A segment at rcv_nxt that acknowledges everything of `established`."""
    return Seg(**({"seq": 5001, "ack_seq": 1001, "win": 65535, "now": 3 * SECOND, "space": 65535} | given))


def listening(**given: Any) -> Run:
    """An address pair with a listener."""
    run = Run(Sock(), TcpParams(**given))
    run.do(Listen(backlog=5))
    return run


def requested(**given: Any) -> Run:
    """A request: the peer's SYN has 9000, our SYN-ACK 7000."""
    run = listening(**given)
    sent = run.sent(Seg(seq=9000, syn=True, ack=False, win=65535, isn=7000, now=SECOND, space=65535, mss=1460))
    assert [(x.seq, x.ack_seq, x.syn, x.ack) for x in sent] == [(7000, 9001, True, True)]
    return run


def send_all(run: Run, now: int = 3 * SECOND) -> list[Tx]:
    """Everything that the window lets out, in one segment."""
    n = (run.state.write_seq - run.state.snd_nxt) & 0xFFFFFFFF
    return run.sent(Output(n=n, now=now, space=65535))


def woken(effects: Iterable[Any]) -> list[int]:
    """The poll masks with which waiters were woken."""
    return [x.poll for x in only(Wake, effects)]
