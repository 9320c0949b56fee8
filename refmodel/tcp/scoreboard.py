"""The sender's counts of what is out, SACKed, lost and retransmitted, and the marks they come from.

The law: each count is the sum over the retransmit queue of the segments with that mark. It is proved for a queue seen
as one skb with its marks and the rest of the queue as four sums, which any queue is; a step that marks the one skb
keeps the sums of the rest. So no order of marks lets a count drift, and no more leaves the network than went into it.
"""

from typing import Annotated, Any, ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import Event, Machine, Params, State, assume, invariant, machine, pure, require, rule, transition
from refmodel.types import Range

Effects = tuple[Any, ...]
SEGMENTS: Final = 1 << 24
Count = Annotated[int, Range(0, SEGMENTS)]
Total = Annotated[int, Range(0, 2 * SEGMENTS)]
Pcount = Annotated[int, Range(1, 1 << 16)]


class ScoreboardParams(Params, frozen=True):
    """Nothing is tunable."""

    kernel: int = 612


class Scoreboard(State, frozen=True):
    """The four counts, one skb (`pcount` segments, 0 once it is acknowledged) with its marks, and the rest's sums."""

    AT: ClassVar[str] = ""

    packets_out: Total = 0
    sacked_out: Total = 0
    lost_out: Total = 0
    retrans_out: Total = 0
    pcount: Annotated[int, Range(0, 1 << 16)] = 0
    sacked: bool = False  # TCPCB_SACKED_ACKED
    lost: bool = False  # TCPCB_LOST
    retrans: bool = False  # TCPCB_SACKED_RETRANS
    ever: bool = False  # TCPCB_EVER_RETRANS
    rest: Count = 0
    rest_sacked: Count = 0
    rest_lost: Count = 0
    rest_retrans: Count = 0


class SkbSent(Event, frozen=True):
    """The skb is sent for the first time."""

    n: Pcount = 1


class SkbSacked(Event, frozen=True):
    """A SACK block covers the skb."""


class SkbLost(Event, frozen=True):
    """RACK, the duplicate-ACK count or a timeout holds the skb for lost."""


class SkbRetransmitted(Event, frozen=True):
    """The skb is sent again."""


class SkbAcked(Event, frozen=True):
    """snd_una passes the skb."""


class SkbSplit(Event, frozen=True):
    """tcp_fragment cuts the skb: `n` segments of it go to the rest of the queue with the same marks."""

    n: Pcount = 1


class SackReneged(Event, frozen=True):
    """A timeout with the head SACKed: all SACK marks are forgotten."""


class RestChanges(Event, frozen=True):
    """Anything of the same kind happens to the rest of the queue: its sums are now these."""

    rest: Count = 0
    sacked: Count = 0
    lost: Count = 0
    retrans: Count = 0


@pure
def tcp_packets_in_flight(packets_out: int, sacked_out: int, lost_out: int, retrans_out: int) -> int:
    """Segments in the network as far as is known; source include/net/tcp.h:tcp_packets_in_flight."""
    return packets_out - (sacked_out + lost_out) + retrans_out


@pure
def counted(s: Scoreboard) -> Scoreboard:
    """The state with its counts taken from the marks."""
    n = s.pcount
    return replace(
        s,
        packets_out=s.rest + n,
        sacked_out=s.rest_sacked + (n if s.sacked else 0),
        lost_out=s.rest_lost + (n if s.lost else 0),
        retrans_out=s.rest_retrans + (n if s.retrans else 0),
    )


@rule("net/ipv4/tcp_output.c:tcp_event_new_data_sent")
def skb_sent(s: Scoreboard, e: SkbSent, p: ScoreboardParams) -> tuple[Scoreboard, Effects]:
    """A new skb is out."""
    return replace(
        s, packets_out=s.packets_out + e.n, pcount=e.n, sacked=False, lost=False, retrans=False, ever=False
    ), ()


@rule("net/ipv4/tcp_input.c:tcp_sacktag_one", "RFC 6675 4")
def skb_sacked(s: Scoreboard, e: SkbSacked, p: ScoreboardParams) -> tuple[Scoreboard, Effects]:
    """What is SACKed isn't lost; a retransmission of what wasn't lost (a probe) is believed to be out still."""
    repaired = not s.sacked and s.lost
    return replace(
        s,
        sacked=True,
        lost=False,
        retrans=s.retrans and not repaired,
        sacked_out=s.sacked_out + (0 if s.sacked else s.pcount),
        lost_out=s.lost_out - (s.pcount if repaired else 0),
        retrans_out=s.retrans_out - (s.pcount if repaired and s.retrans else 0),
    ), ()


