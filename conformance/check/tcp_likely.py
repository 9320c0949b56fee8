"""One end of a TCP connection for the narrow frontier: the questions of `TcpHalf` that have a short answer.

The law: a shortcut leaves out only what cannot be the explanation. An end in one of the OPEN states sends nothing whose
ACK is not its rcv_nxt or whose TSecr is not its ts_recent, and no hidden event changes these two; a segment in order is
acknowledged at its end or not at all.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from conformance.check.frontier import Arrival, Observation, Proposal
from conformance.check.known import SENDS
from conformance.check.tcp_half import ATO_MIN, TcpHalf
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, PSH, RST, SYN
from refmodel.rule import State
from refmodel.tcp.checks import receive_window, unsent
from refmodel.tcp.events import Output, Seg, Tx, Write
from refmodel.tcp.state import OPEN, TCP_RTO_MIN, Req, Sock, St
from refmodel.types import NEVER

PLAIN: Final = frozenset(OPEN)


class LikelyTcp(TcpHalf):
    """An end, with shortcuts for what nearly every segment is."""

    visible_types = frozenset((Tx,))

    def matches(self, effect: Any, seen: Observation) -> bool:
        """Whether the model's segment is the observed one."""
        x: Segment = seen.what
        t: Tx = effect
        flags = x.flags
        if t.syn or t.rst or flags & (SYN | RST):
            return not self.differs(effect, seen, Sock())
        return (
            t.seq == x.seq
            and t.len == x.len
            and (t.ack_seq if t.ack else 0) == x.ack_seq
            and t.ack == (flags & ACK != 0)
            and t.fin == (flags & FIN != 0)
            and min(t.win >> t.shift, 0xFFFF) == x.window
            and t.ts == (x.tsval is not None)
            and (not t.ts or t.tsecr == x.tsecr)
            and not (flags & PSH and not t.len)
        )

    def may_explain(self, state: State, seen: Observation) -> bool:
        """A closed end answers nothing with a SYN-ACK."""
        x: Segment = seen.what
        return not (type(state) is Sock and state.state == St.CLOSE and x.flags & (SYN | ACK | RST) == SYN | ACK)

    def may_send(self, state: State, seen: Observation) -> bool:
        """Whether the observed segment acknowledges and echoes what an open end would."""
        if type(state) is not Sock or state.state not in PLAIN:
            return True
        x: Segment = seen.what
        if x.flags & RST:
            return True
        return x.ack_seq == state.rcv_nxt and (not state.ts_ok or x.tsecr == state.ts_recent)

    def proposals(self, state: State, seen: Observation) -> Iterable[Proposal]:
        """Hidden events from which an end in `state` would send the observed segment; new data at once."""
        x: Segment = seen.what
        if (
            type(state) is not Sock
            or state.state not in PLAIN
            or not x.len
            or x.flags & (SYN | RST | FIN)
            or x.seq != state.snd_nxt
        ):
            return super().proposals(state, seen)
        now = seen.time
        out = Output(x.len, now, x.window << state.rcv_wscale)
        missing = x.len - unsent(state)
        if missing > 0:
            if not self.known.called(*SENDS, before=now):
                return ()
            return (Proposal((Write(missing, now), out), f"send() of {missing} bytes", 1),)
        return (Proposal((out,), "", 0),)

    def likely_inputs(self, state: State, arrival: Arrival, answered: Observation) -> Sequence[Proposal]:
        """The segment that ends a handshake, in good order; else `useful_inputs`."""
        a: Segment = arrival.what
        x: Segment = answered.what
        if not x.flags & (SYN | RST) and (
            type(state) is Req or (type(state) is Sock and state.state == St.SYN_SENT and a.flags & SYN and not x.len)
        ):
            return (Proposal((self.seg(state, a, x),), "", 0),)
        return self.useful_inputs(state, arrival, answered)

    def useful_inputs(self, state: State, arrival: Arrival, answered: Observation) -> Sequence[Proposal]:
        """A segment in order, answered only if the observed one acknowledges just that, and put off otherwise."""
        a: Segment = arrival.what
        x: Segment = answered.what
        if (
            type(state) is not Sock
            or state.state not in PLAIN
            or state.ofo
            or (a.flags | x.flags) & (SYN | RST)
            or a.seq != state.rcv_nxt
        ):
            return self.inputs(state, arrival, answered)
        put_off = Proposal((self._plain(state, a, None),), "", 0)
        if x.len or x.flags & FIN or x.ack_seq not in (state.rcv_nxt, a.end_seq):
            return (put_off,)
        return Proposal((self._plain(state, a, x),), "", 0), put_off

    def deadline(self, state: State) -> int:
        """When the first timer must have fired (us)."""
        if type(state) is Sock:
            if not state.ack_sched and state.state not in (St.SYN_SENT, St.SYN_RECV):
                return NEVER
        elif type(state) is not Req:
            return NEVER
        return min((t.latest for t in self.timers(state)), default=NEVER)

    def seg(self, state: State, a: Segment, answered: Segment | None, **given: Any) -> Seg:
        """The event that `a` is to an end in `state`; what memory allows is read off `answered`."""
        if given or a.flags & SYN or type(state) is not Sock or (answered is not None and answered.flags & SYN):
            return super().seg(state, a, answered, **given)
        return self._plain(state, a, answered)

    def _plain(self, s: Sock, a: Segment, answered: Segment | None) -> Seg:
        """`seg` of a segment without SYN to a full socket, answered by one without SYN."""
        now = a.time // 1000
        flags = a.flags
        if answered is not None:
            space = answered.window << s.rcv_wscale
        else:
            space = max(receive_window(s) - a.len, 0)
        base = self.ts_base
        return Seg(
            a.seq,
            a.ack_seq,
            a.len,
            False,
            flags & ACK != 0,
            flags & RST != 0,
            flags & FIN != 0,
            a.window << s.snd_wscale,
            a.tsval is not None,
            a.tsval or 0,
            a.tsecr or 0,
            0,
            False,
            0,
            False,
            now,
            now // 1_000_000,
            0 if base is None else (base[1] + (now - base[0]) // 1000 + 20) & 0xFFFFFFFF,
            space,
            True,
            answered is not None,
            False,
            ATO_MIN,
            TCP_RTO_MIN,
        )
