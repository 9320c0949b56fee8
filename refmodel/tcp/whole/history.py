"""What is true of a connection over time, and of what its two ends put on the wire.

`invariants` holds a socket against itself; here it is held against what it was before, and against the segments that
left and arrived. `History` looks at a host's sockets after each event. `Wire` sees every segment as it leaves and as it
arrives, and knows of the connection only what stands in the segments. Both keep the names of the laws that were broken.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from refmodel.tcp.state import St
from refmodel.tcp.whole.const import ACK, FIN, RST, SYN
from refmodel.tcp.whole.invariants import LAWS, NET_LAWS, OPEN, dist, sockets
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.skb import Packet
from refmodel.tcp.whole.sock import Sock
from refmodel.types import add

# ---------------------------------------------------------------- a socket and what it was


class Was(Struct, frozen=True):
    """A socket at the last look."""

    state: St
    snd_una: int
    snd_nxt: int
    write_seq: int
    rcv_nxt: int
    copied_seq: int
    edge: int  # rcv_wup + rcv_wnd
    sums: tuple[int, ...]


StepLaw = Callable[[Was, Sock], bool]
STEP_LAWS: Final[list[StepLaw]] = []
SUMS: Final = (
    "bytes_sent",
    "bytes_acked",
    "bytes_received",
    "bytes_retrans",
    "segs_out",
    "segs_in",
    "data_segs_out",
    "data_segs_in",
    "delivered",
    "total_retrans",
)
# Where a connection's state may lead within one event; all may end in CLOSE (net/ipv4/tcp.c:tcp_set_state). TIME_WAIT
# is another object, so that the socket itself goes to CLOSE.
PATHS: Final = {
    St.SYN_SENT: (St.SYN_RECV, St.ESTABLISHED, St.CLOSE_WAIT, St.FIN_WAIT1),
    St.SYN_RECV: (St.ESTABLISHED, St.CLOSE_WAIT, St.FIN_WAIT1, St.FIN_WAIT2, St.LAST_ACK, St.CLOSING),
    St.ESTABLISHED: (St.CLOSE_WAIT, St.FIN_WAIT1, St.LAST_ACK),
    St.FIN_WAIT1: (St.FIN_WAIT2, St.CLOSING),
    St.FIN_WAIT2: (),
    St.CLOSE_WAIT: (St.LAST_ACK,),
    St.LAST_ACK: (),
    St.CLOSING: (),
}


def step_law(f: StepLaw) -> StepLaw:
    """Adds a law of two looks at one socket."""
    STEP_LAWS.append(f)
    return f


@step_law
def acknowledged_bytes_stay_so(was: Was, sk: Sock) -> bool:
    """snd_una never goes back."""
    return dist(was.snd_una, sk.snd_una) >= 0


@step_law
def what_was_sent_was_sent(was: Was, sk: Sock) -> bool:
    """snd_nxt and write_seq never go back."""
    return dist(was.snd_nxt, sk.snd_nxt) >= 0 and dist(was.write_seq, sk.write_seq) >= 0


@step_law
def received_bytes_stay_so(was: Was, sk: Sock) -> bool:
    """rcv_nxt never goes back."""
    return dist(was.rcv_nxt, sk.rcv_nxt) >= 0


@step_law
def read_bytes_stay_so(was: Was, sk: Sock) -> bool:
    """copied_seq never goes back: no byte is read twice."""
    return dist(was.copied_seq, sk.copied_seq) >= 0


@step_law
def sums_only_grow(was: Was, sk: Sock) -> bool:
    """What a connection counts of bytes and segments never falls."""
    return all(getattr(sk, name) >= old for name, old in zip(SUMS, was.sums, strict=True))


@step_law
def acked_bytes_are_counted(was: Was, sk: Sock) -> bool:
    """bytes_acked grows by what snd_una moves."""
    return sk.bytes_acked - was.sums[1] == dist(was.snd_una, sk.snd_una)


@step_law
def received_bytes_are_counted(was: Was, sk: Sock) -> bool:
    """bytes_received grows by what rcv_nxt moves."""
    return sk.bytes_received - was.sums[2] == dist(was.rcv_nxt, sk.rcv_nxt)


@step_law
def states_follow_the_diagram(was: Was, sk: Sock) -> bool:
    """A state is left only for one that the diagram leads to, within one event."""
    return sk.sk_state in (was.state, St.CLOSE) or sk.sk_state in PATHS[was.state]


@step_law
def the_promised_edge_is_kept(was: Was, sk: Sock) -> bool:
    """The window's right edge is never taken back, except where memory is out (ICSK_ACK_NOMEM offers nothing)."""
    return sk.rcv_wnd == 0 or dist(was.edge, add(sk.rcv_wup, sk.rcv_wnd)) >= 0