@rule("net/ipv4/tcp_input.c:tcp_mark_skb_lost", "RFC 8985 6.2")
def skb_lost(s: Scoreboard, e: SkbLost, p: ScoreboardParams) -> tuple[Scoreboard, Effects]:
    """An skb that isn't SACKed is lost; if it was lost before, its retransmission is."""
    require(not s.sacked, "the skb isn't SACKed")
    return replace(
        s,
        lost=True,
        retrans=False if s.lost else s.retrans,
        lost_out=s.lost_out + (0 if s.lost else s.pcount),
        retrans_out=s.retrans_out - (s.pcount if s.lost and s.retrans else 0),
    ), ()


@rule("net/ipv4/tcp_input.c:tcp_mark_skb_lost")
def sacked_is_not_lost(s: Scoreboard, e: SkbLost, p: ScoreboardParams) -> tuple[Scoreboard, Effects]:
    """A SACKed skb is never held for lost."""
    require(s.sacked, "the skb is SACKed")
    return s, ()


@rule("net/ipv4/tcp_output.c:tcp_retransmit_skb", "RFC 6675 5")
def skb_retransmitted(s: Scoreboard, e: SkbRetransmitted, p: ScoreboardParams) -> tuple[Scoreboard, Effects]:
    """An skb that is sent again is out once more."""
    return replace(s, retrans=True, ever=True, retrans_out=s.retrans_out + (0 if s.retrans else s.pcount)), ()


@rule("net/ipv4/tcp_input.c:tcp_clean_rtx_queue")
def skb_acked(s: Scoreboard, e: SkbAcked, p: ScoreboardParams) -> tuple[Scoreboard, Effects]:
    """An acknowledged skb takes its marks along."""
    n = s.pcount
    return replace(
        s,
        pcount=0,
        sacked=False,
        lost=False,
        retrans=False,
        packets_out=s.packets_out - n,
        sacked_out=s.sacked_out - (n if s.sacked else 0),
        lost_out=s.lost_out - (n if s.lost else 0),
        retrans_out=s.retrans_out - (n if s.retrans else 0),
    ), ()


@rule("net/ipv4/tcp_output.c:tcp_fragment")
def skb_split(s: Scoreboard, e: SkbSplit, p: ScoreboardParams) -> tuple[Scoreboard, Effects]:
    """Both halves have the marks of the whole, and no count changes."""
    return replace(
        s,
        pcount=s.pcount - e.n,
        rest=s.rest + e.n,
        rest_sacked=s.rest_sacked + (e.n if s.sacked else 0),
        rest_lost=s.rest_lost + (e.n if s.lost else 0),
        rest_retrans=s.rest_retrans + (e.n if s.retrans else 0),
    ), ()


@rule("net/ipv4/tcp_input.c:tcp_timeout_mark_lost")
def sack_reneged(s: Scoreboard, e: SackReneged, p: ScoreboardParams) -> tuple[Scoreboard, Effects]:
    """A peer that forgot what it SACKed makes everything unSACKed and lost."""
    return counted(
        replace(s, sacked=False, retrans=False, lost=s.pcount != 0, rest_sacked=0, rest_lost=s.rest, rest_retrans=0)
    ), ()


@rule("net/ipv4/tcp_input.c:tcp_ack")
def rest_changes(s: Scoreboard, e: RestChanges, p: ScoreboardParams) -> tuple[Scoreboard, Effects]:
    """The rest of the queue has its own steps; the counts move by what changed there."""
    return replace(
        s,
        rest=e.rest,
        rest_sacked=e.sacked,
        rest_lost=e.lost,
        rest_retrans=e.retrans,
        packets_out=s.packets_out + e.rest - s.rest,
        sacked_out=s.sacked_out + e.sacked - s.rest_sacked,
        lost_out=s.lost_out + e.lost - s.rest_lost,
        retrans_out=s.retrans_out + e.retrans - s.rest_retrans,
    ), ()


