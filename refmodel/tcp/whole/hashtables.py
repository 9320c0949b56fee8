"""Where sockets are found: established connections, listeners, bound ports, and the timers of finished connections.

The law: `Net.ehash` has one object for one connection, keyed (peer's address, peer's port, own address, own port), be
it a full socket, a request or a time-wait socket. A listener is found by its port, with its own address before the
wildcard. A port is held by whoever is in its bucket; a second holder must be compatible with every other.
"""

import errno
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import bind, secure
from refmodel.tcp.whole.net import Timer
from refmodel.tcp.whole.sock import RequestSock, Sock, TimewaitSock

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

AF_INET: Final = 2
AF_INET6: Final = 10
TABLE_PERTURB_SIZE: Final = 1 << 16
LISTENING: Final = (b"", 0, b"", 0)

Key = tuple[bytes, int, bytes, int]


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
        and bind.same_address(o.inet_rcv_saddr, sk.inet_rcv_saddr)
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
            if not bind.same_address(sk.inet_rcv_saddr, wanted):
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
    low, high, local_ports = bind.port_range(sk)
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
                    tb = bind.bucket(net, port)
                    tb.fastreuse = tb.fastreuseport = -1
                i = max(i, (net.random() * 8 >> 32) * step)
                net.table_perturb[index] = (net.table_perturb.get(index, 0) + i + step) & 0xFFFFFFFF
                bind.inet_bind_hash(sk, tb, port)
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
        bind.release(tw.net, tw.tw_tb, tw)
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
