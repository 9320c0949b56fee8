"""Mutants of loss recovery: retransmissions, SACK and DSACK blocks."""

import random
import struct

from conformance.mutate_edit import OPT_SACK, SEQ, Edit
from conformance.mutate_kind import Made, kind
from conformance.mutate_trace import Fact, Trace, ahead
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.types import M32

AGAIN = "net/ipv4/tcp_output.c:__tcp_retransmit_skb"
BLOCKS = "net/ipv4/tcp_input.c:tcp_sack_new_ofo_skb"
DSACK = "net/ipv4/tcp_input.c:tcp_dsack_set"
PATH = 4_000_000_000  # ns: longer than any frame is on its way


def _one(t: Trace, k: int, e: Edit) -> Made:
    frames = list(t.frames)
    frames[k] = e.frame()
    return Made(frames, k)


# ---------------------------------------------------------------- retransmissions


def _whole_again(t: Trace, f: Fact) -> bool:
    """All of the segment had been sent before, and its id, or else its timestamp, is later.

    Else it is a duplicate, or the original, which its retransmission overtook.
    """
    s = f.s
    if not s.len or not f.again or s.flags & (SYN | RST) or len(s.payload) < s.len:
        return False
    old = [x.s for x in t.earlier(f, True) if x.s.len and ahead(x.s.seq, s.end_seq) < 0 < ahead(x.s.end_seq, s.seq)]
    if s.ip_id:
        return bool(old) and all(0 < (s.ip_id - (x.ip_id or 0)) & 0xFFFF < 0x8000 for x in old)
    return bool(old) and s.tsval is not None and all(ahead(s.tsval, x.tsval) > 0 for x in old)


@kind("retransmit-seq", "a retransmission that begins a byte inside its segment", AGAIN)
def _again_seq(t: Trace, k: int, r: random.Random) -> Made | None:
    """With the bytes that stand there; the segment's end stays."""
    f = t.facts[k]
    if (
        not _whole_again(t, f)
        or f.s.len < 3
        or any(ahead(x.s.seq, f.s.seq) == 1 for x in t.earlier(f, True) if x.s.len)
    ):
        return None
    e = t.edit(k)
    e.add(SEQ, 1)
    e.set_payload(f.s.payload[1:])
    return _one(t, k, e)


