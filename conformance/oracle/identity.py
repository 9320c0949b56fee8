"""What every frame of one end has in common: header forms, TTL, ids, timestamp clock, options, ECN bits.

The law: one stack builds all frames of an end, so what it builds in no state is refused at once, and what it keeps
(TTL, clock, order of ids, agreed options) is learnt from its first frames and held after. Ids and stamps tell order
and unseen frames; they are believed only after they were exact.
"""

from collections import deque
from typing import ClassVar, Final

from conformance.check.infer import kinds, linux_order
from conformance.oracle.clock import REORDERED, SWAPPED, Clock
from conformance.oracle.constraint import Constraint
from conformance.oracle.end import End, Refusal
from conformance.oracle.ids import AROUND, Ids
from conformance.oracle.ids import SWAPPED as IDS_SWAPPED
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, PSH, RST, SYN, URG
from refmodel.tcp.state import St
from refmodel.types import before

CWR: Final = 0x80
ECE: Final = 0x40
AE: Final = 0x100
ACE: Final = AE | CWR | ECE
ALIGNED: Final = b"\x01\x01\x08\x0a"  # NOP, NOP, TIMESTAMP, 10
INITIAL: Final = (64, 128, 255)  # TTLs with which hosts start: the tap is on the end's link
MD5, AO, MPTCP, ACCECN0, ACCECN1, FASTOPEN, EXP = 19, 29, 30, 172, 174, 34, 254
BEHIND: Final = frozenset({1, MPTCP, FASTOPEN, EXP, ACCECN0, ACCECN1})  # what stands behind a SYN's options
OTHERS: Final = frozenset({AO, MPTCP, ACCECN0, ACCECN1, EXP})
SWAPS: Final = 4  # frames that two CPUs' stamps may put behind
AGAIN: Final = 16  # frames among which one that the network doubled is looked for
SMALL: Final = (St.CLOSE, St.LISTEN, St.NEW_SYN_RECV, St.TIME_WAIT)  # no full socket