class History:
    """The sockets of one host, looked at after each event."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.was: dict[int, tuple[Sock, Was]] = {}
        self.mib: Counter[str] = Counter()

    def look(self) -> list[str]:
        """The laws that were broken since the last look."""
        broken = []
        for sk in sockets(self.net):
            if sk.sk_state not in PATHS:
                continue
            old = self.was.get(id(sk))
            if old is not None and sk.sk_state in OPEN and old[1].state in OPEN:
                broken += [q.__name__ for q in STEP_LAWS if not q(old[1], sk)]
            elif old is not None and not states_follow_the_diagram(old[1], sk):
                broken.append("states_follow_the_diagram")
            self.was[id(sk)] = sk, now(sk)
        for name, n in self.mib.items():
            if name != "TcpCurrEstab" and self.net.mib[name] < n:
                broken.append("counters_never_fall")
        self.mib = self.net.mib.copy()
        return broken


def now(sk: Sock) -> Was:
    """A socket as it is."""
    return Was(
        sk.sk_state,
        sk.snd_una,
        sk.snd_nxt,
        sk.write_seq,
        sk.rcv_nxt,
        sk.copied_seq,
        add(sk.rcv_wup, sk.rcv_wnd),
        tuple(getattr(sk, name) for name in SUMS),
    )


# ---------------------------------------------------------------- the wire

WIRE_LAWS: Final = {
    "acks_never_go_back": "An acknowledgment number is never less than one that was sent before.",
    "the_right_edge_never_shrinks": "The right edge never goes back, but to a window of 0, or behind the peer's FIN.",
    "nothing_beyond_the_window": "No byte leaves that lies behind the right edge that the peer has offered.",
    "acknowledges_what_arrived": "Nothing is acknowledged but what arrived without a gap.",
    "nothing_acknowledged_goes_again": "No segment repeats only what the peer is known to have.",
    "segments_fit_the_peers_mss": "Payload and options are never more than the peer's MSS.",
    "options_as_agreed": "Timestamps, SACKs and window scales occur only where both SYNs offered them.",
    "timestamps_never_go_back": "TSval never falls.",
    "echoes_what_arrived": "TSecr is a TSval that arrived.",
    "sacks_what_arrived": "A SACK block tells of bytes that arrived.",
    "sacks_beyond_the_ack": "All SACK blocks but a DSACK lie beyond the acknowledgment, apart from each other.",
    "a_fin_is_the_last": "No byte lies behind a FIN.",
    "an_owed_ack_is_sent_in_time": "Data in order are acknowledged on the wire within 200 ms and what the wheel adds.",
}  # fmt: skip


class Ranges:
    """What arrived of a stream, as disjoint ranges behind a first number, and how far it has no gap."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.ranges: list[tuple[int, int]] = [(0, 0)]  # as distances from `first`

    def take(self, seq: int, end: int) -> None:
        """Bytes from `seq` up to `end` arrived."""
        a, b = dist(self.first, seq), dist(self.first, end)
        if b <= 0:
            return
        a = max(a, 0)
        apart = []
        for r in self.ranges:
            if r[1] < a or b < r[0]:
                apart.append(r)
            else:
                a, b = min(a, r[0]), max(b, r[1])
        self.ranges = sorted([*apart, (a, b)])

    @property
    def whole(self) -> int:
        """Up to where nothing is missing."""
        return add(self.first, self.ranges[0][1])

    def has(self, seq: int, end: int) -> bool:
        """All of the bytes arrived."""
        a, b = dist(self.first, seq), dist(self.first, end)
        return any(r[0] <= a and b <= r[1] for r in self.ranges)


class End:
    """One end of one connection, by its segments: `sent_*` left it, `got_*` arrived there."""

    def __init__(self, syn: Packet) -> None:
        self.isn = syn.seq
        self.syn = syn.opts
        self.acked: int | None = None  # the highest acknowledgment number that left
        self.edge: int | None = None  # the highest right edge that left
        self.tsval: int | None = None
        self.fin: int | None = None  # where the FIN ends
        self.got: Ranges | None = None
        self.got_fin: int | None = None  # where the peer's FIN ends
        self.got_ack: int | None = None
        self.got_edge: int | None = None
        self.got_ts: set[int] = {0}
        self.segs = Counter[str]()


Key = tuple[bytes, int, bytes, int]


