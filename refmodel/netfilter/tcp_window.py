"""Window tracking from the middle of a connection: is a segment one that its receiver would look at?

Four bounds, all guessed from what passed (`snd` sent the segment, `rcv` is its receiver):

    seq <= snd.td_maxend                       not beyond the receiver's window
    end >= snd.td_end - rcv.td_maxwin          not before all that the receiver might still want
    sack <= rcv.td_end                         acknowledges only what was sent
    sack >= rcv.td_end - max(snd.td_maxwin, 66000)   and not too late
"""

from enum import IntEnum

from msgspec import Struct
from msgspec.structs import replace

from refmodel.netfilter.params import TcpCtParams
from refmodel.netfilter.tcp_state import MAXACKWINCONST, Ct, CtTcp, Idx, Segment, Side
from refmodel.rule import pure
from refmodel.types import M32, add, after, before, u32


class Ends(Struct, frozen=True):
    """Both ends as one segment sees them: `snd` sent it, `rcv` gets it."""

    snd: Side
    rcv: Side


class Numbers(Struct, frozen=True):
    """A segment's numbers as tcp_in_window uses them."""

    seq: u32
    end: u32
    ack: u32
    sack: u32


class Win(IntEnum):
    """What tcp_in_window says."""

    ACCEPT = 0
    EARLY = 1  # accepted before any check: the first SYN of a simultaneous open
    OVERSHOT = 2  # a little more than the window: ignored, but remembered
    SEQ_OVER = 3
    ACK_OVER = 4
    SEQ_UNDER = 5
    ACK_UNDER = 6


@pure
def syn(e: Segment) -> bool:
    """The SYN bit is set, in a segment that is no reset."""
    return e.index in (Idx.SYN, Idx.SYNACK)


@pure
def least_one(win: int) -> int:
    """A window of zero counts as one."""
    return 1 if win == 0 else win


@pure
def tcp_options(side: Side, e: Segment) -> Side:
    """A SYN's options; without any, what was known stays; source net/netfilter/nf_conntrack_proto_tcp.c:tcp_options."""
    return replace(
        side,
        td_scale=e.scale if e.options else side.td_scale,
        window_scale=e.window_scale if e.options else side.window_scale,
        sack_perm=e.sack_perm if e.options else side.sack_perm,
        close_init=side.close_init and not e.options,
        data_unacknowledged=side.data_unacknowledged and not e.options,
        maxack_set=side.maxack_set and not e.options,
    )


@pure
def tcp_init_sender(n: Ends, e: Segment) -> Ends:
    """A SYN tells all of its sender; source net/netfilter/nf_conntrack_proto_tcp.c:tcp_init_sender, RFC 7323 2.2."""
    snd = tcp_options(replace(n.snd, td_end=e.end, td_maxend=e.end, td_maxwin=least_one(e.win)), e)
    unscaled = e.reply and not (snd.window_scale and n.rcv.window_scale)
    return Ends(
        replace(snd, td_scale=0 if unscaled else snd.td_scale),
        replace(n.rcv, td_scale=0 if unscaled else n.rcv.td_scale),
    )


@pure
def scaled(snd: Side, e: Segment) -> int:
    """The window in bytes; source net/netfilter/nf_conntrack_proto_tcp.c:tcp_in_window, RFC 7323 2.3."""
    return e.win << snd.td_scale


@pure
def picked_up(n: Ends, e: Segment, sack: int) -> Ends:
    """The sender's first segment is none of a handshake: what it says is believed."""
    win = least_one(scaled(n.snd, e))
    unseen = n.rcv.td_maxwin == 0
    keepalive = not unseen and sack == add(n.rcv.td_end, 1)
    return Ends(
        replace(n.snd, td_end=e.end, td_maxwin=win, td_maxend=add(e.end, win)),
        replace(
            n.rcv,
            td_end=sack if unseen or keepalive else n.rcv.td_end,
            td_maxend=sack if unseen else n.rcv.td_maxend,
        ),
    )


@pure
def raw_sack(n: Ends, e: Segment) -> int:
    """The highest SACK edge counts if the receiver of this segment permitted SACK."""
    return e.sack if n.rcv.sack_perm else e.ack_seq


@pure
def inits(s: CtTcp, n: Ends, e: Segment) -> bool:
    """A SYN that (again) tells all of its sender."""
    return syn(e) and (n.snd.td_maxwin == 0 or (after(e.end, n.snd.td_end) and s.state in (Ct.SYN_SENT, Ct.SYN_RECV)))


@pure
def prepared(s: CtTcp, n: Ends, e: Segment) -> Ends:
    """The ends before the checks: a new sender is entered first."""
    return tcp_init_sender(n, e) if inits(s, n, e) else picked_up(n, e, raw_sack(n, e)) if n.snd.td_maxwin == 0 else n


