"""The TCP tracker: what each segment does to the connection that it is taken to belong to.

The law: `act` goes through nf_conntrack_tcp_packet in its order and says which one of the outcomes it is; each rule is
one outcome. A segment is accepted, let through without being believed, or INVALID; the tracker itself drops nothing
(a ruleset may).
"""

from enum import IntEnum
from typing import Final

from msgspec.structs import replace

from refmodel.netfilter.params import SECOND, TcpCtParams
from refmodel.netfilter.tcp_state import (
    Ct,
    CtTcp,
    Idx,
    Invalid,
    Kill,
    Let,
    Refresh,
    Reopen,
    Segment,
    Side,
    in_table,
)
from refmodel.netfilter.tcp_window import (
    Ends,
    Win,
    least_one,
    liberal,
    numbers,
    overshot,
    prepared,
    tcp_in_window,
    tcp_options,
    updated,
)
from refmodel.rule import Effect, Machine, assume, machine, pure, require, rule
from refmodel.types import before

PACKET: Final = "net/netfilter/nf_conntrack_proto_tcp.c:nf_conntrack_tcp_packet"
CLOSING: Final = (Ct.FIN_WAIT, Ct.LAST_ACK, Ct.TIME_WAIT, Ct.CLOSE, Ct.CLOSE_WAIT)
TRACKED: Final = tuple(c for c in Ct if Ct.SYN_SENT <= c <= Ct.SYN_SENT2)
MINUTES_2: Final = 120 * SECOND


class Act(IntEnum):
    """What becomes of a segment."""

    NEW_REFUSED = 0
    REOPEN = 1
    IGNORE = 2
    INVALID = 3
    CHALLENGE = 4
    RST_INVALID = 5
    BELIEVED = 6  # in_window without being checked
    WINDOW = 7  # as tcp_in_window says


@pure
def tcp_established(s: CtTcp) -> bool:
    """Source include/net/netfilter/nf_conntrack_l4proto.h:nf_conntrack_tcp_established."""
    return s.state == Ct.ESTABLISHED and s.assured


@pure
def resync(s: CtTcp, e: Segment) -> bool:
    """A SYN-ACK answers a SYN that was let through and not believed: both ends are in step, the tracker is not."""
    return (
        in_table(s, e) == Ct.IGNORE
        and e.index == Idx.SYNACK
        and s.last_index == Idx.SYN
        and s.last_reply != e.reply
        and e.ack_seq == s.last_end
    )


@pure
def reset_side(side: Side) -> Side:
    """Nothing is known of an end any more; source net/netfilter/nf_conntrack_proto_tcp.c:nf_ct_tcp_state_reset."""
    return Side(be_liberal=side.be_liberal)


@pure
def noted_side(s: CtTcp) -> Side:
    """The end that sent the SYN which was let through, from what was noted of it."""
    return Side(
        td_end=s.last_end,
        td_maxend=s.last_end,
        td_maxwin=least_one(s.last_win),
        td_scale=s.last_wscale,
        window_scale=s.last_window_scale,
        sack_perm=s.last_sack_perm,
    )


@pure
def tcp_new(e: Segment) -> tuple[Side, Side]:
    """The first segment makes an entry: a SYN, or one from the middle; source nf_conntrack_proto_tcp.c:tcp_new."""
    win = least_one(e.win)
    start = Side(td_end=e.end, td_maxwin=win, td_maxend=e.end if e.index == Idx.SYN else (e.end + win) & 0xFFFFFFFF)
    middle = e.index != Idx.SYN
    first = tcp_options(start, e)
    return (
        replace(
            start,
            td_scale=0 if middle else first.td_scale,
            window_scale=False if middle else first.window_scale,
            sack_perm=middle or first.sack_perm,
            be_liberal=middle,
        ),
        Side(sack_perm=middle, be_liberal=middle),
    )


@pure
def ends(s: CtTcp, e: Segment) -> Ends:
    """Sender and receiver as the checks find them."""
    if s.state == Ct.NONE:
        new = tcp_new(e)
        return Ends(new[0], new[1])
    if resync(s, e):
        return Ends(reset_side(s.repl if e.reply else s.orig), noted_side(s))
    return Ends(s.repl, s.orig) if e.reply else Ends(s.orig, s.repl)


@pure
def answers_noted(s: CtTcp, e: Segment) -> bool:
    """A reset that answers a SYN or an ACK which was let through and not believed."""
    return (
        (s.seen_reply and s.last_index == Idx.SYN and s.last_reply != e.reply)
        or (not s.assured and s.last_index == Idx.ACK)
    ) and e.ack_seq == s.last_end


