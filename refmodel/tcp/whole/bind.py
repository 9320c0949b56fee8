"""Ports: who holds one, who may hold it together with others, which one is free.

The law: a port is held by whoever is in its bucket. A second holder of the same address must be compatible with every
other: all have SO_REUSEADDR and none listens, or all have SO_REUSEPORT.
"""

import errno
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole.sock import InetSock, Sock, TimewaitSock

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

AF_INET: Final = 2
AF_INET6: Final = 10
SK_CAN_REUSE: Final = 1
SK_FORCE_REUSE: Final = 2
FASTREUSEPORT_ANY: Final = 1
FASTREUSEPORT_STRICT: Final = 2
SOCK_BINDADDR_LOCK: Final = 4
SOCK_BINDPORT_LOCK: Final = 8

Owner = Sock | TimewaitSock


class InetBindBucket:
    """struct inet_bind_bucket: a bound port, its holders, and what is known of all of them at once."""

    __slots__ = ("fast_ipv6_only", "fast_rcv_saddr", "fast_sk_family", "fastreuse", "fastreuseport", "owners", "port")

    def __init__(self, port: int) -> None:
        self.port = port
        self.owners: list[Owner] = []
        self.fastreuse = 0
        self.fastreuseport = 0
        self.fast_sk_family = AF_INET
        self.fast_rcv_saddr = b""
        self.fast_ipv6_only = False


def is_any(addr: bytes) -> bool:
    """The wildcard address, or none at all."""
    return not any(addr)


def _saddr(sk: Owner) -> bytes:
    return sk.inet_rcv_saddr if isinstance(sk, Sock) else sk.tw_rcv_saddr


def _v6only(sk: Owner) -> bool:
    return sk.sk_ipv6only if isinstance(sk, Sock) else sk.tw_ipv6only


def _reuse(sk: Owner) -> int:
    return sk.sk_reuse if isinstance(sk, Sock) else sk.tw_reuse


def _reuseport(sk: Owner) -> int:
    return sk.sk_reuseport if isinstance(sk, Sock) else sk.tw_reuseport


def _kind(family: int, addr: bytes) -> str:
    """How a bound address is compared: as IPv4's, as the IPv6 wildcard, or as an IPv6 address."""
    if family == AF_INET or (len(addr) == 4 and not is_any(addr)):
        return "v4"
    return "any" if is_any(addr) else "v6"


def same_address(a: bytes, b: bytes) -> bool:
    """Equal, or both the wildcard."""
    return a == b or (is_any(a) and is_any(b))


@cited(
    "net/ipv4/inet_connection_sock.c:inet_rcv_saddr_equal",
    "net/ipv4/inet_connection_sock.c:ipv6_rcv_saddr_equal",
    "net/ipv4/inet_connection_sock.c:ipv4_rcv_saddr_equal",
)
def rcv_saddr_equal(
    family: int, addr: bytes, v6only: bool, family2: int, addr2: bytes, v6only2: bool, match1: bool, match2: bool
) -> bool:
    """Two bound addresses could receive the same packet; `match1` and `match2` say whose wildcard counts."""
    if family == AF_INET6:
        kind, kind2 = _kind(family, addr), _kind(family2, addr2)
        if kind != "v4" or kind2 != "v4":
            if kind == kind2 == "any":
                return True
            if kind2 == "any" and match2 and not (v6only2 and kind == "v4"):
                return True
            if kind == "any" and match1 and not (v6only and kind2 == "v4"):
                return True
            return kind == kind2 and addr == addr2
    if v6only2:
        return False
    # An IPv6 socket that isn't bound to an IPv4 address has 0.0.0.0 there.
    addr = addr if len(addr) == 4 else b""
    addr2 = addr2 if len(addr2) == 4 else b""
    return same_address(addr, addr2) or (match1 and is_any(addr)) or (match2 and is_any(addr2))


def inet_rcv_saddr_equal(sk: Sock, sk2: Owner, match_wildcard: bool) -> bool:
    """Both could receive the same packet; source net/ipv4/inet_connection_sock.c:inet_rcv_saddr_equal."""
    return rcv_saddr_equal(
        sk.sk_family, sk.inet_rcv_saddr, sk.sk_ipv6only, sk2.sk_family, _saddr(sk2), _v6only(sk2), match_wildcard,
        match_wildcard,
    )  # fmt: skip


@cited("net/ipv4/inet_connection_sock.c:inet_bind_conflict")
def inet_bind_conflict(sk: Sock, sk2: Owner, relax: bool, reuseport_ok: bool) -> bool:
    """Two sockets on one port and address can't both hold it: without SO_REUSEADDR or SO_REUSEPORT on both."""
    if sk is sk2:
        return False
    if sk.sk_reuse and _reuse(sk2) and sk2.sk_state != St.LISTEN:
        return not relax or bool(not reuseport_ok and sk.sk_reuseport and _reuseport(sk2))
    return not (reuseport_ok and sk.sk_reuseport and _reuseport(sk2))


