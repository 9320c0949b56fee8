"""SipHash-2-4 as the kernel uses it, and the flow hash that multipath routes divide by."""

from typing import Final

from refmodel.rule import cited

M64: Final = (1 << 64) - 1
GOLDEN_RATIO_64: Final = 0x61C8864680B583EB


def _rotl(x: int, n: int) -> int:
    return (x << n | x >> (64 - n)) & M64


def siphash(data: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4 of `data` under a key of two 64-bit words; source lib/siphash.c:__siphash_aligned."""
    v0 = key[0] ^ 0x736F6D6570736575
    v1 = key[1] ^ 0x646F72616E646F6D
    v2 = key[0] ^ 0x6C7967656E657261
    v3 = key[1] ^ 0x7465646279746573
    whole = len(data) & ~7
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, whole, 8)]
    words.append((len(data) & 0xFF) << 56 | int.from_bytes(data[whole:], "little"))
    for m in words:
        v3 ^= m
        v0, v1, v2, v3 = _round(*_round(v0, v1, v2, v3))
        v0 ^= m
    v2 ^= 0xFF
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = (v0 + v1) & M64
    v1 = _rotl(v1, 13) ^ v0
    v0 = _rotl(v0, 32)
    v2 = (v2 + v3) & M64
    v3 = _rotl(v3, 16) ^ v2
    v0 = (v0 + v3) & M64
    v3 = _rotl(v3, 21) ^ v0
    v2 = (v2 + v1) & M64
    v1 = _rotl(v1, 17) ^ v2
    v2 = _rotl(v2, 32)
    return v0, v1, v2, v3


def hash_64(val: int, bits: int) -> int:
    """The upper `bits` bits of a multiplicative hash; source include/linux/hash.h:hash_64."""
    return (val * GOLDEN_RATIO_64 & M64) >> (64 - bits)


@cited("net/core/flow_dissector.c:__flow_hash_from_keys")
def flow_hash_from_keys(src: bytes, dst: bytes, proto: int, sport: int, dport: int, seed: int, label: int = 0) -> int:
    """The 32-bit hash of a flow under a seed; both directions of a flow have the same.

    `src` and `dst` are 4 or 16 bytes. Addresses are swapped into order, and so are ports, each for themselves, compared
    as a little-endian machine reads them (IPv6 addresses as bytes).
    """
    if (dst[::-1] < src[::-1]) if len(src) == 4 else (dst < src):
        src, dst = dst, src
    sp, dp = sport.to_bytes(2, "big"), dport.to_bytes(2, "big")
    if int.from_bytes(dp, "little") < int.from_bytes(sp, "little"):
        sp, dp = dp, sp
    # struct flow_keys from `basic` on: protocol, flow label, two VLAN tags, key id, ports, ICMP, addresses, padding.
    keys = bytes((0, 0, proto, 0)) + label.to_bytes(4, "little") + bytes(20) + sp + dp + bytes(4) + src + dst + bytes(4)
    return (siphash(keys, (seed << 32 | seed, seed << 32 | seed)) & 0xFFFFFFFF) or 1