@pure
def answers_challenge(s: CtTcp, e: Segment) -> bool:
    """A reset that answers a challenge ACK which was let through."""
    return s.state == Ct.SYN_SENT and s.last_index == Idx.ACK and s.last_reply and e.seq == s.last_ack


@pure
def peer(s: CtTcp, e: Segment) -> Side:
    """The end that a segment goes to."""
    return s.orig if e.reply else s.repl


@pure
def rst_judged(s: CtTcp, e: Segment) -> bool:
    """A reset is held against what its receiver acknowledged."""
    return peer(s, e).maxack_set and s.last_index != Idx.SYN and not (e.seq == 0 and not tcp_established(s))


@pure
def rst_exact(s: CtTcp, e: Segment) -> bool:
    """A judged reset that closes: not ESTABLISHED, exact, or the last of a train."""
    return (
        not tcp_established(s)
        or e.seq == peer(s, e).td_maxack
        or (s.last_index == Idx.ACK and s.last_reply == e.reply and e.seq == s.last_end)
    )


@pure
def rst_act(s: CtTcp, e: Segment, p: TcpCtParams) -> Act:
    """A reset; source net/netfilter/nf_conntrack_proto_tcp.c:nf_conntrack_tcp_packet."""
    if s.state in CLOSING:
        return Act.BELIEVED
    if rst_judged(s, e) and before(e.seq, peer(s, e).td_maxack) and not p.tcp_ignore_invalid_rst:
        return Act.RST_INVALID
    if peer(s, e).maxack_set and s.last_index != Idx.SYN and not (rst_judged(s, e) and not rst_exact(s, e)):
        return Act.WINDOW
    return Act.BELIEVED if answers_noted(s, e) or answers_challenge(s, e) else Act.WINDOW


@pure
def act(s: CtTcp, e: Segment, p: TcpCtParams) -> Act:
    """The kernel's order of decisions."""
    new = in_table(s, e)
    if s.state == Ct.NONE:
        return Act.NEW_REFUSED if new == Ct.MAX or (new == Ct.ESTABLISHED and not p.tcp_loose) else Act.WINDOW
    if new == Ct.SYN_SENT and s.state in (Ct.TIME_WAIT, Ct.CLOSE):
        again = s.orig.close_init or s.repl.close_init or (s.last_reply == e.reply and s.last_index == Idx.RST)
        return Act.REOPEN if again else Act.IGNORE
    if new == Ct.IGNORE:
        return Act.WINDOW if resync(s, e) else Act.IGNORE
    if new == Ct.MAX:
        return Act.INVALID
    if new == Ct.TIME_WAIT:
        challenge = (
            s.state == Ct.LAST_ACK
            and e.index == Idx.ACK
            and s.last_reply != e.reply
            and s.last_index == Idx.SYN
            and s.exp_challenge_ack
        )
        return Act.CHALLENGE if challenge else Act.WINDOW
    if new == Ct.CLOSE and e.index == Idx.RST:
        return rst_act(s, e, p)
    return Act.WINDOW


@pure
def next_state(s: CtTcp, e: Segment) -> Ct:
    """The state after a segment that is accepted."""
    new = in_table(s, e)
    if resync(s, e):
        return Ct.SYN_RECV
    if new == Ct.SYN_RECV and e.reply and e.index == Idx.ACK and s.simultaneous_open:
        return Ct.ESTABLISHED
    kept = e.index == Idx.RST and s.state not in CLOSING and rst_judged(s, e) and not rst_exact(s, e)
    return s.state if kept else new


@pure
def timeout_of(c: Ct, p: TcpCtParams) -> int:
    """The time that a state may be silent, in us."""
    return (
        p.syn_sent if c == Ct.SYN_SENT
        else p.syn_recv if c == Ct.SYN_RECV
        else p.established if c == Ct.ESTABLISHED
        else p.fin_wait if c == Ct.FIN_WAIT
        else p.close_wait if c == Ct.CLOSE_WAIT
        else p.last_ack if c == Ct.LAST_ACK
        else p.time_wait if c == Ct.TIME_WAIT
        else p.close if c == Ct.CLOSE
        else MINUTES_2
    )  # fmt: skip


@pure
def old_state(s: CtTcp, e: Segment) -> Ct:
    """The state before, which a resynchronisation takes to be SYN_SENT."""
    return Ct.SYN_SENT if resync(s, e) else s.state