def inet_use_hash2_on_bind(sk: Sock) -> bool:
    """It is bound to one address; source net/ipv4/inet_connection_sock.c:inet_use_hash2_on_bind."""
    return not is_any(sk.inet_rcv_saddr)


def _conflict_in(sk: Sock, owners: list[Owner], relax: bool, reuseport_ok: bool) -> bool:
    for sk2 in owners:
        if _v6only(sk2) and (sk.sk_family == AF_INET or _kind(sk.sk_family, sk.inet_rcv_saddr) == "v4"):
            continue
        if inet_bind_conflict(sk, sk2, relax, reuseport_ok):
            return True
    return False


def _same_bind2(sk: Sock, sk2: Owner) -> bool:
    """`sk2` is in the bucket of the address that `sk` is bound to."""
    return _kind(sk.sk_family, sk.inet_rcv_saddr) == _kind(sk2.sk_family, _saddr(sk2)) and same_address(
        sk.inet_rcv_saddr, _saddr(sk2)
    )


@cited("net/ipv4/inet_connection_sock.c:inet_csk_bind_conflict")
def inet_csk_bind_conflict(sk: Sock, tb: InetBindBucket, relax: bool, reuseport_ok: bool) -> bool:
    """A holder of the port is in the way of `sk`."""
    if inet_use_hash2_on_bind(sk):
        return _conflict_in(sk, [o for o in tb.owners if _same_bind2(sk, o)], relax, reuseport_ok)
    return any(
        inet_bind_conflict(sk, sk2, relax, reuseport_ok) and inet_rcv_saddr_equal(sk, sk2, True) for sk2 in tb.owners
    )


@cited("net/ipv4/inet_connection_sock.c:inet_bhash2_addr_any_conflict")
def inet_bhash2_addr_any_conflict(sk: Sock, port: int, relax: bool, reuseport_ok: bool) -> bool:
    """A holder of the port on the wildcard address is in the way of `sk`."""
    tb = sk.net.bhash.get(port)
    if tb is None:
        return False
    v6 = _kind(sk.sk_family, sk.inet_rcv_saddr) == "v6"
    owners = [
        o
        for o in tb.owners
        if is_any(_saddr(o)) and (_kind(o.sk_family, _saddr(o)) == "any" or not v6)
    ]  # fmt: skip
    return _conflict_in(sk, owners, relax, reuseport_ok)


def port_range(sk: InetSock) -> tuple[int, int, bool]:
    """The first and the last port to choose from, and whether the socket chose them itself."""
    if sk.local_port_range is not None:
        return (*sk.local_port_range, True)
    return sk.net.p.ip_local_port_range_0, sk.net.p.ip_local_port_range_1, False


@cited("net/ipv4/inet_connection_sock.c:inet_csk_find_open_port")
def inet_csk_find_open_port(sk: Sock) -> int:
    """A free port for bind() without one, odd ones first; 0 if there is none."""
    net = sk.net
    for relax in (False, True) if net.p.ip_autobind_reuse else (False,):
        low, high, _ = port_range(sk)
        high += 1
        if sk.sk_reuse == SK_CAN_REUSE and high - low >= 4:
            half = low + (((high - low) >> 2) << 1)
            parts = [(low, half), (half, high)]
        else:
            parts = [(low, high)]
        for lo, hi in parts:
            remaining = hi - lo
            if remaining > 1:
                remaining &= ~1
            first = (net.random() * remaining >> 32) | 1
            for offset in (first, first - 1):
                port = lo + offset
                for _ in range(0, remaining, 2):
                    if port >= hi:
                        port -= remaining
                    tb = net.bhash.get(port)
                    taken = inet_use_hash2_on_bind(sk) and inet_bhash2_addr_any_conflict(sk, port, relax, False)
                    if not taken and (tb is None or not inet_csk_bind_conflict(sk, tb, relax, False)):
                        return port
                    port += 2
    return 0


def sk_reuseport_match(tb: InetBindBucket, sk: Sock) -> bool:
    """All holders share the port as `sk` would; source net/ipv4/inet_connection_sock.c:sk_reuseport_match."""
    if tb.fastreuseport <= 0 or not sk.sk_reuseport:
        return False
    if tb.fastreuseport == FASTREUSEPORT_ANY:
        return True
    return rcv_saddr_equal(
        tb.fast_sk_family, tb.fast_rcv_saddr, tb.fast_ipv6_only, sk.sk_family, sk.inet_rcv_saddr, sk.sk_ipv6only,
        True, False,
    )  # fmt: skip