CONSTRAINTS: Final[tuple[Constraint, ...]] = (
    Constraint(
        "flags-combination",
        "A segment has ACK unless it is a SYN or a bare RST, no two of SYN, FIN and RST, no PSH without data, and data "
        "neither in a SYN-ACK nor in an RST.",
        ("net/ipv4/tcp_output.c:__tcp_transmit_skb", "net/ipv4/tcp_ipv4.c:tcp_v4_send_reset", "RFC 9293 3.10"),
    ),
    Constraint(
        "reserved-bits",
        "The reserved bits of the TCP header and of the IP flags are zero.",
        ("net/ipv4/tcp_output.c:__tcp_transmit_skb", "net/ipv4/ip_output.c:__ip_queue_xmit", "RFC 9293 3.1"),
    ),
    Constraint(
        "urgent-pointer",
        "The urgent pointer is zero without URG and not zero with it.",
        ("net/ipv4/tcp_output.c:__tcp_transmit_skb", "RFC 9293 3.1"),
    ),
    Constraint(
        "ack-number-without-ack",
        "A SYN and an RST without ACK have the acknowledgment number 0.",
        ("net/ipv4/tcp_output.c:tcp_connect_init", "net/ipv4/tcp_ipv4.c:tcp_v4_send_reset"),
    ),
    Constraint(
        "ttl-constant",
        "A socket's TTL does not change on a link of its own.",
        ("net/ipv4/ip_output.c:__ip_queue_xmit", "include/net/route.h:ip4_dst_hoplimit"),
    ),
    Constraint(
        "dont-fragment",
        "DF stays as it was: path MTU discovery is a property of the socket.",
        ("net/ipv4/ip_output.c:__ip_queue_xmit", "include/net/ip.h:ip_dont_fragment", "RFC 1191 3"),
    ),
    Constraint(
        "ip-id-back",
        "A socket's IPv4 ids count up, one step a segment.",
        ("include/net/ip.h:ip_select_ident_segs",),
    ),
    Constraint(
        "ip-id-gap",
        "A socket's IPv4 ids leave none out where nothing is lost between its host and the tap.",
        ("include/net/ip.h:ip_select_ident_segs",),
    ),
    Constraint(
        "ip-id-outlier",
        "A segment that takes a step of its socket's ids carries the id of that step.",
        ("include/net/ip.h:ip_select_ident_segs",),
    ),
    Constraint(
        "ip-id-zero",
        "A segment of a full socket carries its socket's id, not 0.",
        ("include/net/ip.h:ip_select_ident_segs",),
    ),
    Constraint(
        "tsval-back",
        "A later segment carries no lower TSval.",
        ("net/ipv4/tcp_output.c:tcp_established_options", "RFC 7323 5.4"),
        rfc=True,
    ),
    Constraint(
        "tsval-ahead",
        "The TSval grows no faster than the timestamp clock.",
        ("net/ipv4/tcp_output.c:tcp_established_options", "include/net/tcp.h:tcp_skb_timestamp_ts", "RFC 7323 5.4"),
    ),
    Constraint(
        "timestamps-agreed",
        "Every segment has a timestamp if both SYNs had one, else none has.",
        ("net/ipv4/tcp_output.c:tcp_established_options", "RFC 7323 3.2"),
    ),
    Constraint(
        "options-layout",
        "Options stand in the order, and with the padding, in which Linux writes them.",
        ("net/ipv4/tcp_output.c:tcp_options_write", "net/ipv4/tcp_output.c:tcp_established_options"),
    ),
    Constraint(
        "syn-options",
        "A SYN offers MSS, SACK, timestamps and window scale in the order in which Linux writes them.",
        ("net/ipv4/tcp_output.c:tcp_syn_options", "net/ipv4/tcp_output.c:tcp_options_write", "RFC 9293 3.7.1"),
    ),
    Constraint(
        "ecn-agreed",
        "Without ECN in both SYNs no segment has ECE, CWR or an ECN-capable IP header.",
        ("net/ipv4/tcp_output.c:tcp_ecn_send", "net/ipv4/tcp_input.c:tcp_ecn_rcv_synack", "RFC 3168 6.1.1"),
    ),
    Constraint(
        "ecn-capable",
        "With classic ECN new data are ECN-capable, retransmissions and segments without data are not.",
        ("net/ipv4/tcp_output.c:tcp_ecn_send", "RFC 3168 6.1.4", "RFC 3168 6.1.5"),
    ),
)

_ANY: Final = 0
_DATA: Final = 1
_NEVER: Final = 2
_EMPTY: Final = 3


def _form(flags: int) -> int:
    f = flags & ~URG
    if f == ACK or f == ACK | FIN or f == ACK | FIN | PSH:
        return _ANY
    if f == ACK | PSH:
        return _DATA
    if flags == SYN:
        return _ANY
    if flags == SYN | ACK or flags == RST or f == RST | ACK:
        return _EMPTY
    return _NEVER


FORMS: Final = tuple(_form(f) for f in range(64))


def damaged(s: Segment) -> bool:
    """Whether the TCP checksum is wrong, on a frame that was captured whole; its receiver drops such a segment.

    A checksum that a device was to fill in (CHECKSUM_PARTIAL: the pseudo-header's sum) is not wrong.
    """
    end = s.payload_at + s.len
    if s.truncated or end > len(s.data) or s.payload_at - s.l4 < 20:
        return False
    length = end - s.l4
    pseudo = int.from_bytes(s.saddr, "big") + int.from_bytes(s.daddr, "big") + 6 + length
    raw = s.data[s.l4 : end]
    total = int.from_bytes(raw, "big") << (8 if length & 1 else 0)
    if (total + pseudo) % 0xFFFF == 0:
        return False
    field = int.from_bytes(raw[16:18], "big")
    return (pseudo - field) % 0xFFFF != 0