@pure
def assures(s: CtTcp, e: Segment) -> bool:
    """Traffic both ways and a valid ACK in ESTABLISHED: the entry is not to be dropped early."""
    return s.seen_reply and old_state(s, e) in (Ct.SYN_RECV, Ct.ESTABLISHED) and next_state(s, e) == Ct.ESTABLISHED


@pure
def timeout(s: CtTcp, t: CtTcp, e: Segment, p: TcpCtParams) -> int:
    """How long the entry lives now, in us; `t` is the connection with the segment entered.

    After a reset that leaves ESTABLISHED alone 6.12 (seen in 6.12.117) waits for an answer as long as for data; 6.1 and
    6.18 (seen in 6.18.44) only as long as in CLOSE.
    """
    full = timeout_of(t.state, p)
    silent = full > p.unacknowledged
    rst = (
        p.unacknowledged if e.index == Idx.RST and t.state == Ct.ESTABLISHED and silent and p.kernel == 612
        else p.close if e.index == Idx.RST and p.kernel != 612
        else -1
    )  # fmt: skip
    base = (
        p.max_retrans_timeout if t.retrans >= p.tcp_max_retrans and full > p.max_retrans_timeout
        else rst if rst != -1
        else p.unacknowledged if (t.orig.data_unacknowledged or t.repl.data_unacknowledged) and silent
        else p.max_retrans_timeout if t.last_win == 0 and full > p.max_retrans_timeout
        else full
    )  # fmt: skip
    return min(base, p.unacknowledged) if not s.seen_reply and t.state == Ct.ESTABLISHED else base


@pure
def same_as_last(s: CtTcp, seq: int, end: int, ack: int, e: Segment) -> bool:
    """A bare repetition of the last ACK."""
    return (
        s.last_reply == e.reply
        and s.last_seq == seq
        and s.last_ack == ack
        and s.last_end == end
        and s.last_win == e.win
    )


@pure
def placed(s: CtTcp, n: Ends, e: Segment) -> CtTcp:
    """The two ends back at their places."""
    return replace(s, orig=n.rcv if e.reply else n.snd, repl=n.snd if e.reply else n.rcv)


@pure
def counted(s: CtTcp, n: Ends, e: Segment, within: bool) -> CtTcp:
    """An ACK within the bounds is compared with the last one: retransmissions are counted (in 8 bits)."""
    q = numbers(s, n, prepared(s, n, e), e)
    again = same_as_last(s, q.seq, q.end, q.ack, e)
    ack = within and e.index == Idx.ACK
    return replace(
        s,
        retrans=s.retrans if not ack else (s.retrans + 1) & 0xFF if again else 0,
        last_seq=q.seq if ack else s.last_seq,
        last_ack=q.ack if ack else s.last_ack,
        last_end=q.end if ack else s.last_end,
        last_win=e.win if ack else s.last_win,
    )


@pure
def moved(n: Ends, s: CtTcp, e: Segment, p: TcpCtParams) -> Ends:
    """The ends after tcp_in_window has accepted."""
    m = prepared(s, n, e)
    said = tcp_in_window(s, n, e)
    if said == Win.ACCEPT:
        return updated(m, numbers(s, n, m, e), e)
    return overshot(m, numbers(s, n, m, e)) if said == Win.OVERSHOT else m


@pure
def entered(c: CtTcp, n: Ends, s: CtTcp, e: Segment) -> CtTcp:
    """in_window: the segment is the last one, and the state is the new one. `c` has its numbers, `s` is from before."""
    new = next_state(s, e)
    begins = old_state(s, e) != new and new == Ct.FIN_WAIT
    snd = replace(n.snd, close_init=n.snd.close_init or begins)
    t = placed(c, Ends(snd, n.rcv), e)
    return replace(
        t,
        state=new,
        last_index=e.index,
        last_reply=e.reply,
        simultaneous_open=s.simultaneous_open or in_table(s, e) == Ct.SYN_SENT2,
        exp_challenge_ack=s.exp_challenge_ack and not resync(s, e),
        seen_reply=s.seen_reply or e.reply,
        assured=s.assured or assures(s, e),
    )


@pure
def accepts(s: CtTcp, e: Segment, p: TcpCtParams) -> bool:
    """The window tracking is asked and says yes, or is liberal."""
    if act(s, e, p) != Act.WINDOW:
        return False
    n = ends(s, e)
    return tcp_in_window(s, n, e) in (Win.ACCEPT, Win.EARLY) or liberal(n, p)


@pure
def said_no(s: CtTcp, e: Segment, p: TcpCtParams) -> bool:
    """The window tracking is asked and isn't content."""
    return act(s, e, p) == Act.WINDOW and not accepts(s, e, p)