@cited("net/ipv4/inet_connection_sock.c:inet_csk_update_fastreuse")
def inet_csk_update_fastreuse(tb: InetBindBucket, sk: Sock) -> None:
    """Notes in the bucket how far all its holders let others in."""
    reuse = int(bool(sk.sk_reuse) and sk.sk_state != St.LISTEN)
    if not tb.owners:
        tb.fastreuse = reuse
        strictness = FASTREUSEPORT_ANY
    else:
        if not reuse:
            tb.fastreuse = 0
        strictness = FASTREUSEPORT_STRICT
    if not sk.sk_reuseport:
        tb.fastreuseport = 0
    elif not tb.owners or not sk_reuseport_match(tb, sk):
        tb.fastreuseport = strictness
        tb.fast_rcv_saddr = sk.inet_rcv_saddr
        tb.fast_ipv6_only = sk.sk_ipv6only
        tb.fast_sk_family = sk.sk_family


def inet_bind_hash(sk: Sock, tb: InetBindBucket, port: int) -> None:
    """`sk` holds the port; source net/ipv4/inet_hashtables.c:inet_bind_hash."""
    sk.inet_num = port
    sk.icsk_bind_hash = tb
    tb.owners.append(sk)


def bucket(net: "Net", port: int) -> InetBindBucket:
    """The port's bucket, a new one if nobody holds it."""
    tb = net.bhash.get(port)
    if tb is None:
        tb = net.bhash[port] = InetBindBucket(port)
    return tb


def release(net: "Net", tb: InetBindBucket, owner: Owner) -> None:
    """`owner` leaves a bucket; an empty one goes."""
    tb.owners.remove(owner)
    if not tb.owners and net.bhash.get(tb.port) is tb:
        del net.bhash[tb.port]


@cited("net/ipv4/inet_connection_sock.c:inet_csk_get_port")
def inet_csk_get_port(sk: Sock, snum: int) -> int:
    """Binds `sk` to a port, to any free one if `snum` is 0: 0, or -EADDRINUSE."""
    reuse = bool(sk.sk_reuse) and sk.sk_state != St.LISTEN
    port = snum
    if not port:
        port = inet_csk_find_open_port(sk)
        if not port:
            return -errno.EADDRINUSE
        tb = bucket(sk.net, port)
    else:
        tb = bucket(sk.net, port)
        check = True
        if tb.owners and (sk.sk_reuse == SK_FORCE_REUSE or (tb.fastreuse > 0 and reuse) or sk_reuseport_match(tb, sk)):
            check = False
        conflict = check and (
            (inet_use_hash2_on_bind(sk) and inet_bhash2_addr_any_conflict(sk, port, True, True))
            or inet_csk_bind_conflict(sk, tb, True, True)
        )
        if conflict:
            sk.net.note("inet_csk_get_port", f"port {port} is in use")
            return -errno.EADDRINUSE
    inet_csk_update_fastreuse(tb, sk)
    if sk.icsk_bind_hash is None:
        inet_bind_hash(sk, tb, port)
    return 0


@cited("net/ipv4/inet_hashtables.c:inet_put_port")
def inet_put_port(sk: Sock) -> None:
    """`sk` no longer holds its port."""
    tb: InetBindBucket | None = sk.icsk_bind_hash
    sk.icsk_bind_hash = None
    sk.inet_num = 0
    if tb is not None:
        release(sk.net, tb, sk)


@cited("net/ipv4/inet_hashtables.c:__inet_inherit_port")
def inet_inherit_port(sk: Sock, child: Sock) -> int:
    """A child holds its listener's port: 0, or -ENOENT if the listener holds none any more."""
    if sk.icsk_bind_hash is None:
        return -errno.ENOENT
    inet_bind_hash(child, sk.icsk_bind_hash, child.inet_num)
    return 0


@cited("net/ipv4/inet_hashtables.c:inet_bhash2_update_saddr")
def inet_bhash2_update_saddr(sk: Sock, saddr: bytes) -> int:
    """The address that routing chose becomes the socket's own."""
    sk.inet_saddr = saddr
    sk.inet_rcv_saddr = saddr
    return 0


@cited("net/ipv4/inet_hashtables.c:inet_bhash2_reset_saddr")
def inet_bhash2_reset_saddr(sk: Sock) -> None:
    """Forgets an address that the application hadn't chosen."""
    if not sk.sk_userlocks & SOCK_BINDADDR_LOCK:
        sk.inet_saddr = sk.inet_rcv_saddr = b""
        sk.mapped = False
