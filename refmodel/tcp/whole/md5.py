"""TCP MD5 signatures (RFC 2385): keys by peer, the digest, and what happens to segments that lack it.

The law: a socket with a key for a peer signs every segment to it and drops every segment from it that isn't signed; a
signature without a key is dropped too. The digest covers addresses, header without options and checksum, data and key.
"""

import errno
import hashlib
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.whole.skb import Packet, Skb
from refmodel.tcp.whole.sock import RequestSock, Sock
from refmodel.tcp.whole.tcp_h import tcp_hdrlen

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

AF_INET: Final = 2
AF_INET6: Final = 10
TCP_MD5SIG_EXT: Final = 32
TCP_MD5SIG_MAXKEYLEN: Final = 80
TCP_MD5SIG_FLAG_PREFIX: Final = 1
TCP_MD5SIG_FLAG_IFINDEX: Final = 2
SIZEOF_TCP_MD5SIG: Final = 216
SIZEOF_KEY: Final = 136  # struct tcp_md5sig_key as charged to sk_omem_alloc
MAPPED: Final = bytes(10) + b"\xff\xff"
PSEUDO: Final = bytes(3) + b"\x06"


class Md5Key:
    """struct tcp_md5sig_key: a key for the peers within a prefix."""

    __slots__ = ("addr", "family", "flags", "key", "prefixlen")

    def __init__(self, family: int, addr: bytes, prefixlen: int, flags: int, key: bytes) -> None:
        self.family = family
        self.addr = addr
        self.prefixlen = prefixlen
        self.flags = flags
        self.key = key


def _prefix(addr: bytes, prefixlen: int) -> int:
    return int.from_bytes(addr, "big") >> (8 * len(addr) - prefixlen)


@cited("net/ipv4/tcp_ipv4.c:__tcp_md5_do_lookup", "net/ipv4/tcp_ipv4.c:better_md5_match")
def tcp_md5_do_lookup(sk: Sock, addr: bytes) -> Md5Key | None:
    """The key for a peer: the one with the longest prefix."""
    best: Md5Key | None = None
    for key in sk.md5sig_info or ():
        if len(key.addr) != len(addr) or _prefix(key.addr, key.prefixlen) != _prefix(addr, key.prefixlen):
            continue
        if best is None or best.prefixlen < key.prefixlen:
            best = key
    return best


def tcp_md5_lookup(sk: Sock, addr_sk: Sock | RequestSock) -> Md5Key | None:
    """A socket's key for the peer of another; source net/ipv4/tcp_ipv4.c:tcp_v4_md5_lookup."""
    addr = addr_sk.inet_daddr if isinstance(addr_sk, Sock) else addr_sk.ir_rmt_addr
    return tcp_md5_do_lookup(sk, addr) if addr else None


def tcp_get_current_key(sk: Sock) -> Md5Key | None:
    """The key that signs what the connection sends; source include/net/tcp.h:tcp_get_current_key."""
    return tcp_md5_lookup(sk, sk) if sk.md5sig_info is not None else None


def tcp_rsk_md5_key(sk: Sock, req: RequestSock) -> Md5Key | None:
    """The listener's key for a request's peer; source include/net/tcp.h:tcp_request_sock_ops.req_md5_lookup."""
    return tcp_md5_lookup(sk, req)


@cited("net/ipv4/tcp_ipv4.c:tcp_md5sig_info_add")
def tcp_md5sig_info_add(sk: Sock) -> None:
    """Prepares a socket for keys; it no longer sends super-segments."""
    sk.sk_gso_max_segs = 1
    sk.md5sig_info = []
    sk.net.tcp_md5_needed = True


@cited("net/ipv4/tcp_ipv4.c:tcp_md5_do_add", "net/ipv4/tcp_ipv4.c:tcp_md5_do_lookup_exact")
def tcp_md5_do_add(sk: Sock, addr: bytes, prefixlen: int, flags: int, newkey: bytes) -> int:
    """Adds a key or changes the one for the same prefix."""
    if sk.md5sig_info is None:
        tcp_md5sig_info_add(sk)
    for key in sk.md5sig_info:
        if key.addr == addr and key.prefixlen == prefixlen and key.flags == flags:
            key.key = newkey
            return 0
    sk.sk_omem_alloc += SIZEOF_KEY
    sk.md5sig_info.insert(0, Md5Key(AF_INET6 if len(addr) == 16 else AF_INET, addr, prefixlen, flags, newkey))
    return 0


@cited("net/ipv4/tcp_ipv4.c:tcp_md5_do_del")
def tcp_md5_do_del(sk: Sock, addr: bytes, prefixlen: int, flags: int) -> int:
    """Removes a key: 0, or -ENOENT."""
    for key in sk.md5sig_info or ():
        if key.addr == addr and key.prefixlen == prefixlen and key.flags == flags:
            sk.md5sig_info.remove(key)
            sk.sk_omem_alloc -= SIZEOF_KEY
            return 0
    return -errno.ENOENT