@pure
def ignored_by_window(s: CtTcp, e: Segment) -> bool:
    """The window tracking lets it through: too old, acknowledging too late, or a little too far ahead."""
    return tcp_in_window(s, ends(s, e), e) in (Win.OVERSHOT, Win.SEQ_UNDER, Win.ACK_UNDER)


@pure
def not_entered(s: CtTcp, e: Segment, p: TcpCtParams) -> CtTcp:
    """What a segment that isn't accepted leaves behind all the same: an entered sender, a resynchronisation."""
    return replace(
        placed(s, moved(ends(s, e), s, e, p), e),
        simultaneous_open=s.simultaneous_open or in_table(s, e) == Ct.SYN_SENT2,
        exp_challenge_ack=s.exp_challenge_ack and not resync(s, e),
    )


@pure
def closing_pair(s: CtTcp, e: Segment) -> bool:
    """A FIN or reset out of the window after one from the other end."""
    return s.last_reply != e.reply and s.last_index in (Idx.FIN, Idx.RST)


@pure
def handles(s: CtTcp, e: Segment) -> bool:
    """A FIN or reset of an assured connection is remembered though it is INVALID."""
    return s.assured and not e.fixed and e.index in (Idx.RST, Idx.FIN)


@rule(PACKET, "net/netfilter/nf_conntrack_proto_tcp.c:tcp_new", at=Ct.NONE)
def tcp_packet_new_refused(s: CtTcp, e: Segment, p: TcpCtParams) -> tuple[CtTcp, tuple[Effect, ...]]:
    """A segment that begins nothing makes no entry: not a SYN, nor an ACK that may be picked up."""
    require(act(s, e, p) == Act.NEW_REFUSED, "a first segment that is neither a SYN nor a loose ACK")
    return s, (Invalid(),)


@rule(PACKET, "net/netfilter/nf_conntrack_proto_tcp.c:tcp_in_window", at=(Ct.NONE, *TRACKED))
def tcp_packet_accepted(s: CtTcp, e: Segment, p: TcpCtParams) -> tuple[CtTcp, tuple[Effect, ...]]:
    """A segment within the bounds is believed: it moves them, and the state with them."""
    require(accepts(s, e, p), "the table has a state for it and the window tracking accepts it")
    n = ends(s, e)
    within = tcp_in_window(s, n, e) == Win.ACCEPT
    t = entered(counted(s, n, e, within), moved(n, s, e, p), s, e)
    if not s.seen_reply and e.index == Idx.RST:
        return t, (Kill(),)
    if not s.seen_reply and e.index == Idx.SYN and old_state(s, e) == Ct.SYN_SENT:
        return t, (Let(),)
    return t, (Refresh(timeout=timeout(s, t, e, p)),)


@rule(PACKET, at=TRACKED)
def tcp_packet_believed(s: CtTcp, e: Segment, p: TcpCtParams) -> tuple[CtTcp, tuple[Effect, ...]]:
    """A reset of a closing connection, or of one that was never in step, closes without a look at the window."""
    require(act(s, e, p) == Act.BELIEVED, "a reset that needs no check")
    t = entered(s, ends(s, e), s, e)
    if not s.seen_reply:
        return t, (Kill(),)
    return t, (Refresh(timeout=timeout(s, t, e, p)),)


@rule(PACKET, "RFC 5961 4", at=TRACKED)
def tcp_packet_ignored(s: CtTcp, e: Segment, p: TcpCtParams) -> tuple[CtTcp, tuple[Effect, ...]]:
    """A segment that may be right if the tracker is out of step is let through, and noted for what may answer it."""
    require(act(s, e, p) == Act.IGNORE, "the table ignores it")
    first = e.index == Idx.SYN and not e.reply
    t = replace(
        s,
        last_index=e.index,
        last_reply=e.reply,
        last_seq=e.seq,
        last_end=e.end,
        last_win=e.win,
        last_wscale=e.scale if first else s.last_wscale,
        last_window_scale=e.window_scale if first else s.last_window_scale,
        last_sack_perm=e.sack_perm if first else s.last_sack_perm,
        exp_challenge_ack=s.state == Ct.LAST_ACK if first else s.exp_challenge_ack,
        simultaneous_open=s.simultaneous_open and not first,
        last_ack=e.ack_seq if s.state == Ct.SYN_SENT and e.index == Idx.ACK and e.reply else s.last_ack,
        seen_reply=s.seen_reply or e.reply,
    )
    return t, (Let(),)


