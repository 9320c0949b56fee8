"""Reading and changing a packet's bytes as netfilter does: headers, checksums and their incremental update.

Checksum arithmetic is the kernel's, on 32 bits with the carry brought round, so that the two zeros come out alike.
"""

from typing import Final

from refmodel.netfilter.uapi import IP_MF, IP_OFFSET, IPPROTO_TCP, IPPROTO_UDP, NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING
from refmodel.packet.wire import ones_sum, pseudo_header
from refmodel.rule import cited
from refmodel.skbuff import CHECKSUM_COMPLETE, CHECKSUM_NONE, CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, SkBuff

M32: Final = 0xFFFFFFFF


def u16at(data: bytes | bytearray, at: int) -> int:
    """Two bytes in network order."""
    return data[at] << 8 | data[at + 1]


def u32at(data: bytes | bytearray, at: int) -> int:
    """Four bytes in network order."""
    return int.from_bytes(data[at : at + 4], "big")


def put16(data: bytearray, at: int, value: int) -> None:
    """Writes two bytes in network order."""
    data[at : at + 2] = value.to_bytes(2, "big")


def ip_hdrlen(skb: SkBuff) -> int:
    """Bytes of the IPv4 header."""
    return (skb.data[0] & 0xF) * 4


def saddr(skb: SkBuff) -> bytes:
    """The IPv4 source address."""
    return bytes(skb.data[12:16])


def daddr(skb: SkBuff) -> bytes:
    """The IPv4 destination address."""
    return bytes(skb.data[16:20])


def ip_is_fragment(skb: SkBuff) -> bool:
    """A part of an IPv4 packet; source include/net/ip.h:ip_is_fragment."""
    return bool(u16at(skb.data, 6) & (IP_MF | IP_OFFSET))


def csum_add(csum: int, addend: int) -> int:
    """Source include/net/checksum.h:csum_add."""
    res = csum + addend & M32
    return res + (res < addend) & M32


def csum_sub(csum: int, addend: int) -> int:
    """Source include/net/checksum.h:csum_sub."""
    return csum_add(csum, addend ^ M32)


def csum_fold(csum: int) -> int:
    """Source include/asm-generic/checksum.h:csum_fold."""
    csum = (csum & 0xFFFF) + (csum >> 16)
    csum = (csum & 0xFFFF) + (csum >> 16)
    return csum ^ 0xFFFF


def csum_replace4(check: int, old: int, new: int) -> int:
    """A checksum after four bytes have changed; source include/net/checksum.h:csum_replace4, RFC 1624 3."""
    return csum_fold(csum_add(csum_sub(check ^ M32, old), new))


def csum_replace2(check: int, old: int, new: int) -> int:
    """A checksum after two bytes have changed; source include/net/checksum.h:csum_replace2, RFC 1624 3."""
    return _csum16_add(_csum16_sub(check ^ 0xFFFF, old), new) ^ 0xFFFF


def _csum16_add(csum: int, addend: int) -> int:
    res = csum + addend & 0xFFFF
    return res + (res < addend) & 0xFFFF


def _csum16_sub(csum: int, addend: int) -> int:
    return _csum16_add(csum, addend ^ 0xFFFF)


def inet_proto_csum_replace4(check: int, skb: SkBuff, old: int, new: int, pseudohdr: bool) -> int:
    """A transport checksum after a change; source net/core/utils.c:inet_proto_csum_replace4, RFC 1624 3.

    Of a checksum that the device is to finish only the pseudo-header is summed yet, without its complement.
    """
    if skb.ip_summed != CHECKSUM_PARTIAL:
        return csum_replace4(check, old, new)
    if pseudohdr:
        return csum_fold(csum_add(csum_sub(check, old), new)) ^ 0xFFFF
    return check


def ip_send_check(data: bytearray) -> None:
    """Fills in the IPv4 header's checksum; source net/ipv4/ip_output.c:ip_send_check."""
    put16(data, 10, 0)
    put16(data, 10, ones_sum(bytes(data[: (data[0] & 0xF) * 4])) ^ 0xFFFF)


@cited("net/netfilter/utils.c:nf_ip_checksum")
def nf_ip_checksum(skb: SkBuff, hook: int, dataoff: int, protocol: int) -> bool:
    """Whether the transport checksum is wrong; one that the device or the sender vouches for isn't looked at."""
    if skb.ip_summed == CHECKSUM_UNNECESSARY or skb.ip_summed == CHECKSUM_PARTIAL:
        return False
    if skb.ip_summed == CHECKSUM_COMPLETE and hook not in (NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN):
        return False
    body = bytes(skb.data[dataoff:])
    start = 0
    if protocol in (IPPROTO_TCP, IPPROTO_UDP):
        start = pseudo_header(saddr(skb), daddr(skb), protocol, len(body))
    wrong = ones_sum(body, start) != 0xFFFF
    if not wrong and skb.ip_summed == CHECKSUM_COMPLETE:
        skb.ip_summed = CHECKSUM_UNNECESSARY
    if skb.ip_summed not in (CHECKSUM_NONE, CHECKSUM_COMPLETE, CHECKSUM_UNNECESSARY):
        return False
    return wrong