@assume
def sent_once(s: Scoreboard, e: SkbSent) -> bool:
    """The one skb is sent when there is none."""
    return s.pcount == 0


@assume
def sacks_cover_something(s: Scoreboard, e: SkbSacked) -> bool:
    """A SACK block covers an skb that is in the queue."""
    return s.pcount != 0


@assume
def losses_are_of_something(s: Scoreboard, e: SkbLost) -> bool:
    """What is held for lost is in the queue."""
    return s.pcount != 0


@assume
def split_is_proper(s: Scoreboard, e: SkbSplit) -> bool:
    """Less than all is cut off, and the queue stays within bounds."""
    return e.n < s.pcount and s.rest + e.n <= SEGMENTS


@assume
def only_what_isnt_sacked_is_sent_again(s: Scoreboard, e: SkbRetransmitted) -> bool:
    """tcp_xmit_retransmit_queue passes over what is SACKed, and nothing is sent again that isn't there."""
    return s.pcount != 0 and not s.sacked


@assume
def the_rest_is_consistent(s: Scoreboard, e: RestChanges) -> bool:
    """In the rest, too, what is SACKed is not lost, and nothing is out again that isn't there."""
    return e.sacked + e.lost <= e.rest and e.retrans <= e.rest


@invariant()
def packets_out_is_the_sum(s: Scoreboard) -> bool:
    """packets_out counts every segment in the queue."""
    return s.packets_out == s.rest + s.pcount


@invariant()
def sacked_out_is_the_sum(s: Scoreboard) -> bool:
    """sacked_out counts the SACKed ones."""
    return s.sacked_out == s.rest_sacked + (s.pcount if s.sacked else 0)


@invariant()
def lost_out_is_the_sum(s: Scoreboard) -> bool:
    """lost_out counts the lost ones."""
    return s.lost_out == s.rest_lost + (s.pcount if s.lost else 0)


@invariant()
def retrans_out_is_the_sum(s: Scoreboard) -> bool:
    """retrans_out counts those that are out again."""
    return s.retrans_out == s.rest_retrans + (s.pcount if s.retrans else 0)


@invariant()
def marks_exclude_each_other(s: Scoreboard) -> bool:
    """What is SACKed isn't lost, and an skb that is gone has no marks."""
    return not (s.sacked and s.lost) and (s.pcount != 0 or not (s.sacked or s.lost or s.retrans))


@invariant()
def the_rest_excludes_too(s: Scoreboard) -> bool:
    """So it is in the rest of the queue."""
    return s.rest_sacked + s.rest_lost <= s.rest and s.rest_retrans <= s.rest


@invariant()
def left_out_is_out(s: Scoreboard) -> bool:
    """No more has left the network than went into it (tcp_verify_left_out)."""
    return s.sacked_out + s.lost_out <= s.packets_out


@invariant()
def in_flight_is_not_negative(s: Scoreboard) -> bool:
    """The number in flight is never negative, so that it can be compared with the window."""
    return tcp_packets_in_flight(s.packets_out, s.sacked_out, s.lost_out, s.retrans_out) >= 0


@transition(SkbLost)
def a_loss_frees_the_window(s: Scoreboard, e: SkbLost, t: Scoreboard) -> bool:
    """Holding something for lost never raises the number in flight."""
    before = tcp_packets_in_flight(s.packets_out, s.sacked_out, s.lost_out, s.retrans_out)
    return tcp_packets_in_flight(t.packets_out, t.sacked_out, t.lost_out, t.retrans_out) <= before


@transition(SkbSplit)
def splitting_counts_nothing(s: Scoreboard, e: SkbSplit, t: Scoreboard) -> bool:
    """Cutting an skb changes no count."""
    same = t.packets_out == s.packets_out and t.sacked_out == s.sacked_out
    return same and t.lost_out == s.lost_out and t.retrans_out == s.retrans_out


TCP_SCOREBOARD: Final = machine(
    Machine(
        name="tcp_scoreboard",
        title="TCP's counts of what is out",
        accepts={
            Scoreboard: (
                SkbSent,
                SkbSacked,
                SkbLost,
                SkbRetransmitted,
                SkbAcked,
                SkbSplit,
                SackReneged,
                RestChanges,
            )
        },
        params=ScoreboardParams,
        modules=(__name__,),
    )
)