@rule(PACKET, "RFC 5961 4", at=Ct.LAST_ACK)
def tcp_packet_challenge_ack(s: CtTcp, e: Segment, p: TcpCtParams) -> tuple[CtTcp, tuple[Effect, ...]]:
    """An ACK that answers a SYN in LAST_ACK is a challenge, and not the last ACK."""
    require(act(s, e, p) == Act.CHALLENGE, "an ACK against the SYN that was let through in LAST_ACK")
    return replace(s, exp_challenge_ack=False, seen_reply=s.seen_reply or e.reply), (Let(),)


@rule(PACKET, "RFC 1122 4.2.2.13", at=(Ct.TIME_WAIT, Ct.CLOSE))
def tcp_packet_reopened(s: CtTcp, e: Segment, p: TcpCtParams) -> tuple[CtTcp, tuple[Effect, ...]]:
    """A SYN on a closed connection begins a new one: the entry is deleted, and the segment looked up again."""
    require(act(s, e, p) == Act.REOPEN, "a SYN after a close that was seen")
    return s, (Reopen(),)


@rule(PACKET, at=TRACKED)
def tcp_packet_invalid(s: CtTcp, e: Segment, p: TcpCtParams) -> tuple[CtTcp, tuple[Effect, ...]]:
    """A segment that no end would send in this state, or a reset below what was acknowledged, is INVALID."""
    require(act(s, e, p) in (Act.INVALID, Act.RST_INVALID), "the table calls it invalid, or the reset is old")
    return s, (Invalid(),)


@rule(PACKET, "net/netfilter/nf_conntrack_proto_tcp.c:tcp_in_window", at=TRACKED)
def tcp_packet_window_ignored(s: CtTcp, e: Segment, p: TcpCtParams) -> tuple[CtTcp, tuple[Effect, ...]]:
    """A segment that its receiver may answer though it is outside the bounds is let through."""
    require(said_no(s, e, p) and ignored_by_window(s, e), "outside the bounds, but harmless")
    return replace(not_entered(s, e, p), seen_reply=s.seen_reply or e.reply), (Let(),)


@rule(PACKET, "net/netfilter/nf_conntrack_proto_tcp.c:nf_tcp_handle_invalid", at=TRACKED)
def tcp_packet_window_invalid(s: CtTcp, e: Segment, p: TcpCtParams) -> tuple[CtTcp, tuple[Effect, ...]]:
    """A segment beyond the window, or that acknowledges what was not sent, is INVALID; two FINs age the entry."""
    require(said_no(s, e, p) and not ignored_by_window(s, e), "beyond the window or acknowledging the unseen")
    noted = handles(s, e) and not closing_pair(s, e)
    t = not_entered(s, e, p)
    t = replace(t, last_index=e.index if noted else s.last_index, last_reply=e.reply if noted else s.last_reply)
    lowered = handles(s, e) and closing_pair(s, e) and e.expires >= MINUTES_2 and e.expires > p.unacknowledged
    return t, (Invalid(lowered=lowered),)


@assume
def flags_are_valid(e: Segment) -> bool:
    """Flags are a valid combination (tcp_error): of all kinds only a reset may lack or have the ACK bit."""
    return e.index != Idx.NONE and (e.index == Idx.RST or e.ack == (e.index != Idx.SYN))


@assume
def options_are_options(e: Segment) -> bool:
    """What options say is there only if options are."""
    return (e.options or not (e.window_scale or e.sack_perm)) and (e.window_scale or e.scale == 0)


@assume
def length_fits(e: Segment) -> bool:
    """A segment is no longer than an IP packet, with its SYN or FIN."""
    return ((e.end - e.seq) & 0xFFFFFFFF) <= 0x10000


@assume
def first_is_original(s: CtTcp, e: Segment) -> bool:
    """The segment that makes an entry defines its direction."""
    return s.state != Ct.NONE or not e.reply


@assume
def sack_is_ahead(e: Segment) -> bool:
    """A SACK edge counts only ahead of the acknowledgement."""
    return e.sack == e.ack_seq or ((e.sack - e.ack_seq) & 0xFFFFFFFF) < 0x80000000


CONNTRACK_TCP: Final = machine(
    Machine(
        name="conntrack_tcp",
        title="The TCP connection tracker",
        accepts={CtTcp: (Segment,)},
        params=TcpCtParams,
        modules=(
            "refmodel.netfilter.tcp_state",
            "refmodel.netfilter.tcp_window",
            "refmodel.netfilter.tcp",
            "refmodel.netfilter.tcp_properties",
        ),
        initial=(CtTcp(),),
    )
)
