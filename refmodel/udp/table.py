"""Which UDP socket has a port, and which one a datagram is for.

The law: a datagram goes to the socket that says most about it: one connected to its sender before one bound to its
destination, and that before one bound to none. Of equal sockets the last bound is taken, but for those that share a
port by SO_REUSEPORT: a hash of the addresses chooses among them.
"""

import errno
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.whole import bind
from refmodel.udp.sock import AF_INET, AF_INET6, UdpSock

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

UDP_HTABLE_SIZE: Final = 256


def _equal(sk: UdpSock, sk2: UdpSock) -> bool:
    return bind.rcv_saddr_equal(
        sk.sk_family, sk.inet_rcv_saddr, sk.sk_ipv6only, sk2.sk_family, sk2.inet_rcv_saddr, sk2.sk_ipv6only, True, True
    )


def _devices_meet(sk: UdpSock, sk2: UdpSock) -> bool:
    mine, other = sk.inet_opts.get("bound_dev_if", 0), sk2.inet_opts.get("bound_dev_if", 0)
    return not mine or not other or mine == other


@cited("net/ipv4/udp.c:udp_lib_lport_inuse")
def udp_lib_lport_inuse(net: "Net", num: int, sk: UdpSock) -> bool:
    """Another socket is in the way of `sk` on a port."""
    for sk2 in net.udp_table.get(num, ()):
        if sk2 is sk or (sk2.sk_reuse and sk.sk_reuse) or not _devices_meet(sk, sk2) or not _equal(sk, sk2):
            continue
        return not (sk2.sk_reuseport and sk.sk_reuseport)
    return False


@cited("net/ipv4/udp.c:udp_lib_get_port")
def udp_lib_get_port(sk: UdpSock, snum: int) -> int:
    """Binds a socket to a port, to a random free one if `snum` is 0: 0, or -EADDRINUSE."""
    net = sk.net
    if not snum:
        low, high, _ = bind.port_range(sk)
        remaining = high - low + 1
        rand = net.random()
        first = (rand * remaining >> 32) + low
        step = (rand | 1) * UDP_HTABLE_SIZE & 0xFFFF
        for start in range(first, first + UDP_HTABLE_SIZE):
            snum = start & 0xFFFF
            while True:
                if low <= snum <= high and not udp_lib_lport_inuse(net, snum, sk):
                    return _found(sk, snum)
                snum = snum + step & 0xFFFF
                if snum == start & 0xFFFF:
                    break
        return -errno.EADDRINUSE
    if udp_lib_lport_inuse(net, snum, sk):
        net.note("udp_lib_get_port", f"port {snum} is in use")
        return -errno.EADDRINUSE
    return _found(sk, snum)


def _found(sk: UdpSock, snum: int) -> int:
    sk.inet_num = snum
    if not sk.hashed:
        sk.hashed = True
        slot = sk.net.udp_table.setdefault(snum, [])
        # IPv6 sockets that share a port stand last, others first: the newest is found first.
        if sk.sk_reuseport and sk.sk_family == AF_INET6:
            slot.append(sk)
        else:
            slot.insert(0, sk)
    return 0


@cited("net/ipv4/udp.c:udp_lib_unhash")
def udp_lib_unhash(sk: UdpSock) -> None:
    """The socket gives its port up."""
    if not sk.hashed:
        return
    sk.hashed = False
    slot = sk.net.udp_table[sk.inet_num]
    slot.remove(sk)
    if not slot:
        del sk.net.udp_table[sk.inet_num]
    sk.inet_num = 0


def _bound(sk: UdpSock, daddr: bytes | None) -> bool:
    """The socket is bound to `daddr`, to no address where that is None."""
    own = sk.inet_rcv_saddr
    return bind.is_any(own) if daddr is None else own == daddr


@cited("net/ipv4/udp.c:compute_score", "net/ipv6/udp.c:compute_score")
def compute_score(sk: UdpSock, saddr: bytes, sport: int, daddr: bytes, any_address: bool) -> int:
    """How much a socket says about a datagram, -1 if it is for another one."""
    v6 = len(daddr) == 16
    if v6 and sk.sk_family != AF_INET6:
        return -1
    if not v6 and sk.sk_family == AF_INET6 and sk.sk_ipv6only:
        return -1
    own = sk.inet_rcv_saddr
    # The wildcard that an IPv6 socket was given as ::ffff:0.0.0.0 is IPv4's only.
    if v6 and len(own) == 4:
        return -1
    if not _bound(sk, None if any_address else daddr):
        return -1
    score = 0 if v6 else 2 if sk.sk_family == AF_INET else 1
    step = 1 if v6 else 4
    if sk.inet_daddr:
        if sk.inet_daddr != saddr:
            return -1
        score += step
    if sk.inet_dport:
        if sk.inet_dport != sport:
            return -1
        score += step
    if sk.inet_opts.get("bound_dev_if", 0):
        score += step
    return score


@cited("net/ipv4/udp.c:udp4_lib_lookup2", "net/core/sock_reuseport.c:reuseport_select_sock")
def _lookup2(net: "Net", saddr: bytes, sport: int, daddr: bytes, dport: int, any_address: bool) -> UdpSock | None:
    """The best of those bound to the destination, or of those bound to no address."""
    best: UdpSock | None = None
    badness = 0 if len(daddr) == 4 else -1
    slot: list[UdpSock] = net.udp_table.get(dport, [])
    for sk in slot:
        score = compute_score(sk, saddr, sport, daddr, any_address)
        if score <= badness:
            continue
        badness, best = score, sk
        if sk.sk_reuseport and not sk.inet_daddr:
            group = [s for s in reversed(slot) if s.sk_reuseport and not s.inet_daddr and _equal(sk, s)]
            best = group[flow_hash(saddr, sport, daddr, dport) * len(group) >> 32]
    return best


def flow_hash(saddr: bytes, sport: int, daddr: bytes, dport: int) -> int:
    """A hash of the four-tuple (the kernel's has a random key): FNV-1a."""
    value = 0x811C9DC5
    for byte in saddr + daddr + sport.to_bytes(2, "big") + dport.to_bytes(2, "big"):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


@cited("net/ipv4/udp.c:__udp4_lib_lookup", "net/ipv6/udp.c:__udp6_lib_lookup")
def udp_lib_lookup(net: "Net", saddr: bytes, sport: int, daddr: bytes, dport: int) -> UdpSock | None:
    """The socket for a datagram: those bound to its destination first, then those bound to any address."""
    result = _lookup2(net, saddr, sport, daddr, dport, False)
    return result if result is not None else _lookup2(net, saddr, sport, daddr, dport, True)


__all__ = ["compute_score", "flow_hash", "udp_lib_get_port", "udp_lib_lookup", "udp_lib_lport_inuse", "udp_lib_unhash"]