def tcp_md5_key_copy(sk: Sock, addr: bytes, key: Md5Key) -> None:
    """Gives a child the listener's key for its peer; source net/ipv4/tcp_ipv4.c:tcp_md5_key_copy."""
    tcp_md5_do_add(sk, addr, 8 * len(addr), key.flags, key.key)


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_parse_md5_keys", "net/ipv6/tcp_ipv6.c:tcp_v6_parse_md5_keys")
def tcp_parse_md5_keys(sk: Sock, optname: int, optval: bytes) -> int:
    """Adds, changes or removes a key as setsockopt says (struct tcp_md5sig): 0, or a negative errno."""
    if len(optval) < SIZEOF_TCP_MD5SIG:
        return -errno.EINVAL
    family = int.from_bytes(optval[:2], "little")
    if family != sk.sk_family:
        return -errno.EINVAL
    tcpm_flags, tcpm_prefixlen = optval[128], optval[129]
    keylen = int.from_bytes(optval[130:132], "little")
    ifindex = int.from_bytes(optval[132:136], "little")
    addr = optval[4:8] if family == AF_INET else optval[8:24]
    if addr[:12] == MAPPED and len(addr) == 16:
        addr = addr[12:]
    prefixlen = 8 * len(addr)
    if optname == TCP_MD5SIG_EXT and tcpm_flags & TCP_MD5SIG_FLAG_PREFIX:
        if tcpm_prefixlen > prefixlen:
            return -errno.EINVAL
        prefixlen = tcpm_prefixlen
    if optname == TCP_MD5SIG_EXT and ifindex and tcpm_flags & TCP_MD5SIG_FLAG_IFINDEX:
        return -errno.EINVAL
    flags = tcpm_flags & TCP_MD5SIG_FLAG_IFINDEX
    if not keylen:
        return tcp_md5_do_del(sk, addr, prefixlen, flags)
    if keylen > TCP_MD5SIG_MAXKEYLEN:
        return -errno.EINVAL
    return tcp_md5_do_add(sk, addr, prefixlen, flags, optval[136 : 136 + keylen])


# ---------------------------------------------------------------- the digest


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_md5_hash_skb", "net/ipv6/tcp_ipv6.c:tcp_v6_md5_hash_skb", "RFC 2385 2.0")
def digest(key: bytes, packet: Packet) -> bytes:
    """The signature of a segment whose data are zeros and whose options are complete but for the digest's value."""
    hdrlen = tcp_hdrlen(packet)
    length = hdrlen + packet.len
    if len(packet.saddr) == 16:
        pseudo = packet.saddr + packet.daddr + length.to_bytes(4, "big") + PSEUDO
    else:
        pseudo = packet.saddr + packet.daddr + b"\x00\x06" + (length & 0xFFFF).to_bytes(2, "big")
    header = (
        packet.sport.to_bytes(2, "big")
        + packet.dport.to_bytes(2, "big")
        + packet.seq.to_bytes(4, "big")
        + packet.ack_seq.to_bytes(4, "big")
        + (hdrlen << 10 | packet.flags & 0x1FF).to_bytes(2, "big")
        + packet.window.to_bytes(2, "big")
        + bytes(2)
        + packet.urg_ptr.to_bytes(2, "big")
    )
    return hashlib.md5(pseudo + header + bytes(packet.len) + key, usedforsecurity=False).digest()


def calc_md5_hash(key: Md5Key, sk: Sock | RequestSock | None, packet: Packet) -> bytes:
    """Signs a segment that leaves; source include/net/tcp.h:tcp_sock_af_ops.calc_md5_hash."""
    opts = packet.opts
    opts.md5 = digest(key.key, packet)
    return opts.md5


# ---------------------------------------------------------------- segments that arrive


@cited("net/ipv4/tcp.c:tcp_inbound_hash", "net/ipv4/tcp.c:tcp_inbound_md5_hash", "RFC 2385 2.0")
def tcp_inbound_hash(net: "Net", sk: Sock, skb: Skb) -> str:
    """Why a segment is dropped for its signature: there is none, there should be none, it is wrong; or ""."""
    packet = skb.packet
    assert packet is not None
    md5_location = packet.opts.md5 is not None
    if not md5_location and sk.md5sig_info is None:
        return ""
    key = tcp_md5_do_lookup(sk, packet.saddr)
    if not md5_location:
        if key is not None:
            net.count("TcpExtTCPMD5NotFound")
            return "TCP_MD5NOTFOUND"
        return ""
    if key is None:
        net.count("TcpExtTCPMD5Unexpected")
        return "TCP_MD5UNEXPECTED"
    if not packet.md5_ok:
        net.count("TcpExtTCPMD5Failure")
        return "TCP_MD5FAILURE"
    return ""
