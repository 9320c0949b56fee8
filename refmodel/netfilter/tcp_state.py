"""The TCP tracker's state, what it takes from a segment, and its table of states.

A connection is seen from the middle: `orig` is the end that sent the first segment, `repl` the other. Each end's record
says what it may send and acknowledge, guessed from what was seen to pass.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec import Struct

from refmodel.rule import Effect, Event, State, pure
from refmodel.types import Range, near, u8, u16, u32, usec

TCP_MAX_WSCALE: Final = 14
MAXACKWINCONST: Final = 66_000

Scale = Annotated[int, Range(0, TCP_MAX_WSCALE)]


class Ct(IntEnum):
    """TCP_CONNTRACK_*; source include/uapi/linux/netfilter/nf_conntrack_tcp.h:tcp_conntrack."""

    NONE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9
    MAX = 10  # in the table: invalid
    IGNORE = 11  # in the table: let through, believe nothing


class Idx(IntEnum):
    """A segment's kind; source net/netfilter/nf_conntrack_proto_tcp.c:tcp_bit_set."""

    SYN = 0
    SYNACK = 1
    FIN = 2
    ACK = 3
    RST = 4
    NONE = 5


class Side(Struct, frozen=True):
    """One end; source include/linux/netfilter/nf_conntrack_tcp.h:ip_ct_tcp_state.

    `td_end`: the end of what it sent; `td_maxend`: the end of what it may send; `td_maxwin`: its largest window (0:
    nothing was seen of it); `td_maxack`: the highest that it acknowledged, if `maxack_set`; `td_scale`: of its windows.
    """

    td_end: u32 = 0
    td_maxend: Annotated[int, Range(0, 0xFFFFFFFF), near("td_end")] = 0
    td_maxwin: u32 = 0
    td_maxack: u32 = 0
    td_scale: Scale = 0
    window_scale: bool = False
    sack_perm: bool = False
    close_init: bool = False
    be_liberal: bool = False
    data_unacknowledged: bool = False
    maxack_set: bool = False


class CtTcp(State, frozen=True):
    """A tracked TCP connection; source include/linux/netfilter/nf_conntrack_tcp.h:ip_ct_tcp.

    `state` NONE: not confirmed yet. `last_*`: of the last segment that was let through or noted; `last_reply` is its
    direction. `exp_challenge_ack`, `simultaneous_open`, `last_window_scale`, `last_sack_perm` are last_flags' bits.
    `seen_reply` and `assured` are the entry's IPS_SEEN_REPLY and IPS_ASSURED.
    """

    AT: ClassVar[str] = "state"

    state: Ct = Ct.NONE
    orig: Side = Side()
    repl: Side = Side()
    last_reply: bool = False
    last_index: Idx = Idx.NONE
    last_seq: u32 = 0
    last_ack: u32 = 0
    last_end: u32 = 0
    last_win: u16 = 0
    last_wscale: Scale = 0
    last_window_scale: bool = False
    last_sack_perm: bool = False
    exp_challenge_ack: bool = False
    simultaneous_open: bool = False
    retrans: u8 = 0
    seen_reply: bool = False
    assured: bool = False


class Segment(Event, frozen=True):
    """A segment whose flags are a valid combination.

    `reply`: it goes against the first one. `ack`: its ACK bit. `end`: seq + payload + SYN + FIN. `sack`: the highest
    right edge of its SACK blocks if that is after `ack_seq`, else `ack_seq`. `options`: it has any; `window_scale`,
    `scale`, `sack_perm`: of these. `expires`: us until the entry's timeout. `fixed`: IPS_FIXED_TIMEOUT.
    """

    index: Idx
    reply: bool = False
    ack: bool = True
    seq: u32 = 0
    end: Annotated[int, Range(0, 0xFFFFFFFF), near("seq")] = 0
    ack_seq: u32 = 0
    sack: Annotated[int, Range(0, 0xFFFFFFFF), near("ack_seq")] = 0
    win: u16 = 0
    options: bool = False
    window_scale: bool = False
    scale: Scale = 0
    sack_perm: bool = False
    expires: usec = 0
    fixed: bool = False


class Refresh(Effect, frozen=True):
    """The packet is accepted, and the entry lives `timeout` us from now."""

    timeout: usec


class Let(Effect, frozen=True):
    """The packet is accepted, the entry's timeout stays."""


class Kill(Effect, frozen=True):
    """The packet is accepted and the entry deleted."""


class Reopen(Effect, frozen=True):
    """The entry is deleted and the packet looked up again (NF_REPEAT)."""


class Invalid(Effect, frozen=True):
    """The packet is INVALID: it goes on without its connection. `lowered`: the timeout now is `unacknowledged`."""

    lowered: bool = False


SNO, SSS, SSR, SES, SFW = Ct.NONE, Ct.SYN_SENT, Ct.SYN_RECV, Ct.ESTABLISHED, Ct.FIN_WAIT
SCW, SLA, STW, SCL, SS2 = Ct.CLOSE_WAIT, Ct.LAST_ACK, Ct.TIME_WAIT, Ct.CLOSE, Ct.SYN_SENT2
SIV, SIG = Ct.MAX, Ct.IGNORE

# By state, then by index: SYN, SYN-ACK, FIN, ACK, RST, none of them.
TCP_CONNTRACKS_ORIGINAL: Final = {
    SNO: (SSS, SIV, SIV, SES, SIV, SIV),
    SSS: (SSS, SIV, SIV, SIV, SCL, SIV),
    SSR: (SIG, SSR, SFW, SES, SCL, SIV),
    SES: (SIG, SIV, SFW, SES, SCL, SIV),
    SFW: (SIG, SIV, SLA, SCW, SCL, SIV),
    SCW: (SIG, SIV, SLA, SCW, SCL, SIV),
    SLA: (SIG, SIV, SLA, STW, SCL, SIV),
    STW: (SSS, SIV, STW, STW, SCL, SIV),
    SCL: (SSS, SIV, SCL, SCL, SCL, SIV),
    SS2: (SS2, SSR, SIV, SIV, SCL, SIV),
}
TCP_CONNTRACKS_REPLY: Final = {
    SNO: (SIV, SIV, SIV, SIV, SIV, SIV),
    SSS: (SS2, SSR, SIV, SIG, SCL, SIV),
    SSR: (SIV, SIG, SFW, SSR, SCL, SIV),
    SES: (SIV, SIG, SFW, SES, SCL, SIV),
    SFW: (SIV, SIG, SLA, SCW, SCL, SIV),
    SCW: (SIV, SIG, SLA, SCW, SCL, SIV),
    SLA: (SIV, SIG, SLA, STW, SCL, SIV),
    STW: (SSS, SIG, STW, STW, SCL, SIV),
    SCL: (SIV, SIG, SCL, SCL, SCL, SIV),
    SS2: (SS2, SSR, SIV, SIG, SCL, SIV),
}


@pure
def in_table(s: CtTcp, e: Segment) -> Ct:
    """What the table says; source net/netfilter/nf_conntrack_proto_tcp.c:tcp_conntracks."""
    return TCP_CONNTRACKS_REPLY[s.state][e.index] if e.reply else TCP_CONNTRACKS_ORIGINAL[s.state][e.index]
