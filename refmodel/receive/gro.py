"""GRO: segments of a flow become one packet before the stack sees them.

The law: each NAPI instance holds a few packets in eight buckets by flow hash; a new one is held against those of its
bucket, layer by layer, each layer clearing `same_flow` where its headers differ. What goes up goes through rx_list,
eight segments at a time.

Tunnels' and VLANs' receivers, fraglist GRO and page fragments are left out: such packets go up unmerged.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from refmodel.packet.wire import ones_sum
from refmodel.receive.core import netif_receive_skb_list_internal
from refmodel.receive.env import Env
from refmodel.receive.gro_inet import inet_gro_complete, inet_gro_receive, ipv6_gro_complete, ipv6_gro_receive
from refmodel.receive.gro_skb import GroCb, cb, skb_gro_len, skb_is_gso_tcp
from refmodel.receive.softnet import GRO_HASH_BUCKETS
from refmodel.rule import cited
from refmodel.skbuff import (
    CHECKSUM_COMPLETE,
    CHECKSUM_UNNECESSARY,
    ETH_P_IP,
    ETH_P_IPV6,
    SKB_GSO_DODGY,
    SkBuff,
)

if TYPE_CHECKING:
    from refmodel.receive.softnet import NapiStruct

MAX_GRO_SKBS: Final = 8


class GroResult(IntEnum):
    """enum gro_result: what became of a packet."""

    MERGED = 0
    MERGED_FREE = 1
    HELD = 2
    NORMAL = 3
    CONSUMED = 4


# ----------------------------------------------------------------------------------------------- a packet comes in


@cited("net/core/gro.c:napi_gro_receive")
def napi_gro_receive(env: Env, napi: "NapiStruct", skb: SkBuff) -> GroResult:
    """A driver gives a packet up: it is merged, held, or goes to the stack."""
    env.note("napi_gro_receive", f"{len(skb.data)} bytes from {skb.dev}")
    skb.cb = GroCb()
    return napi_skb_finish(env, napi, skb, dev_gro_receive(env, napi, skb))


@cited("net/core/gro.c:napi_skb_finish")
def napi_skb_finish(env: Env, napi: "NapiStruct", skb: SkBuff, ret: GroResult) -> GroResult:
    """What was neither merged nor held goes to the list for the stack."""
    if ret == GroResult.NORMAL:
        gro_normal_one(env, napi, skb, 1)
    return ret


@cited("net/core/gro.c:dev_gro_receive")
def dev_gro_receive(env: Env, napi: "NapiStruct", skb: SkBuff) -> GroResult:
    """Holds a packet against those of its bucket, and holds, merges or refuses it."""
    bucket = napi.gro_hash[skb.hash & (GRO_HASH_BUCKETS - 1)]
    if skb.dev is None or "generic-receive-offload" not in skb.dev.features:
        env.note("dev_gro_receive", f"GRO is off on {skb.dev}")
        return GroResult.NORMAL
    gro_list_prepare(bucket, skb)
    if skb.protocol not in (ETH_P_IP, ETH_P_IPV6):
        env.note("dev_gro_receive", f"no GRO for protocol {skb.protocol:#06x}")
        return GroResult.NORMAL
    c = cb(skb)
    if skb.is_gso:
        c.count = skb.gso_segs
        if not skb_is_gso_tcp(skb) or skb.gso_type & SKB_GSO_DODGY:
            c.flush = 1
    if skb.ip_summed == CHECKSUM_COMPLETE:
        c.csum = ones_sum(bytes(skb.data))
        c.csum_valid = True
    elif skb.ip_summed == CHECKSUM_UNNECESSARY:
        c.csum_cnt = 1
    receive = ipv6_gro_receive if skb.protocol == ETH_P_IPV6 else inet_gro_receive
    pp = receive(env, bucket, skb)
    if pp is not None:
        bucket.remove(pp)
        napi_gro_complete(env, napi, pp)
    if c.same_flow:
        env.note("dev_gro_receive", "merged")
        return GroResult.MERGED
    if c.flush:
        env.note("dev_gro_receive", "not merged and must not wait: GRO_NORMAL")
        return GroResult.NORMAL
    if len(bucket) >= MAX_GRO_SKBS:
        gro_flush_oldest(env, napi, bucket)
    c.age = env.jiffies
    if not skb.is_gso:
        skb.gso_size = skb_gro_len(skb)
    bucket.insert(0, skb)
    env.note("dev_gro_receive", f"held, {len(bucket)} in its bucket")
    return GroResult.HELD


@cited("net/core/gro.c:gro_list_prepare")
def gro_list_prepare(head: list[SkBuff], skb: SkBuff) -> None:
    """Only a held packet of the same hash, device and link-layer header may be of the same flow."""
    for p in head:
        cb(p).flush = 0
        cb(p).same_flow = p.hash == skb.hash and p.dev is skb.dev and p.mac_header == skb.mac_header


@cited("net/core/gro.c:gro_flush_oldest")
def gro_flush_oldest(env: Env, napi: "NapiStruct", head: list[SkBuff]) -> None:
    """A full bucket gives up its oldest packet."""
    env.note("gro_flush_oldest", f"{len(head)} held: the oldest goes up")
    napi_gro_complete(env, napi, head.pop())


# ------------------------------------------------------------------------------------------------- what goes up


@cited("net/core/gro.c:napi_gro_complete")
def napi_gro_complete(env: Env, napi: "NapiStruct", skb: SkBuff) -> None:
    """A held packet goes up; if it was merged its headers are made those of a super-segment."""
    if cb(skb).count == 1:
        skb.gso_size = 0
        env.note("napi_gro_complete", "one segment: as it came")
    else:
        env.note("napi_gro_complete", f"{cb(skb).count} segments of {skb.gso_size}")
        if skb.protocol == ETH_P_IPV6:
            ipv6_gro_complete(env, skb)
        else:
            inet_gro_complete(env, skb)
    gro_normal_one(env, napi, skb, cb(skb).count)


@cited("net/core/gro.c:napi_gro_flush")
def napi_gro_flush(env: Env, napi: "NapiStruct", flush_old: bool) -> None:
    """All that is held goes up, or what was held before this jiffy, bucket by bucket."""
    for head in napi.gro_hash:
        if head:
            napi_gro_flush_chain(env, napi, head, flush_old)


@cited("net/core/gro.c:__napi_gro_flush_chain")
def napi_gro_flush_chain(env: Env, napi: "NapiStruct", head: list[SkBuff], flush_old: bool) -> None:
    """A bucket's packets go up, the oldest first."""
    while head:
        if flush_old and cb(head[-1]).age == env.jiffies:
            env.note("__napi_gro_flush_chain", "held in this jiffy: it may wait")
            return
        napi_gro_complete(env, napi, head.pop())


@cited("include/net/gro.h:gro_normal_one")
def gro_normal_one(env: Env, napi: "NapiStruct", skb: SkBuff, segs: int) -> None:
    """Puts a packet on the list for the stack, which goes up once it has gro_normal_batch segments."""
    napi.rx_list.append(skb)
    napi.rx_count += segs
    if napi.rx_count >= napi.rx.params.gro_normal_batch:
        gro_normal_list(env, napi)


@cited("include/net/gro.h:gro_normal_list")
def gro_normal_list(env: Env, napi: "NapiStruct") -> None:
    """The list for the stack goes up."""
    if napi.rx_count == 0:
        return
    env.note("gro_normal_list", f"{len(napi.rx_list)} packets of {napi.rx_count} segments")
    skbs, napi.rx_list, napi.rx_count = napi.rx_list, [], 0
    netif_receive_skb_list_internal(napi.rx, skbs)
