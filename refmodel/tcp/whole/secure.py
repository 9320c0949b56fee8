"""Keyed hashes: SipHash, initial sequence numbers, timestamp offsets, ephemeral ports.

The law: a hash depends on its key and its input alone, so equal connections get equal numbers, moved on by the clock.
The namespace's key is fixed; what a script can compare (fast open cookies) is keyed by the script.
"""

from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.types import M32

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

M64: Final = 0xFFFFFFFFFFFFFFFF
EPHEMERAL_PORT_SHUFFLE_PERIOD: Final = 10  # seconds


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = (v0 + v1) & M64
    v1 = ((v1 << 13) | (v1 >> 51)) & M64 ^ v0
    v0 = ((v0 << 32) | (v0 >> 32)) & M64
    v2 = (v2 + v3) & M64
    v3 = ((v3 << 16) | (v3 >> 48)) & M64 ^ v2
    v0 = (v0 + v3) & M64
    v3 = ((v3 << 21) | (v3 >> 43)) & M64 ^ v0
    v2 = (v2 + v1) & M64
    v1 = ((v1 << 17) | (v1 >> 47)) & M64 ^ v2
    v2 = ((v2 << 32) | (v2 >> 32)) & M64
    return v0, v1, v2, v3


@cited("lib/siphash.c:__siphash_aligned")
def siphash(data: bytes, key: bytes) -> int:
    """SipHash-2-4 of `data` under a key of 16 bytes, as a 64-bit number."""
    k0 = int.from_bytes(key[:8], "little")
    k1 = int.from_bytes(key[8:16], "little")
    v = (k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573)
    tail = len(data) & ~7
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, tail, 8)]
    words.append(((len(data) & 0xFF) << 56) | int.from_bytes(data[tail:], "little"))
    for m in words:
        v = (v[0], v[1], v[2], v[3] ^ m)
        v = _round(*_round(*v))
        v = (v[0] ^ m, v[1], v[2], v[3])
    v = (v[0], v[1], v[2] ^ 0xFF, v[3])
    for _ in range(4):
        v = _round(*v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _ports(sport: int, dport: int) -> bytes:
    return sport.to_bytes(2, "big") + dport.to_bytes(2, "big")


@cited("net/core/secure_seq.c:secure_tcp_seq_and_ts_off", "net/core/secure_seq.c:seq_scale", "RFC 6528 3")
def secure_tcp_seq_and_ts_off(net: "Net", saddr: bytes, daddr: bytes, sport: int, dport: int) -> tuple[int, int]:
    """A connection's initial sequence number, which moves on by one in 64 ns, and its timestamp offset."""
    hash64 = siphash(saddr + daddr + _ports(sport, dport), net.net_secret)
    ts_off = hash64 >> 32 if net.p.tcp_timestamps == 1 else 0
    return ((hash64 & M32) + (net.now * 1000 >> 6)) & M32, ts_off


@cited("net/core/secure_seq.c:secure_ipv4_port_ephemeral", "RFC 6056 3.3.4")
def secure_port_ephemeral(net: "Net", saddr: bytes, daddr: bytes, dport: int) -> int:
    """Where the search for a local port begins, by peer."""
    period = net.jiffies // (EPHEMERAL_PORT_SHUFFLE_PERIOD * net.hz)
    return siphash(saddr + daddr + _ports(0, dport) + (period & M32).to_bytes(4, "little"), net.net_secret)
