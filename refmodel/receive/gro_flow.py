"""GRO of one TCP flow, as a machine: what is held, what a segment does to it, and what goes up the stack.

The law: a held super-segment is cut back into the very segments that came in: all have the first one's length, in line,
with equal headers; whatever would break that sends the held one up first. The kernel functions of refmodel.receive.gro
decide by the pure functions here.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import Effect, Event, Machine, Params, State, assume, machine, pure, require, rule
from refmodel.types import Range, add, u16, u32

GRO_LEGACY_MAX_SIZE: Final = 65536
GRO_MAX_SIZE: Final = 8 * 65535
SEGMENT_MAX: Final = 65535


class Held(IntEnum):
    """Whether GRO holds something of the flow."""

    NO = 0
    YES = 1


class GroParams(Params, frozen=True):
    """`kernel`: the version; `gro_max_size`: the device's, in bytes of IP packet."""

    kernel: Annotated[int, Range(601, 618)] = 612
    gro_max_size: Annotated[int, Range(1, GRO_MAX_SIZE)] = GRO_LEGACY_MAX_SIZE


class GroFlow(State, frozen=True):
    """The super-segment that GRO holds of a flow.

    `mss`: payload of its first segment, `tail`: of its last; `len` of all `count`. `start` is its sequence number,
    `end` the next one's. `total`: bytes of IP packet. `id`: the first segment's IP id, `df` its DF; `fixedid`: ids are
    equal. `cwr`: it has CWR.
    """

    AT: ClassVar[str] = "held"

    held: Held = Held.NO
    mss: Annotated[int, Range(0, SEGMENT_MAX)] = 0
    tail: Annotated[int, Range(0, SEGMENT_MAX)] = 0
    len: Annotated[int, Range(0, GRO_MAX_SIZE)] = 0
    count: Annotated[int, Range(0, GRO_MAX_SIZE)] = 0
    start: u32 = 0
    end: u32 = 0
    total: Annotated[int, Range(0, GRO_MAX_SIZE)] = 0
    id: u16 = 0
    df: bool = False
    fixedid: bool = False
    cwr: bool = False


class Segment(Event, frozen=True):
    """A segment of the flow: `len` bytes of payload behind `hlen` of headers, at `seq`.

    `flush`: its IP header forbids a merge (length, fragment bits). `bad`: its checksum is wrong. `differs`: it and the
    held one differ in ACK number, window, an option, TTL, TOS or a flag other than CWR, FIN, PSH. `ipv4`: it has an id.
    """

    len: Annotated[int, Range(0, SEGMENT_MAX)]
    hlen: Annotated[int, Range(40, 140)]
    seq: u32
    id: u16 = 0
    ipv4: bool = True
    df: bool = True
    flush: bool = False
    bad: bool = False
    differs: bool = False
    cwr: bool = False
    urg: bool = False
    psh: bool = False
    rst: bool = False
    syn: bool = False
    fin: bool = False


class GroFlush(Event, frozen=True):
    """The poll ends, or used up its weight: napi_gro_flush.

    `old`: only what an earlier jiffy held goes; `aged`: an earlier one did.
    """

    old: bool = False
    aged: bool = False


class Deliver(Effect, frozen=True):
    """`len` bytes of payload of `count` segments from `seq` on go to gro_normal_one; the last segment has `tail`."""

    seq: u32
    len: Annotated[int, Range(0, GRO_MAX_SIZE)]
    count: Annotated[int, Range(0, GRO_MAX_SIZE)]
    mss: Annotated[int, Range(0, SEGMENT_MAX)]
    tail: Annotated[int, Range(0, SEGMENT_MAX)]


class Verdict(IntEnum):
    """What a segment does."""

    BYPASS = 0  # goes up alone, and the held one stays
    HOLD = 1  # is held; nothing was
    NORMAL = 2  # goes up alone; nothing was held
    MERGE = 3  # joins the held one
    MERGE_END = 4  # joins it, and both go up
    SPLIT_HOLD = 5  # the held one goes up, and it is held
    SPLIT_NORMAL = 6  # the held one goes up, then it


# ------------------------------------------------------------------------------- what the kernel functions decide by


@pure
def ipid_offset(ident: int, first: int) -> int:
    """How far an IP id lies behind the held one's first (mod 2**16)."""
    return (ident - first) & 0xFFFF