@kind("retransmit-len", "a retransmission that ends a byte inside its segment", AGAIN)
def _again_len(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not _whole_again(t, f) or f.s.len < 3 or f.s.flags & FIN:
        return None
    if f.way not in t.syns or f.back not in t.syns:
        return None  # the MSS, at which it may be cut, is not known
    if any(ahead(f.s.end_seq, x.s.end_seq) == 1 for x in t.earlier(f, True) if x.s.len):
        return None  # another segment ended there
    e = t.edit(k)
    e.set_payload(f.s.payload[:-1])
    return _one(t, k, e)


@kind("retransmit-bytes", "a retransmission with another byte than the original's", "RFC 9293 3.8.1")
def _again_bytes(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not _whole_again(t, f) or not _seen(t, f):
        return None
    e = t.edit(k)
    at = r.randrange(f.s.len)
    e.set_payload(f.s.payload[:at] + bytes((f.s.payload[at] ^ 0x55,)) + f.s.payload[at + 1 :])
    return _one(t, k, e)


def _seen(t: Trace, f: Fact) -> bool:
    """The tap saw all of its bytes before, in one segment."""
    return any(
        x.s.len and len(x.s.payload) == x.s.len
        and ahead(f.s.seq, x.s.seq) >= 0 and ahead(x.s.end_seq, f.s.end_seq) >= 0
        for x in t.earlier(f, True)
    )  # fmt: skip


# ---------------------------------------------------------------- SACK blocks


def _blocks(e: Edit, blocks: tuple[tuple[int, int], ...]) -> bool:
    """Replaces the SACK option's blocks, as Linux lays them out: NOP NOP SACK at the end; False if there is no room."""
    at = e.option(OPT_SACK)
    area = bytearray(e.options)
    if at >= 0:
        start = at - e.l4 - 20
        size = e.data[at + 1]
        lead = 2 if area[start - 2 : start] == b"\x01\x01" else 0
        del area[start - lead : start + size]
    if blocks:
        area += bytes((1, 1, OPT_SACK, 2 + 8 * len(blocks)))
        area += b"".join(struct.pack("!II", a & M32, b & M32) for a, b in blocks)
    if len(area) > 40 or len(area) % 4:
        return False
    e.set_options(bytes(area))
    return True


def _is_dsack(f: Fact) -> bool:
    """The first block lies below the acknowledgment, or within the second."""
    first, *rest = f.s.sack
    below = ahead(f.s.ack_seq, first[0]) > 0
    return below or bool(rest and ahead(first[0], rest[0][0]) >= 0 and ahead(rest[0][1], first[1]) >= 0)


def _plain_blocks(f: Fact) -> bool:
    return bool(f.s.sack) and not _is_dsack(f) and not f.s.flags & (SYN | RST)


@kind("sack-left", "a SACK block that begins a byte early", BLOCKS)
def _sack_left(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not _plain_blocks(f) or ahead(f.s.sack[0][0], f.s.ack_seq) < 2:
        return None
    e = t.edit(k)
    (a, b), *rest = f.s.sack
    return _one(t, k, e) if _blocks(e, ((a - 1, b), *rest)) else None


@kind("sack-unsent", "a SACK block over data that were not sent", BLOCKS)
def _sack_unsent(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not _plain_blocks(f):
        return None
    e = t.edit(k)
    (a, b), *rest = f.s.sack
    sent = max((ahead(x.s.end_seq, b) for x in t.earlier(f, False)), default=0)
    return _one(t, k, e) if _blocks(e, ((a, b + max(sent, 0) + 1000), *rest)) else None


@kind("sack-removed", "an acknowledgment without the SACK blocks that stand before and behind it", BLOCKS)
def _sack_removed(t: Trace, k: int, r: random.Random) -> Made | None:
    """Where its sender has shown one of the blocks before, and does so again behind it."""
    f = t.facts[k]
    if not _plain_blocks(f) or f.mine_before < 0 or f.mine_behind < 0:
        return None
    lefts = {a for a, _ in f.s.sack}
    before = {a for a, _ in t.facts[f.mine_before].s.sack}
    behind = {a for a, _ in t.facts[f.mine_behind].s.sack}
    if not lefts & before & behind or not t.in_order(f) or f.s.ack_seq != t.facts[f.mine_before].s.ack_seq:
        return None
    e = t.edit(k)
    return _one(t, k, e) if _blocks(e, ()) else None


@kind("sack-invented", "a SACK block though nothing came out of order", BLOCKS)
def _sack_invented(t: Trace, k: int, r: random.Random) -> Made | None:
    """A block over data that come later, on an acknowledgment of all that came."""
    f = t.facts[k]
    if not f.pure_ack or f.acks <= 0 or f.s.sack or not t.both_sack(f.way):
        return None
    nxt = max((ahead(x.s.end_seq, f.s.ack_seq) for x in t.earlier(f, False)), default=0)
    if nxt != 0:
        return None
    e = t.edit(k)
    return _one(t, k, e) if _blocks(e, ((f.s.ack_seq + 1448, f.s.ack_seq + 2896),)) else None


@kind("sack-order", "the first two SACK blocks in each other's place", "RFC 2018 4",
      "which of two blocks came last is not known where segments were dropped behind the tap")  # fmt: skip
def _sack_order(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not _plain_blocks(f) or len(f.s.sack) < 2:
        return None
    e = t.edit(k)
    a, b, *rest = f.s.sack
    return _one(t, k, e) if _blocks(e, (b, a, *rest)) else None


@kind("dsack-invented", "a DSACK though nothing came twice", DSACK)
def _dsack_invented(t: Trace, k: int, r: random.Random) -> Made | None:
    """On an acknowledgment of new data by the tapped host: what reached it twice, the tap saw twice."""
    f = t.facts[k]
    if not f.pure_ack or f.acks <= 0 or f.s.sack or not t.both_sack(f.way) or not t.is_near(f):
        return None
    data = [x for x in t.earlier(f, False) if x.s.len]
    if len(data) < 2 or any(x.again for x in data) or ahead(f.s.ack_seq, data[0].s.end_seq) < 0:
        return None
    e = t.edit(k)
    return _one(t, k, e) if _blocks(e, ((data[0].s.seq, data[0].s.end_seq),)) else None


@kind("dsack-removed", "the answer to a duplicate without its DSACK", DSACK, sidecar=True)
def _dsack_removed(t: Trace, k: int, r: random.Random) -> Made | None:
    """On an empty segment that says nothing new, nor opens the window: what else could it answer?

    Of a far host an empty segment that was overtaken behind the tap, which is answered so (tcp_validate_incoming).
    """
    f = t.facts[k]
    if f.mine_before < 0 or t.facts[f.mine_before].s.window != f.s.window:
        return None
    if not f.s.sack or not _is_dsack(f) or not f.pure_ack or f.acks > 0 or ahead(f.s.ack_seq, f.s.sack[0][1]) < 0:
        return None
    if not f.s.flags & ACK or (not t.is_near(f) and t.empty_under_way(f, PATH)):
        return None
    e = t.edit(k)
    return _one(t, k, e) if _blocks(e, f.s.sack[1:]) else None


@kind("dsack-moved", "a DSACK over a byte that did not come twice", DSACK)
def _dsack_moved(t: Trace, k: int, r: random.Random) -> Made | None:
    f = t.facts[k]
    if not f.s.sack or not _is_dsack(f) or f.s.flags & (SYN | RST):
        return None
    first, *rest = f.s.sack
    if ahead(f.s.ack_seq, first[1]) < 0:
        return None
    e = t.edit(k)
    return _one(t, k, e) if _blocks(e, ((first[0] - 1, first[1]), *rest)) else None
