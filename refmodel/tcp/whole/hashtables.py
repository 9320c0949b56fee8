"""Where sockets are found: established connections, listeners, bound ports, and the timers of finished connections.

The law: `Net.ehash` has one object for one connection, keyed (peer's address, peer's port, own address, own port), be
it a full socket, a request or a time-wait socket. A listener is found by its port, with its own address before the
wildcard. A port is held by whoever is in its bucket; a second holder must be compatible with every other.
"""

import errno
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import secure
from refmodel.tcp.whole.net import Timer
from refmodel.tcp.whole.sock import RequestSock, Sock, TimewaitSock

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
TABLE_PERTURB_SIZE: Final = 1 << 16
LISTENING: Final = (b"", 0, b"", 0)

Key = tuple[bytes, int, bytes, int]
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


# ---------------------------------------------------------------- bind: net/ipv4/inet_connection_sock.c


def _kind(family: int, addr: bytes) -> str:
    """How a bound address is compared: as IPv4's, as the IPv6 wildcard, or as an IPv6 address."""
    if family == AF_INET or (len(addr) == 4 and not is_any(addr)):
        return "v4"
    return "any" if is_any(addr) else "v6"


def _same(a: bytes, b: bytes) -> bool:
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
    return _same(addr, addr2) or (match1 and is_any(addr)) or (match2 and is_any(addr2))


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
    return _kind(sk.sk_family, sk.inet_rcv_saddr) == _kind(sk2.sk_family, _saddr(sk2)) and _same(
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


def _port_range(sk: Sock) -> tuple[int, int, bool]:
    if sk.local_port_range is not None:
        return (*sk.local_port_range, True)
    return sk.net.p.ip_local_port_range_0, sk.net.p.ip_local_port_range_1, False


@cited("net/ipv4/inet_connection_sock.c:inet_csk_find_open_port")
def inet_csk_find_open_port(sk: Sock) -> int:
    """A free port for bind() without one, odd ones first; 0 if there is none."""
    net = sk.net
    for relax in (False, True) if net.p.ip_autobind_reuse else (False,):
        low, high, _ = _port_range(sk)
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


def _bucket(net: "Net", port: int) -> InetBindBucket:
    tb = net.bhash.get(port)
    if tb is None:
        tb = net.bhash[port] = InetBindBucket(port)
    return tb


def _release(net: "Net", tb: InetBindBucket, owner: Owner) -> None:
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
        tb = _bucket(sk.net, port)
    else:
        tb = _bucket(sk.net, port)
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
        _release(sk.net, tb, sk)


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


# ---------------------------------------------------------------- lookup: net/ipv4/inet_hashtables.c


@cited("net/ipv4/inet_hashtables.c:__inet_lookup_established", "net/ipv6/inet6_hashtables.c:__inet6_lookup_established")
def inet_lookup_established(
    net: "Net", saddr: bytes, sport: int, daddr: bytes, hnum: int
) -> Sock | RequestSock | TimewaitSock | None:
    """What stands for the connection from `saddr`, `sport` to our `daddr`, `hnum`."""
    return net.ehash.get((saddr, sport, daddr, hnum))


@cited("net/ipv4/inet_hashtables.c:inet_lookup_reuseport", "net/core/sock_reuseport.c:reuseport_select_sock")
def inet_lookup_reuseport(net: "Net", sk: Sock, key: Key) -> Sock:
    """Of the listeners that share a port by SO_REUSEPORT, the one that the connection's hash chooses."""
    group = [
        o
        for o in reversed(net.lhash[sk.inet_num])
        if o.sk_reuseport
        and o.sk_family == sk.sk_family
        and o.sk_ipv6only == sk.sk_ipv6only
        and _same(o.inet_rcv_saddr, sk.inet_rcv_saddr)
    ]
    phash = secure.siphash(key[0] + key[1].to_bytes(2, "big") + key[2] + key[3].to_bytes(2, "big"), net.net_secret)
    return group[(phash & 0xFFFFFFFF) * len(group) >> 32]


@cited(
    "net/ipv4/inet_hashtables.c:__inet_lookup_listener",
    "net/ipv4/inet_hashtables.c:compute_score",
    "net/ipv6/inet6_hashtables.c:inet6_lookup_listener",
)
def inet_lookup_listener(net: "Net", saddr: bytes, sport: int, daddr: bytes, hnum: int) -> Sock | None:
    """The listener for a SYN to our `daddr`, `hnum`: bound to that address before any, IPv4's before IPv6's."""
    chain = net.lhash.get(hnum)
    if not chain:
        return None
    v6 = len(daddr) == 16
    for wanted in (daddr, b""):
        best: Sock | None = None
        hiscore = 0
        for sk in chain:
            if not _same(sk.inet_rcv_saddr, wanted):
                continue
            if v6 and (sk.sk_family != AF_INET6 or sk.mapped):
                continue
            if not v6 and sk.sk_ipv6only:
                continue
            score = 2 if not v6 and sk.sk_family == AF_INET else 1
            if score > hiscore:
                if sk.sk_reuseport:
                    return inet_lookup_reuseport(net, sk, (saddr, sport, daddr, hnum))
                best, hiscore = sk, score
        if best is not None:
            return best
    return None


@cited("net/ipv4/inet_hashtables.c:inet_ehash_insert")
def inet_ehash_insert(
    sk: Sock | RequestSock, key: Key, osk: Sock | RequestSock | TimewaitSock | None, check_dup: bool
) -> bool:
    """Puts `sk` in, in place of `osk` if given; False if that one had gone, or if another stands for the connection."""
    ehash = sk.net.ehash
    if osk is not None:
        if osk.sk_hash is None:
            return False
        osk.sk_hash = None
    elif check_dup and key in ehash:
        return False
    ehash[key] = sk
    sk.sk_hash = key
    return True


def sk_key(sk: Sock) -> Key:
    """The connection of a full socket as ehash is keyed."""
    return sk.inet_daddr, sk.inet_dport, sk.inet_rcv_saddr, sk.inet_num


@cited("net/ipv4/inet_hashtables.c:inet_ehash_nolisten")
def inet_ehash_nolisten(sk: Sock, osk: Sock | RequestSock | TimewaitSock | None, check_dup: bool) -> bool:
    """Puts a connection in; a socket that can't be put in is destroyed."""
    from refmodel.tcp.whole import listen

    if inet_ehash_insert(sk, sk_key(sk), osk, check_dup):
        return True
    sk.net.orphan_count += 1
    sk.sk_state = St.CLOSE
    sk.sk_flags.add("SOCK_DEAD")
    listen.inet_csk_destroy_sock(sk)
    return False


@cited("net/ipv4/inet_hashtables.c:__inet_hash", "net/ipv4/inet_hashtables.c:inet_hash")
def inet_hash(sk: Sock) -> int:
    """Makes a socket findable: as a listener, or as its connection."""
    if sk.sk_state == St.CLOSE:
        return 0
    if sk.sk_state != St.LISTEN:
        inet_ehash_nolisten(sk, None, False)
        return 0
    chain = sk.net.lhash.setdefault(sk.inet_num, [])
    if sk.sk_reuseport and sk.sk_family == AF_INET6:
        chain.append(sk)
    else:
        chain.insert(0, sk)
    sk.sk_hash = LISTENING
    return 0


@cited("net/ipv4/inet_hashtables.c:inet_unhash")
def inet_unhash(sk: Sock) -> None:
    """Makes a socket unfindable."""
    if sk.sk_hash is None:
        return
    net = sk.net
    if sk.sk_hash == LISTENING:
        chain = net.lhash[sk.inet_num]
        chain.remove(sk)
        if not chain:
            del net.lhash[sk.inet_num]
    elif net.ehash.get(sk.sk_hash) is sk:
        del net.ehash[sk.sk_hash]
    sk.sk_hash = None


# ---------------------------------------------------------------- connect: net/ipv4/inet_hashtables.c


@cited("net/ipv4/inet_hashtables.c:__inet_check_established", "net/ipv6/inet6_hashtables.c:__inet6_check_established")
def inet_check_established(sk: Sock, lport: int, twp: bool) -> tuple[int, TimewaitSock | None]:
    """Takes the pair of addresses with `lport` for `sk`, reusing a time-wait socket if that is safe.

    The result is 0 or -EADDRNOTAVAIL, and the time-wait socket that has to be ended.
    """
    from refmodel.tcp.whole import ipv4

    net = sk.net
    key = (sk.inet_daddr, sk.inet_dport, sk.inet_rcv_saddr, lport)
    sk2 = net.ehash.get(key)
    tw: TimewaitSock | None = None
    if sk2 is not None:
        if not isinstance(sk2, TimewaitSock) or not ipv4.tcp_twsk_unique(sk, sk2, twp):
            return -errno.EADDRNOTAVAIL, None
        tw = sk2
    sk.inet_num = lport
    sk.inet_sport = lport
    if tw is not None:
        tw.sk_hash = None
        net.count("TcpExtTWRecycled")
    net.ehash[key] = sk
    sk.sk_hash = key
    if tw is not None and not twp:
        inet_twsk_deschedule_put(tw)
    return 0, tw


@cited("net/ipv4/inet_hashtables.c:__inet_hash_connect", "RFC 6056 3.3.4")
def inet_hash_connect(sk: Sock) -> int:
    """Finds a local port for connect() if it has none, even ones first, and makes the connection findable."""
    net = sk.net
    if sk.inet_num:
        return inet_check_established(sk, sk.inet_num, False)[0]
    port_offset = secure.secure_port_ephemeral(net, sk.inet_rcv_saddr, sk.inet_daddr, sk.inet_dport)
    low, high, local_ports = _port_range(sk)
    step = 1 if local_ports else 2
    high += 1
    remaining = high - low
    if not local_ports and remaining > 1:
        remaining &= ~1
    index = port_offset & (TABLE_PERTURB_SIZE - 1)
    offset = (net.table_perturb.get(index, 0) + (port_offset >> 32)) % remaining
    if not local_ports:
        offset &= ~1
    for first in (offset,) if local_ports else (offset, offset + 1):
        port = low + first
        for i in range(0, remaining, step):
            if port >= high:
                port -= remaining
            tb = net.bhash.get(port)
            tw: TimewaitSock | None = None
            free = tb is None
            if tb is not None and tb.fastreuse < 0 and tb.fastreuseport < 0:
                err, tw = inet_check_established(sk, port, True)
                free = err == 0
            if free:
                if tb is None:
                    tb = _bucket(net, port)
                    tb.fastreuse = tb.fastreuseport = -1
                i = max(i, (net.random() * 8 >> 32) * step)
                net.table_perturb[index] = (net.table_perturb.get(index, 0) + i + step) & 0xFFFFFFFF
                inet_bind_hash(sk, tb, port)
                if sk.sk_hash is None:
                    sk.inet_sport = port
                    inet_ehash_nolisten(sk, None, False)
                if tw is not None:
                    inet_twsk_bind_unhash(tw)
                    inet_twsk_deschedule_put(tw)
                return 0
            port += step
    return -errno.EADDRNOTAVAIL


# ---------------------------------------------------------------- net/ipv4/inet_timewait_sock.c


@cited("net/ipv4/inet_timewait_sock.c:inet_twsk_alloc")
def inet_twsk_alloc(sk: Sock, state: St) -> TimewaitSock | None:
    """A time-wait socket with the identity of `sk`; None if there are too many."""
    net = sk.net
    if net.tw_count >= net.p.tcp_max_tw_buckets:
        return None
    tw = TimewaitSock(net)
    tw.sk_family = sk.sk_family
    tw.tw_daddr = sk.inet_daddr
    tw.tw_rcv_saddr = sk.inet_rcv_saddr
    tw.tw_tos = sk.inet_tos
    tw.tw_num = sk.inet_num
    tw.tw_dport = sk.inet_dport
    tw.tw_substate = state
    tw.tw_reuse = sk.sk_reuse
    tw.tw_reuseport = sk.sk_reuseport
    tw.tw_timer = Timer(net, "timewait", tw_timer_handler, tw)
    return tw


@cited("net/ipv4/inet_timewait_sock.c:inet_twsk_hashdance_schedule")
def inet_twsk_hashdance_schedule(tw: TimewaitSock, sk: Sock, timeo: int) -> None:
    """The time-wait socket takes the place of `sk`, for `timeo` jiffies, and holds its port too."""
    tw.tw_tb = sk.icsk_bind_hash
    if tw.tw_tb is not None:
        tw.tw_tb.owners.append(tw)
    if sk.sk_hash is not None:
        tw.sk_hash, sk.sk_hash = sk.sk_hash, None
        tw.net.ehash[tw.sk_hash] = tw
    inet_twsk_schedule(tw, timeo, False)


@cited("net/ipv4/inet_timewait_sock.c:__inet_twsk_schedule")
def inet_twsk_schedule(tw: TimewaitSock, timeo: int, rearm: bool) -> None:
    """Starts a time-wait socket's time anew; at its first start it is counted."""
    net = tw.net
    if not rearm:
        net.count("TcpExtTWKilled" if timeo <= 4 * net.hz else "TcpExtTW")
        tw.tw_timer.mod(net.jiffies + timeo)
        net.tw_count += 1
    elif tw.tw_timer.pending:
        tw.tw_timer.mod(net.jiffies + timeo)


def inet_twsk_reschedule(tw: TimewaitSock, timeo: int) -> None:
    """Starts its time anew; source include/net/inet_timewait_sock.h:inet_twsk_reschedule."""
    inet_twsk_schedule(tw, timeo, True)


def inet_twsk_bind_unhash(tw: TimewaitSock) -> None:
    """It no longer holds its port; source net/ipv4/inet_timewait_sock.c:inet_twsk_bind_unhash."""
    if tw.tw_tb is not None:
        _release(tw.net, tw.tw_tb, tw)
        tw.tw_tb = None


@cited("net/ipv4/inet_timewait_sock.c:inet_twsk_kill")
def inet_twsk_kill(tw: TimewaitSock) -> None:
    """Ends a time-wait socket: neither its connection nor its port is remembered."""
    net = tw.net
    if tw.sk_hash is not None and net.ehash.get(tw.sk_hash) is tw:
        del net.ehash[tw.sk_hash]
    tw.sk_hash = None
    inet_twsk_bind_unhash(tw)
    net.tw_count -= 1


@cited("net/ipv4/inet_timewait_sock.c:tw_timer_handler")
def tw_timer_handler(tw: TimewaitSock) -> None:
    """Its time is over."""
    tw.net.cause = ""
    inet_twsk_kill(tw)


@cited("net/ipv4/inet_timewait_sock.c:inet_twsk_deschedule_put")
def inet_twsk_deschedule_put(tw: TimewaitSock) -> None:
    """Ends a time-wait socket before its time."""
    if tw.tw_timer.pending:
        tw.tw_timer.stop()
        inet_twsk_kill(tw)