class Identity:
    """What an end's frames have in common so far."""

    __slots__: ClassVar[tuple[str, ...]] = (
        "_ecn_own", "_ecn_peer", "_stepped", "accecn", "acks", "clock", "df", "ecn_ok", "ect", "end", "frames", "ids",
        "low_pmtu", "mss", "own_mss", "own_ts", "past", "peer_ts", "strict", "ts_ok", "ttl",
    )  # fmt: skip

    def __init__(self, end: End) -> None:
        self.end = end
        self.ids = Ids()
        self.ids.sure = end.stack.given and end.stack.linux
        if end.stack.in_order:
            self.ids.patience = IDS_SWAPPED
        self.clock = Clock()
        self.ttl = 0
        self.df: bool | None = None
        self.strict = False  # nothing between this end and the tap changes its headers
        self.frames = 0
        self.low_pmtu = False  # an ICMP message told of a path MTU below the least: the route's is locked, DF is off
        self.mss = 0  # the most that one of its segments holds; 0: not known
        self.own_ts: bool | None = None
        self.own_mss = 0
        self.peer_ts: bool | None = None
        self.ts_ok: bool | None = None
        self._ecn_own: set[int] | None = None  # ECN flags of its SYNs, None before the first
        self._ecn_peer: set[int] | None = None
        self.ecn_ok: bool | None = None  # classic ECN; None: not known, or Accurate ECN
        self.accecn = False
        self.ect = False  # its first frame was ECN-capable
        self.acks = 0  # segments without data and ECT
        self._stepped = -1
        self.past: deque[Segment] = deque(maxlen=AGAIN)

    def copy(self) -> "Identity":
        """A copy that shares nothing that changes."""
        new = Identity(self.end)
        for name in Identity.__slots__:
            setattr(new, name, getattr(self, name))
        new.ids, new.clock = self.ids.copy(), self.clock.copy()
        new.past = deque(self.past, AGAIN)
        new._ecn_own = None if self._ecn_own is None else set(self._ecn_own)
        new._ecn_peer = None if self._ecn_peer is None else set(self._ecn_peer)
        return new

    def words(self) -> str:
        """The state in words."""
        return f"TTL {self.ttl}, next id {self.ids.last}" if self.ids.trusted else f"TTL {self.ttl}"

    def overdue(self, now: int) -> None:
        """Raises Refusal for ids that stay left out where nothing is lost."""
        if self.ids.holes and self.end.stack.exact and self.end.stack.linux:
            self._holes(now)

    def finish(self) -> None:
        """Raises Refusal for ids that are left out when no more frames come."""
        if self.ids.holes and self.end.stack.exact and self.end.stack.linux:
            self._holes(self.ids.holes[0][2] + IDS_SWAPPED + 1)

    # -- what the other parts ask

    @property
    def trusted(self) -> bool:
        """Whether the ids count this end's segments."""
        return self.ids.trusted

    def steps_since_last(self, s: Segment) -> int | None:
        """How many segments left between the frame before and `s`, the frame checked last, by their ids.

        0: `s` follows at once. None: the ids say nothing, or `s` is out of their order.
        """
        if s.number != self._stepped or not self.ids.trusted:
            return None
        return self.ids.gap

    def overtaken(self, s: Segment) -> bool:
        """Whether `s`, the frame checked last, left before frames that the tap saw earlier."""
        return s.number == self._stepped and self.ids.trusted and self.ids.kind == "overtaken"

    def duplicate(self, s: Segment) -> bool:
        """Whether `s`, the frame checked last, is a frame that the tap saw before: same id, same bytes in sequence."""
        return s.number == self._stepped and self.ids.trusted and self.ids.kind == "duplicate"

    def again(self, s: Segment) -> bool:
        """Whether a queue or the network before the tap doubled a frame: `s` is one of the last, field by field."""
        if self.end.stack.exact:
            return False
        names = ("seq", "ack_seq", "flags", "len", "window", "tsval", "tsecr", "sack", "ip_id", "mss", "wscale")
        mine = tuple(getattr(s, n) for n in names)
        return any(p is not s and tuple(getattr(p, n) for n in names) == mine for p in self.past)

    # -- inputs

    def heard(self, s: Segment) -> None:
        """The end was sent a frame: a SYN tells what it may use."""
        if s.flags & (RST | SYN):
            self.end.life.alert = True
        if s.flags & SYN:
            self.peer_ts = s.tsval is not None
            if self._ecn_peer is None:
                self._ecn_peer = set()
            self._ecn_peer.add(s.flags & ACE)
            if s.mss is not None:
                self.mss = s.mss
            self._agree()

    def _agree(self) -> None:
        if self.own_ts is None or self.peer_ts is None or self._ecn_own is None or self._ecn_peer is None:
            return
        self.ts_ok = self.own_ts and self.peer_ts
        own, peer = self._ecn_own, self._ecn_peer
        if own == {0} or peer == {0}:
            self.ecn_ok = False
        elif (own, peer) in (({ECE | CWR}, {ECE}), ({ECE}, {ECE | CWR})):
            self.ecn_ok = True
        else:
            self.ecn_ok = None
        self.accecn = any(f & AE or f not in (0, ECE, ECE | CWR) for f in own | peer)

    # -- outputs

    def check(self, s: Segment) -> None:
        """Learns from a frame of this end; raises Refusal if its stack would not have built it so in any state."""
        flags = s.flags
        linux = self.end.stack.linux
        if flags & SYN:
            self._syn(s)
        if linux:
            form = FORMS[flags & 0x3F]
            if form and (form == _NEVER or (form == _DATA) != (s.len > 0)):
                raise Refusal("flags-combination", f"flags {_names(flags)} with {s.len} bytes of data")
            data = s.data
            if data[s.l4 + 12] & 0x0E or (s.ip_id is not None and data[s.l3 + 6] & 0x80):
                raise Refusal("reserved-bits", "a reserved bit is set")
            if (s.urg_ptr != 0) != (flags & URG != 0):
                raise Refusal("urgent-pointer", f"urgent pointer {s.urg_ptr}, flags {_names(flags)}")
            if not flags & ACK and s.ack_seq:
                raise Refusal("ack-number-without-ack", f"acknowledgment number {s.ack_seq} without ACK")
            if s.ttl != self.ttl or s.df != self.df:
                self._ttl(s)
            self._options(s)
            if s.tos & 3 or flags & ACE or self.ecn_ok:
                self._ecn(s)
            elif not s.len:
                self.acks += 1
        self._ids(s)
        if s.tsval is not None:
            self._clock(s)
        self.frames += 1
        self.past.append(s)

    def _ttl(self, s: Segment) -> None:
        stack = self.end.stack
        if stack.given:
            self._defaults(s)
        if s.ip_id == 0 and not s.df and stack.exact:
            raise Refusal("dont-fragment", "the IPv4 id is 0, which only a segment with DF has")
        if not self.frames:
            self.ttl, self.df = s.ttl, s.df
            # IPv6 has no checksum of its header: what is damaged there passes for sent so.
            self.strict = stack.near is True or (s.ip_id is not None and (stack.given or s.ttl in INITIAL))
            self.ect = s.tos & 3 != 0
            return
        if (not s.flags & ACK and s.flags & RST) or self.end.state in SMALL or self._reply(s):
            return  # no full socket sent it: the default TTL, whatever the socket had
        if self.strict:
            if s.ttl != self.ttl:
                raise Refusal("ttl-constant", f"TTL {s.ttl}, but {self.ttl} before")
            exact = stack.exact and not self.low_pmtu
            if self.df and (self.frames > 1 or exact):
                raise Refusal("dont-fragment", "DF is not set, but was before")
            if self.df is False and self.frames == 1 and exact and s.df != self.df:
                raise Refusal("dont-fragment", "DF is set, but was not in the frame that opened the connection")
        self.ttl, self.df = s.ttl, s.df

    def _defaults(self, s: Segment) -> None:
        """Raises Refusal for what the host's sysctls and its recorded calls rule out."""
        stack, called, at = self.end.stack, self.end.life.host.called, s.time // 1000
        plain = not s.df and s.ip_id is not None and not stack.told.get("net.ipv4.ip_no_pmtu_disc")
        if plain and not self.low_pmtu and not called("IP_MTU_DISCOVER", before=at):
            raise Refusal("dont-fragment", "DF is not set, though this host discovers path MTUs")
        ttl = self.default_ttl(s)
        if s.ttl != ttl and stack.near is True and not called("IP_TTL", "IPV6_UNICAST_HOPS", before=at):
            raise Refusal("ttl-constant", f"TTL {s.ttl}, this host's is {ttl}")

    def default_ttl(self, s: Segment) -> int:
        """The TTL with which a host sends where nobody asks for another."""
        return self.end.stack.told.get("net.ipv4.ip_default_ttl", 64) if s.ip_id is not None else 64

    def _reply(self, s: Segment) -> bool:
        """Whether the frame may come from no full socket: an RST or ACK without data, with the id 0."""
        return not s.len and (s.ip_id == 0 or (s.ip_id is None and s.flags & RST != 0 and not s.window))

    def _ids(self, s: Segment) -> None:
        if s.ip_id is None:
            self._stepped = s.number
            return
        ids = self.ids
        if s.flags & (SYN | ACK) == SYN | ACK and s.ip_id == 0:
            ids.kind, ids.gap, self._stepped = "", None, s.number
            return
        step = ids.see(s, self._unit(s))
        self._stepped = s.number
        if ids.holes and self.end.stack.exact:
            self._holes(s.time // 1000)
        if not ids.kind or not self.end.stack.linux or not (ids.trusted or self._odd(-step)):
            return
        if ids.kind == "outlier":
            raise Refusal("ip-id-outlier", f"the frame before has an id out of line with those around it, {s.ip_id}")
        if ids.kind == "overtaken":
            if ids.gap is None and self.end.stack.in_order:
                raise Refusal("ip-id-back", f"IPv4 id {s.ip_id}, {-step} behind what this socket has sent")
        elif ids.kind == "zero" and self.end.state not in SMALL and not self._reply(s):
            raise Refusal("ip-id-zero", "IPv4 id 0 on a segment of a full socket")

    def _odd(self, behind: int) -> bool:
        """Whether the ids tell before they are trusted: one is out of line with its neighbours, or from before all."""
        ids = self.ids
        strange = ids.kind == "overtaken" and self.end.stack.exact and behind > ids.span + AROUND
        return ids.exact > 0 and (ids.kind == "outlier" or strange)

    def _holes(self, now: int) -> None:
        """Raises Refusal for ids that were left out, and that no frame brings which two CPUs' stamps put behind."""
        first, count, when, number = self.ids.holes[0]
        if count > SWAPS or now - when > IDS_SWAPPED:
            del self.ids.holes[0]
            last = (first + count - 1) & 0xFFFF
            raise Refusal("ip-id-gap", f"IPv4 ids {first} to {last} of this socket are left out before frame {number}")

    def _unit(self, s: Segment) -> int:
        """The most that one segment of this end holds; a TCP_MAXSEG of its own bounds what it sends too."""
        mss = min(self.mss or 65_535, self.own_mss or 65_535)
        return mss - (12 if s.tsval is not None else 0) if 100 < mss < 65_535 else 0

    def _clock(self, s: Segment) -> None:
        clock = self.clock
        stack = self.end.stack
        back = clock.back(s)
        if back:
            if s.flags & SYN and back <= 128:
                return  # a SYN cookie keeps options in the low bits of its timestamp
            ids = self.ids
            if ids.trusted and ids.kind in ("overtaken", "duplicate") and stack.linux:
                return
            late = s.time // 1000 - clock.at
            if s.flags & SYN == 0 and self.ts_ok is None and not stack.linux:
                return
            exact = ids.trusted and ids.gap == 0 and not clock.loose
            if not stack.in_order and not exact and back <= REORDERED and late <= REORDERED * 1_000:
                return
            if back * 1_000 <= SWAPPED + 1_000 and late <= SWAPPED and not exact:
                return
            raise Refusal("tsval-back", f"TSval {s.tsval} is {back} below one that was sent before")
        clock.loose = s.ip_id == 0
        ahead = clock.takes(s, stack.near is True)
        if ahead and stack.linux:
            raise Refusal("tsval-ahead", f"TSval {s.tsval} is {ahead} ms ahead of this host's clock")

    # -- options

    def _syn(self, s: Segment) -> None:
        self.own_ts = s.tsval is not None
        self.own_mss = s.mss or 0
        if self._ecn_own is None:
            self._ecn_own = set()
        self._ecn_own.add(s.flags & ACE)
        self._agree()

    def _options(self, s: Segment) -> None:
        n = s.payload_at - s.l4
        if s.flags & SYN:
            if not s.truncated:
                seen = kinds(s)
                if seen[:3] == [1, 1, MD5]:
                    del seen[:3]
                while seen and seen[-1] in BEHIND:
                    seen.pop()
                if seen != linux_order(s) or s.mss is None:
                    raise Refusal("syn-options", f"options {seen} of a SYN, Linux writes {linux_order(s)}")
            return
        agreed = self.ts_ok
        if s.tsval is None:
            if agreed and not s.flags & RST and not s.truncated and self.end.state not in SMALL and not self._reply(s):
                raise Refusal("timestamps-agreed", "no timestamp, though both SYNs had one")
            if n == 20:
                return
        else:
            if agreed is False:
                raise Refusal("timestamps-agreed", "a timestamp, though one of the SYNs had none")
            if n == 32 and s.data[s.l4 + 20 : s.l4 + 24] == ALIGNED:
                return
        if s.truncated:
            return
        seen = kinds(s)
        if not OTHERS.isdisjoint(seen):
            return
        if seen[:3] == [1, 1, MD5]:
            del seen[:3]
        if s.tsval is not None and seen[:3] == [1, 1, 8]:
            del seen[:3]
        if seen != ([1, 1, 5] if s.sack else []):
            raise Refusal("options-layout", f"options {kinds(s)}, Linux writes them in another order")

    # -- ECN

    def _ecn(self, s: Segment) -> None:
        flags, ect = s.flags, s.tos & 3
        if flags & (SYN | RST) or self.accecn:
            return
        if self.ecn_ok is False:
            if flags & ACE:
                raise Refusal("ecn-agreed", f"flags {_names(flags)}, though the SYNs agreed on no ECN")
            if ect and self.strict and not self.ect and (s.ip_id is not None or self.end.stack.given):
                raise Refusal("ecn-agreed", f"ECN field {ect} in the IP header, though the SYNs agreed on no ECN")
            return
        if not self.ecn_ok or self.ect:
            return
        if not s.len:
            if not ect:
                self.acks += 1
            elif self.acks > 1 and ect != 3 and self.strict:
                raise Refusal("ecn-capable", "an ECN-capable segment without data")
            return
        if not self.strict or self.end.stack.near is not True or self.end.state in SMALL or not self.acks:
            return
        nxt = self.end.tx.snd_nxt
        if s.ip_id is not None and not (
            self.ids.trusted and s.ip_id == ((self.ids.last or 0) + self.ids.high) & 0xFFFF
        ):
            return
        if s.seq == nxt and not ect:
            raise Refusal("ecn-capable", "new data that are not ECN-capable")
        if ect and before(s.seq, nxt) and not before(nxt, s.end_seq):
            raise Refusal("ecn-capable", "a retransmission that is ECN-capable")


def _names(flags: int) -> str:
    names = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")
    return "|".join(n for k, n in enumerate(names) if flags >> k & 1) or "none"