class Wire:
    """All connections of a pair of hosts, by what leaves and what arrives. Connections don't use a port twice."""

    def __init__(self) -> None:
        self.ends: dict[Key, End] = {}
        self.left = Counter[bytes]()  # segments by the host that sent them
        self.arrived = Counter[bytes]()
        self.damaged = Counter[bytes]()
        self.syns = Counter[bytes]()  # SYNs that went again
        self.broken: list[str] = []

    def _law(self, name: str, holds: bool) -> None:
        if not holds:
            self.broken.append(name)

    def leaves(self, p: Packet) -> None:
        """A segment leaves a host; super-segments were cut."""
        self.left[p.saddr] += 1
        key = (p.saddr, p.sport, p.daddr, p.dport)
        peer = self.ends.get((p.daddr, p.dport, p.saddr, p.sport))
        end = self.ends.get(key)
        if p.flags & SYN:
            if end is None or end.isn != p.seq:
                end = self.ends[key] = End(p)
                if peer is not None and p.flags & ACK:
                    end.got = Ranges(peer.isn)
                    end.got.take(peer.isn, add(peer.isn, 1))
                    end.got_ts.add(peer.tsval or 0)
            elif not p.flags & ACK:
                self.syns[p.saddr] += 1
        if p.flags & RST or end is None:
            return
        length = p.len + (p.flags & FIN)
        if p.len:
            end.segs["data"] += 1
            end.segs["bytes"] += p.len
        if p.flags & SYN:
            end.tsval = p.opts.tsval
            self._ack(end, p, 0)
            return
        if peer is None:
            return
        self._options(end, peer, p)
        self._ack(end, p, self._scale(end, peer))
        self._text(end, peer, p, length)

    def _scale(self, of: End, peer: End) -> int:
        both = of.syn.wscale is not None and peer.syn.wscale is not None
        return of.syn.wscale or 0 if both else 0

    def _options(self, end: End, peer: End, p: Packet) -> None:
        o = p.opts
        ts = end.syn.tsval is not None and peer.syn.tsval is not None
        sack = end.syn.sack_perm and peer.syn.sack_perm
        self._law("options_as_agreed", (o.tsval is not None) == ts and (sack or not o.sacks) and o.wscale is None)
        if o.tsval is not None:
            self._law("timestamps_never_go_back", end.tsval is None or dist(end.tsval, o.tsval) >= 0)
            self._law("echoes_what_arrived", o.tsecr in end.got_ts)
            end.tsval = o.tsval
        if end.got is None:
            return
        blocks = o.sacks
        for a, b in blocks:
            self._law("sacks_what_arrived", dist(a, b) > 0 and end.got.has(a, b))
        if blocks and (dist(p.ack_seq, blocks[0][0]) < 0 or any(_within(blocks[0], b) for b in blocks[1:])):
            blocks = blocks[1:]
        for i, (a, b) in enumerate(blocks):
            beyond = dist(p.ack_seq, a) > 0
            apart = all(dist(y, a) >= 0 or dist(b, x) >= 0 for x, y in blocks[:i])
            self._law("sacks_beyond_the_ack", beyond and apart)

    def _ack(self, end: End, p: Packet, scale: int) -> None:
        if not p.flags & ACK:
            return
        self._law("acks_never_go_back", end.acked is None or dist(end.acked, p.ack_seq) >= 0)
        end.acked = p.ack_seq
        if p.flags & SYN:
            return
        edge = add(p.ack_seq, p.window << scale)
        over = end.got_fin is not None and dist(end.got_fin, p.ack_seq) >= 0
        self._law("the_right_edge_never_shrinks", not p.window or over or end.edge is None or dist(end.edge, edge) >= 0)
        if end.edge is None or dist(end.edge, edge) > 0:
            end.edge = edge
        if end.got is not None:
            self._law("acknowledges_what_arrived", dist(p.ack_seq, end.got.whole) >= 0)

    def _text(self, end: End, peer: End, p: Packet, length: int) -> None:
        if not length:
            return
        last = add(p.seq, length)
        mss = peer.syn.mss or 536
        size = p.len + (12 if p.opts.tsval is not None else 0) + (4 + 8 * len(p.opts.sacks) if p.opts.sacks else 0)
        self._law("segments_fit_the_peers_mss", not p.len or size <= mss)
        if end.got_edge is not None:
            self._law("nothing_beyond_the_window", dist(end.got_edge, last) <= 0)
        self._law("nothing_acknowledged_goes_again", end.got_ack is None or dist(end.got_ack, last) > 0)
        self._law("a_fin_is_the_last", end.fin is None or dist(last, end.fin) >= 0)
        if p.flags & FIN:
            end.fin = last

    def arrives(self, p: Packet, now: int) -> None:
        """A segment reaches the other host (us)."""
        self.arrived[p.daddr] += 1
        if p.bad_csum:
            self.damaged[p.daddr] += 1
            return
        end = self.ends.get((p.daddr, p.dport, p.saddr, p.sport))
        peer = self.ends.get((p.saddr, p.sport, p.daddr, p.dport))
        if p.flags & RST or peer is None:
            return
        if end is None:
            return
        if end.got is None:
            end.got = Ranges(peer.isn)
        if p.opts.tsval is not None:
            end.got_ts.add(p.opts.tsval)
        end.got.take(p.seq, p.end_seq)
        if p.flags & FIN:
            end.got_fin = p.end_seq
        if p.flags & ACK and self._acceptable(end, p):
            if end.got_ack is None or dist(end.got_ack, p.ack_seq) > 0:
                end.got_ack = p.ack_seq
            edge = add(p.ack_seq, p.window << (0 if p.flags & SYN else self._scale(peer, end)))
            if end.got_edge is None or dist(end.got_edge, edge) > 0:
                end.got_edge = edge

    def _acceptable(self, end: End, p: Packet) -> bool:
        """A segment that ends before the last acknowledgment is not looked at, whatever it acknowledges."""
        return end.acked is None or dist(end.acked, p.end_seq) >= 0