@pure
def early(s: CtTcp, n: Ends, e: Segment) -> bool:
    """The other end's SYN in a simultaneous open needs no checks."""
    return inits(s, n, e) and e.index == Idx.SYN and (n.snd.td_maxwin == 0 or e.reply)


@pure
def numbers(s: CtTcp, n: Ends, m: Ends, e: Segment) -> Numbers:
    """Without an ACK, or with the zero of a broken reset, the acknowledgement is taken to be right.

    `n` are the ends as they were, whose sack_perm counts; `m` the prepared ones.
    """
    pretend = not e.ack or (e.index == Idx.RST and e.ack_seq == 0)
    answers_syn = e.index == Idx.RST and e.seq == 0 and s.state == Ct.SYN_SENT
    return Numbers(
        seq=m.snd.td_end if answers_syn else e.seq,
        end=m.snd.td_end if answers_syn else e.end,
        ack=m.rcv.td_end if pretend else e.ack_seq,
        sack=m.rcv.td_end if pretend else raw_sack(n, e),
    )


@pure
def maxackwindow(snd: Side) -> int:
    """How far behind an acknowledgement may be; source net/netfilter/nf_conntrack_proto_tcp.c:MAXACKWINDOW."""
    return max(snd.td_maxwin, MAXACKWINCONST)


@pure
def not_too_late(m: Ends, q: Numbers) -> bool:
    """The acknowledgement's lower bound."""
    return after(q.sack, (m.rcv.td_end - maxackwindow(m.snd) - 1) & M32)


@pure
def not_too_old(m: Ends, q: Numbers) -> bool:
    """The data's lower bound."""
    return after(q.end, (m.snd.td_end - m.rcv.td_maxwin - 1) & M32)


@pure
def acks_seen(m: Ends, q: Numbers) -> bool:
    """The acknowledgement's upper bound."""
    return before(q.sack, add(m.rcv.td_end, 1))


@pure
def checked(m: Ends, q: Numbers) -> Win:
    """The four bounds in the kernel's order; source net/netfilter/nf_conntrack_proto_tcp.c:tcp_in_window."""
    if not before(q.seq, add(m.snd.td_maxend, 1)):
        overshot = (q.end - m.snd.td_maxend + 1) & M32
        small = (
            m.rcv.td_maxwin != 0
            and not_too_old(m, q)
            and not_too_late(m, q)
            and overshot <= m.rcv.td_maxwin
            and acks_seen(m, q)
        )
        return Win.OVERSHOT if small else Win.SEQ_OVER
    if not acks_seen(m, q):
        return Win.ACK_OVER
    if m.rcv.td_maxwin != 0 and not not_too_old(m, q):
        return Win.SEQ_UNDER
    if not not_too_late(m, q):
        return Win.ACK_UNDER
    return Win.ACCEPT


@pure
def tcp_in_window(s: CtTcp, n: Ends, e: Segment) -> Win:
    """What the window tracking says before it is asked whether it is liberal."""
    m = prepared(s, n, e)
    return Win.EARLY if early(s, n, e) else checked(m, numbers(s, n, m, e))


@pure
def liberal(n: Ends, p: TcpCtParams) -> bool:
    """The sender's segments pass whatever the bounds; source nf_conntrack_proto_tcp.c:nf_tcp_store_invalid."""
    return n.snd.be_liberal or p.tcp_be_liberal


@pure
def updated(m: Ends, q: Numbers, e: Segment) -> Ends:
    """A segment within the bounds moves them."""
    win = e.win if syn(e) else scaled(m.snd, e)
    swin = (win + q.sack - q.ack) & M32
    grows = after(q.end, m.snd.td_end)
    right = (q.sack + win) & M32
    moves = after(right, (m.rcv.td_maxend - 1) & M32)
    beyond = m.rcv.td_maxwin != 0 and after(q.end, m.snd.td_maxend)
    return Ends(
        replace(
            m.snd,
            td_maxwin=max(m.snd.td_maxwin, swin),
            td_end=q.end if grows else m.snd.td_end,
            data_unacknowledged=m.snd.data_unacknowledged or grows,
            td_maxack=q.ack if e.ack and (not m.snd.maxack_set or after(q.ack, m.snd.td_maxack)) else m.snd.td_maxack,
            maxack_set=m.snd.maxack_set or e.ack,
        ),
        replace(
            m.rcv,
            td_maxwin=(m.rcv.td_maxwin + q.end - m.snd.td_maxend) & M32 if beyond else m.rcv.td_maxwin,
            td_maxend=add(right, 1) if moves and win == 0 else right if moves else m.rcv.td_maxend,
            data_unacknowledged=m.rcv.data_unacknowledged and q.ack != m.rcv.td_end,
        ),
    )


@pure
def overshot(m: Ends, q: Numbers) -> Ends:
    """A segment a little beyond the window might be taken: its end is remembered."""
    return Ends(replace(m.snd, td_end=q.end, data_unacknowledged=True), m.rcv)