@pure
def becomes_fixed(offset: int, count: int, df: bool, kernel: int) -> bool:
    """The second segment decides whether ids stand still, which they may where DF is set; from 6.18 on anywhere."""
    return count == 1 and offset == 0 and (df or kernel >= 618)


@pure
def id_flush(offset: int, count: int, fixedid: bool) -> bool:
    """The id neither stands still nor counts segments."""
    return offset != (0 if fixedid else count & 0xFFFF)


@pure
def cwr_forbids(cwr: bool, first: bool, kernel: int) -> bool:
    """A segment with CWR joins nothing; from 6.18 on nothing joins one either."""
    return cwr or (first and kernel >= 618)


@pure
def wrong_size(len: int, mss: int) -> bool:
    """An empty segment, or a longer one than the first, joins nothing."""
    return len == 0 or len > mss


@pure
def too_big(total: int, len: int, gro_max_size: int) -> bool:
    """The merged packet would reach the device's limit."""
    return total + len >= gro_max_size


@pure
def ends(len: int, mss: int, urg: bool, psh: bool, rst: bool, syn: bool, fin: bool) -> bool:
    """Nothing may follow: a short segment, or a flag that the reader must see."""
    return len < mss or urg or psh or rst or syn or fin


# --------------------------------------------------------------------------------------------------------- the machine


@pure
def fixed(s: GroFlow, e: Segment, p: GroParams) -> bool:
    """Whether ids stand still once this segment was looked at."""
    return s.fixedid or (e.ipv4 and becomes_fixed(ipid_offset(e.id, s.id), s.count, e.df, p.kernel))


@pure
def joins(s: GroFlow, e: Segment, p: GroParams) -> bool:
    """Everything that lets a segment join the held one."""
    return not (
        cwr_forbids(e.cwr, s.cwr, p.kernel)
        or e.differs
        or e.df != s.df
        or (e.ipv4 and id_flush(ipid_offset(e.id, s.id), s.count, fixed(s, e, p)))
        or wrong_size(e.len, s.mss)
        or e.seq != s.end
        or e.flush
        or too_big(s.total, e.len, p.gro_max_size)
    )


@pure
def alone(e: Segment) -> bool:
    """A segment that is not held: empty, flagged, or with a header that forbids it."""
    return e.flush or ends(e.len, 1, e.urg, e.psh, e.rst, e.syn, e.fin)


@pure
def verdict(s: GroFlow, e: Segment, p: GroParams) -> Verdict:
    """tcp_gro_receive and dev_gro_receive together."""
    return (
        Verdict.BYPASS
        if e.bad and not e.flush
        else (Verdict.NORMAL if alone(e) else Verdict.HOLD)
        if s.held == Held.NO
        else (Verdict.MERGE_END if ends(e.len, s.mss, e.urg, e.psh, e.rst, e.syn, e.fin) else Verdict.MERGE)
        if joins(s, e, p)
        else Verdict.SPLIT_NORMAL
        if alone(e)
        else Verdict.SPLIT_HOLD
    )


@pure
def hold(e: Segment) -> GroFlow:
    """A segment becomes the held one."""
    return GroFlow(
        held=Held.YES,
        mss=e.len,
        tail=e.len,
        len=e.len,
        count=1,
        start=e.seq,
        end=add(e.seq, e.len),
        total=e.len + e.hlen,
        id=e.id,
        df=e.df,
        fixedid=False,
        cwr=e.cwr,
    )


@pure
def merged(s: GroFlow, e: Segment, p: GroParams) -> GroFlow:
    """A segment joins the held one."""
    return replace(
        s,
        len=s.len + e.len,
        tail=e.len,
        count=s.count + 1,
        end=add(e.seq, e.len),
        total=s.total + e.len,
        fixedid=fixed(s, e, p),
    )


@rule("net/ipv4/tcp_offload.c:tcp4_gro_receive", "net/core/gro.c:dev_gro_receive")
def bypass(s: GroFlow, e: Segment, p: GroParams) -> tuple[GroFlow, tuple[Effect, ...]]:
    """A segment with a wrong checksum goes up at once, before what is held."""
    require(verdict(s, e, p) == Verdict.BYPASS, "checksum wrong")
    return s, (Deliver(seq=e.seq, len=e.len, count=1, mss=e.len, tail=e.len),)


@rule("net/core/gro.c:dev_gro_receive", at=Held.NO)
def held(s: GroFlow, e: Segment, p: GroParams) -> tuple[GroFlow, tuple[Effect, ...]]:
    """The first segment of a flow is held."""
    require(verdict(s, e, p) == Verdict.HOLD, "nothing held, may wait")
    return hold(e), ()


