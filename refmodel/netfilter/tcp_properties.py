"""What holds of every tracked TCP connection and of every step, each in one sentence."""

from refmodel.netfilter.params import TcpCtParams
from refmodel.netfilter.tcp import timeout_of
from refmodel.netfilter.tcp_state import Ct, CtTcp, Idx, Invalid, Refresh, Reopen, Segment, Side
from refmodel.rule import Effect, invariant, pure, transition
from refmodel.types import add, before


@invariant(at=(Ct.MAX, Ct.IGNORE))
def no_such_state(s: CtTcp) -> bool:
    """The table's marks are no states."""
    return False


@invariant()
def assured_was_answered(s: CtTcp) -> bool:
    """Only a connection that was seen both ways is ASSURED."""
    return s.seen_reply or not s.assured


@invariant()
def scale_was_offered(s: CtTcp) -> bool:
    """A window is scaled only by an end that offered it."""
    return (s.orig.td_scale == 0 or s.orig.window_scale) and (s.repl.td_scale == 0 or s.repl.window_scale)


@invariant()
def noted_scale_was_offered(s: CtTcp) -> bool:
    """So is the scale that was noted of a SYN let through."""
    return s.last_wscale == 0 or s.last_window_scale


@invariant(at=(Ct.NONE, Ct.SYN_SENT, Ct.SYN_RECV, Ct.ESTABLISHED, Ct.SYN_SENT2))
def open_has_no_closer(s: CtTcp) -> bool:
    """Nobody has begun to close a connection that is open."""
    return not s.orig.close_init and not s.repl.close_init


@invariant(
    at=(Ct.FIN_WAIT, Ct.CLOSE_WAIT, Ct.LAST_ACK, Ct.TIME_WAIT),
    falsified="a SYN-ACK that answers a SYN let through wipes what was known before its SACK edge is found impossible",
)
def closing_has_closer(s: CtTcp) -> bool:
    """Somebody has begun to close a connection that is closing."""
    return s.orig.close_init or s.repl.close_init


@invariant(at=Ct.NONE)
def nothing_is_known(s: CtTcp) -> bool:
    """Nothing is known of a connection before its first segment."""
    return s == CtTcp()


@invariant(at=(Ct.SYN_SENT2,))
def crossed_is_marked(s: CtTcp) -> bool:
    """SYNs that crossed are marked, since the table can't tell them from a handshake."""
    return s.simultaneous_open


@transition(Segment)
def not_believed_changes_no_state(s: CtTcp, e: Segment, t: CtTcp, effects: tuple[Effect, ...], p: TcpCtParams) -> bool:
    """A segment that is INVALID or only let through leaves the state alone, but for a repeated SYN."""
    return t.state == s.state or not any(isinstance(x, (Invalid, Reopen)) for x in effects)


@transition(Segment)
def time_wait_after_last_ack(s: CtTcp, e: Segment, t: CtTcp) -> bool:
    """TIME_WAIT is reached from LAST_ACK alone, and by an ACK that is no challenge."""
    return t.state != Ct.TIME_WAIT or s.state == Ct.TIME_WAIT or (s.state == Ct.LAST_ACK and e.index == Idx.ACK)


@transition(Segment)
def established_after_handshake(s: CtTcp, e: Segment, t: CtTcp, effects: tuple[Effect, ...], p: TcpCtParams) -> bool:
    """ESTABLISHED is reached through SYN_RECV, or by a pick-up that tcp_loose allows."""
    return t.state != Ct.ESTABLISHED or s.state in (Ct.ESTABLISHED, Ct.SYN_RECV) or (s.state == Ct.NONE and p.tcp_loose)


@transition(Segment)
def reset_never_opens(s: CtTcp, e: Segment, t: CtTcp) -> bool:
    """A reset closes or changes nothing."""
    return e.index != Idx.RST or t.state in (s.state, Ct.CLOSE)


@transition(Segment)
def one_packet_never_answers(s: CtTcp, e: Segment, t: CtTcp) -> bool:
    """Packets of one direction never make a connection that was seen both ways."""
    return e.reply or t.seen_reply == s.seen_reply


@transition(Segment)
def lives_no_longer_than_state(s: CtTcp, e: Segment, t: CtTcp, effects: tuple[Effect, ...], p: TcpCtParams) -> bool:
    """No entry gets more time than its state's, but for a reset where CLOSE is long (6.1, 6.18)."""
    return p.kernel != 612 or all(x.timeout <= timeout_of(t.state, p) for x in effects if isinstance(x, Refresh))


@transition(Segment)
def assured_stays(s: CtTcp, e: Segment, t: CtTcp) -> bool:
    """ASSURED is never taken back."""
    return t.assured or not s.assured


@pure
def strict(s: CtTcp, e: Segment, p: TcpCtParams) -> bool:
    """The sender's segments are held against the bounds."""
    return not p.tcp_be_liberal and not (s.repl.be_liberal if e.reply else s.orig.be_liberal)


@pure
def receiver(t: CtTcp, e: Segment) -> Side:
    """The end that a segment goes to."""
    return t.orig if e.reply else t.repl


@pure
def sender(t: CtTcp, e: Segment) -> Side:
    """The end that a segment comes from."""
    return t.repl if e.reply else t.orig


@transition(Segment, at=(Ct.SYN_RECV, Ct.ESTABLISHED, Ct.FIN_WAIT, Ct.CLOSE_WAIT, Ct.LAST_ACK, Ct.TIME_WAIT))
def accepted_acks_what_was_sent(s: CtTcp, e: Segment, t: CtTcp, effects: tuple[Effect, ...], p: TcpCtParams) -> bool:
    """What an accepted segment acknowledges, by ACK or SACK, was seen to be sent."""
    return (
        not strict(s, e, p)
        or e.index not in (Idx.ACK, Idx.FIN)
        or not any(isinstance(x, Refresh) for x in effects)
        or before(e.sack if receiver(s, e).sack_perm else e.ack_seq, add(receiver(t, e).td_end, 1))
    )


@transition(Segment, at=(Ct.SYN_RECV, Ct.ESTABLISHED, Ct.FIN_WAIT, Ct.CLOSE_WAIT, Ct.LAST_ACK, Ct.TIME_WAIT))
def accepted_lies_in_window(s: CtTcp, e: Segment, t: CtTcp, effects: tuple[Effect, ...], p: TcpCtParams) -> bool:
    """An accepted segment begins no later than its receiver's window ends, once both ends were seen."""
    return (
        not strict(s, e, p)
        or e.index not in (Idx.ACK, Idx.FIN)
        or sender(s, e).td_maxwin == 0
        or not any(isinstance(x, Refresh) for x in effects)
        or before(e.seq, add(sender(s, e).td_maxend, 1))
    )


@invariant(at=(Ct.SYN_RECV, Ct.ESTABLISHED), falsified="td_maxwin grows by what is sent beyond td_maxend, in 32 bits")
def opener_has_window(s: CtTcp) -> bool:
    """The end that opened has a window, so its segments are held against it."""
    return s.orig.td_maxwin != 0