def _within(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return dist(b[0], a[0]) >= 0 and dist(a[1], b[1]) >= 0


# ---------------------------------------------------------------- acknowledgments in time


def ack_limit(hz: int) -> int:
    """The longest that an acknowledgment may be put off (us): HZ/5, and what the wheel's second level adds."""
    return (hz // 5 + 2 * (8 if hz // 5 >= 63 else 1)) * 1_000_000 // hz


class Owed:
    """Since when a host owes acknowledgments, seen at the wire: what it took in order and has not acknowledged."""

    def __init__(self, net: Net, wire: Wire) -> None:
        self.net = net
        self.wire = wire
        self.since: dict[int, tuple[int, int]] = {}  # by the socket: what was first not acknowledged, and since when

    def look(self) -> list[str]:
        """The laws that were broken."""
        broken = []
        for sk in sockets(self.net):
            if sk.sk_state not in OPEN:
                continue
            end = self.wire.ends.get((sk.inet_saddr, sk.inet_sport, sk.inet_daddr, sk.inet_dport))
            if end is None or end.acked is None or dist(end.acked, sk.rcv_nxt) <= 0:
                self.since.pop(id(sk), None)
                continue
            old = self.since.get(id(sk))
            if old is None or old[0] != end.acked:
                self.since[id(sk)] = end.acked, self.net.now
            elif self.net.now - old[1] > ack_limit(self.net.hz):
                broken.append("an_owed_ack_is_sent_in_time")
        return broken


# ---------------------------------------------------------------- what two ends agree on


HOST_LAWS: Final = {
    "counters_never_fall": "No counter of a namespace falls, but TcpCurrEstab.",
}
PAIR_LAWS: Final = {
    "no_end_is_ahead": "snd_una <= the peer's rcv_nxt <= snd_nxt, and the peer's rcv_wup is no more than its rcv_nxt.",
}  # fmt: skip
END_LAWS: Final = {
    "every_byte_arrives_once": "A reader got as many bytes as were written, and a FIN.",
    "both_ends_close": "Some time after the last close no connection is left, nor a timer.",
    "segments_that_left_are_counted": "OutSegs and RetransSegs are what left; a SYN-ACK that goes again is in both.",
    "segments_that_arrived_are_counted": "InSegs is what arrived, damaged or not.",
    "damage_is_counted": "InCsumErrors is what arrived damaged.",
    "bytes_are_counted_at_both_ends": "bytes_acked and the peer's bytes_received are what was written, SYN, FIN.",
    "data_segments_are_counted": "data_segs_out and bytes_sent are what left of the connection.",
    "repetitions_are_counted": "bytes_sent less bytes_retrans is what was written.",
    "deliveries_are_counted": "TCPDelivered is what the connections' own counts say.",
}  # fmt: skip


def no_end_is_ahead(a: Sock, b: Sock) -> bool:
    """What `a` holds for acknowledged `b` has received, and `b` has received only what `a` sent."""
    return dist(a.snd_una, b.rcv_nxt) >= 0 and dist(b.rcv_nxt, a.snd_nxt) >= 0


def every_law() -> dict[str, str]:
    """All laws, by name, and what they say."""
    functions = (*LAWS, *NET_LAWS, *STEP_LAWS)
    return (
        {f.__name__: (f.__doc__ or "").partition("\n")[0] for f in functions}
        | HOST_LAWS
        | WIRE_LAWS
        | PAIR_LAWS
        | END_LAWS
    )


__all__ = [
    "END_LAWS",
    "HOST_LAWS",
    "PAIR_LAWS",
    "STEP_LAWS",
    "WIRE_LAWS",
    "History",
    "Owed",
    "Wire",
    "every_law",
    "no_end_is_ahead",
]
