"""A packet on its way through GRO: its control block, its checksum, and how another is appended to it."""

from collections.abc import Callable
from typing import Final

from refmodel.packet.wire import ones_sum
from refmodel.receive.env import Env
from refmodel.receive.gro_flow import GRO_LEGACY_MAX_SIZE, too_big
from refmodel.rule import cited
from refmodel.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    ETH_P_IPV6,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    SkBuff,
)

IPPROTO_TCP: Final = 6


class GroCb:
    """struct napi_gro_cb.

    `data_offset`: bytes in front of what the current layer looks at. `flush`: it must not be merged or wait. `age`: the
    jiffy in which it was held. `csum`: a ones' complement sum, `csum_valid`: of the rest of the packet, and right.
    `flush_id` and `is_atomic` are 6.1's way to compare ids.
    """

    __slots__ = (
        "age", "count", "csum", "csum_cnt", "csum_valid", "data_offset", "flush", "flush_id", "ip_fixedid",
        "is_atomic", "network_offset", "proto", "same_flow",
    )  # fmt: skip

    def __init__(self) -> None:
        self.data_offset = 0
        self.network_offset = 0
        self.flush = 0
        self.flush_id = 0
        self.is_atomic = True
        self.count = 1
        self.proto = 0
        self.same_flow = False
        self.csum_valid = False
        self.csum_cnt = 0
        self.csum = 0
        self.ip_fixedid = False
        self.age = 0


def cb(skb: SkBuff) -> GroCb:
    """NAPI_GRO_CB(skb)."""
    c: GroCb = skb.cb
    return c


def skb_gro_offset(skb: SkBuff) -> int:
    """Where the current layer's header begins."""
    return cb(skb).data_offset


def skb_gro_len(skb: SkBuff) -> int:
    """Bytes from the current layer's header on."""
    return len(skb.data) - cb(skb).data_offset


def skb_gro_pull(skb: SkBuff, n: int) -> None:
    """The current layer is done with its `n` bytes."""
    cb(skb).data_offset += n


def skb_is_gso_tcp(skb: SkBuff) -> bool:
    """It is a TCP super-segment."""
    return bool(skb.gso_type & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6))


# ------------------------------------------------------------------------------------------------------- checksums


@cited("include/net/gro.h:__skb_gro_checksum_validate")
def skb_gro_checksum_validate(
    env: Env, skb: SkBuff, proto: int, pseudo: Callable[[SkBuff, int], int], zero_okay: bool = False, check: int = 0
) -> bool:
    """True if the transport checksum is right, or needn't be looked at.

    `pseudo` computes the pseudo-header's sum. A checksum found right is remembered in ip_summed.
    """
    c = cb(skb)
    ok = True
    if skb.ip_summed != CHECKSUM_PARTIAL and c.csum_cnt == 0 and (not zero_okay or check != 0):
        ok = _validate_complete(skb, pseudo(skb, proto))
    if ok:
        skb_gro_incr_csum_unnecessary(skb)
    env.note("skb_gro_checksum_validate", "right or trusted" if ok else "wrong: not merged")
    return ok


def _validate_complete(skb: SkBuff, psum: int) -> bool:
    c = cb(skb)
    if c.csum_valid and ones_sum(b"", psum + c.csum) == 0xFFFF:
        return True
    c.csum = ones_sum(bytes(skb.data[c.data_offset :]))
    c.csum_valid = True
    return ones_sum(b"", psum + c.csum) == 0xFFFF


@cited("include/net/gro.h:skb_gro_incr_csum_unnecessary")
def skb_gro_incr_csum_unnecessary(skb: SkBuff) -> None:
    """A checksum that was verified need not be verified again above."""
    c = cb(skb)
    if c.csum_cnt > 0:
        c.csum_cnt -= 1
    elif skb.ip_summed == CHECKSUM_NONE:
        skb.ip_summed = CHECKSUM_UNNECESSARY


@cited("net/core/gro.c:skb_gro_receive")
def skb_gro_receive(env: Env, p: SkBuff, skb: SkBuff) -> bool:
    """Appends a packet's payload to the held one; False if it would get too big or mustn't be merged (E2BIG)."""
    n = skb_gro_len(skb)
    limit = p.dev.gro_max_size if p.dev is not None and p.protocol == ETH_P_IPV6 else GRO_LEGACY_MAX_SIZE
    if too_big(len(p.data), n, limit) or cb(skb).flush:
        env.note("skb_gro_receive", "must not be merged" if cb(skb).flush else f"{len(p.data) + n} >= {limit}: too big")
        return False
    if len(p.data) + n >= GRO_LEGACY_MAX_SIZE and cb(skb).proto != IPPROTO_TCP:
        env.note("skb_gro_receive", "only TCP grows beyond 64 KB")
        return False
    p.data += skb.data[skb_gro_offset(skb) :]
    p.truesize += skb.truesize
    cb(p).count += cb(skb).count
    cb(skb).same_flow = True
    env.note("skb_gro_receive", f"segment {cb(p).count}, {len(p.data)} bytes")
    return True