@rule("net/core/gro.c:dev_gro_receive", at=Held.NO)
def normal(s: GroFlow, e: Segment, p: GroParams) -> tuple[GroFlow, tuple[Effect, ...]]:
    """A segment that nothing may follow goes up alone."""
    require(verdict(s, e, p) == Verdict.NORMAL, "nothing held, must not wait")
    return s, (Deliver(seq=e.seq, len=e.len, count=1, mss=e.len, tail=e.len),)


@rule("net/core/gro.c:skb_gro_receive", "net/ipv4/tcp_offload.c:tcp_gro_receive", at=Held.YES)
def merge(s: GroFlow, e: Segment, p: GroParams) -> tuple[GroFlow, tuple[Effect, ...]]:
    """The next segment in line joins the held one."""
    require(verdict(s, e, p) == Verdict.MERGE, "in line, of full length, equal headers")
    return merged(s, e, p), ()


@rule("net/core/gro.c:skb_gro_receive", "net/ipv4/tcp_offload.c:tcp_gro_receive", at=Held.YES)
def merge_end(s: GroFlow, e: Segment, p: GroParams) -> tuple[GroFlow, tuple[Effect, ...]]:
    """A short or flagged segment joins the held one and sends it up."""
    require(verdict(s, e, p) == Verdict.MERGE_END, "in line, and nothing may follow")
    return GroFlow(), (Deliver(seq=s.start, len=s.len + e.len, count=s.count + 1, mss=s.mss, tail=e.len),)


@rule("net/ipv4/tcp_offload.c:tcp_gro_receive", "net/core/gro.c:dev_gro_receive", at=Held.YES)
def split_hold(s: GroFlow, e: Segment, p: GroParams) -> tuple[GroFlow, tuple[Effect, ...]]:
    """A segment that doesn't fit sends the held one up and takes its place."""
    require(verdict(s, e, p) == Verdict.SPLIT_HOLD, "doesn't fit, may wait")
    return hold(e), (Deliver(seq=s.start, len=s.len, count=s.count, mss=s.mss, tail=s.tail),)


@rule("net/ipv4/tcp_offload.c:tcp_gro_receive", "net/core/gro.c:dev_gro_receive", at=Held.YES)
def split_normal(s: GroFlow, e: Segment, p: GroParams) -> tuple[GroFlow, tuple[Effect, ...]]:
    """A segment that doesn't fit and must not wait goes up behind the held one."""
    require(verdict(s, e, p) == Verdict.SPLIT_NORMAL, "doesn't fit, must not wait")
    return GroFlow(), (
        Deliver(seq=s.start, len=s.len, count=s.count, mss=s.mss, tail=s.tail),
        Deliver(seq=e.seq, len=e.len, count=1, mss=e.len, tail=e.len),
    )


@rule("net/core/gro.c:napi_gro_flush", "net/core/gro.c:__napi_gro_flush_chain", at=Held.YES)
def flushed(s: GroFlow, e: GroFlush, p: GroParams) -> tuple[GroFlow, tuple[Effect, ...]]:
    """At the end of a poll the held one goes up."""
    require(not e.old or e.aged, "all, or it is old")
    return GroFlow(), (Deliver(seq=s.start, len=s.len, count=s.count, mss=s.mss, tail=s.tail),)


@rule("net/core/gro.c:__napi_gro_flush_chain", at=Held.YES)
def flush_spared(s: GroFlow, e: GroFlush, p: GroParams) -> tuple[GroFlow, tuple[Effect, ...]]:
    """What this jiffy held stays where only old packets are flushed."""
    require(e.old and not e.aged, "only what is old")
    return s, ()


@rule("net/core/gro.c:napi_gro_flush", at=Held.NO)
def flush_empty(s: GroFlow, e: GroFlush, p: GroParams) -> tuple[GroFlow, tuple[Effect, ...]]:
    """There is nothing to flush."""
    return s, ()


@assume
def fits_ip(e: Segment) -> bool:
    """A segment and its headers fit an IP packet."""
    return e.len + e.hlen <= SEGMENT_MAX


GRO = machine(
    Machine(
        name="gro",
        title="GRO of a TCP flow",
        accepts={GroFlow: (Segment, GroFlush)},
        params=GroParams,
        modules=("refmodel.receive.gro_flow", "refmodel.receive.gro_flow_properties"),
        initial=(GroFlow(),),
    )
)
