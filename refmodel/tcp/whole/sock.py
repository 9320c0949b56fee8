"""The objects of a connection: sockets, buffers, packets, with the kernel's field names.

The law: times are us in `tcp_mstamp` and in skbs, jiffies in timers and in fields that the kernel keeps in jiffies
(named so), sequence numbers are in [0, 2**32). Payload has no content: a buffer is the range [seq, end_seq). Queues are
doubly linked, so that a step costs what it touches and never the length of a queue.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from refmodel.tcp.state import St
from refmodel.tcp.whole.rbtree import Node, RbTree
from refmodel.types import M32, before

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net, Timer

# tcp_skb_cb.tcp_flags: the header's bits, AE above them.
FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80
AE: Final = 0x100

# tcp_skb_cb.sacked (include/net/tcp.h)
TCPCB_SACKED_ACKED: Final = 0x01
TCPCB_SACKED_RETRANS: Final = 0x02
TCPCB_LOST: Final = 0x04
TCPCB_TAGBITS: Final = 0x07
TCPCB_REPAIRED: Final = 0x10
TCPCB_EVER_RETRANS: Final = 0x80
TCPCB_RETRANS: Final = TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS | TCPCB_REPAIRED

# tcp_sock.ecn_flags
TCP_ECN_OK: Final = 1
TCP_ECN_QUEUE_CWR: Final = 2
TCP_ECN_DEMAND_CWR: Final = 4
TCP_ECN_SEEN: Final = 8
TCP_ECN_MODE_ACCECN: Final = 16  # with TCP_ECN_OK: asked for, not answered yet

# tcp_sock.nonagle
TCP_NAGLE_OFF: Final = 1
TCP_NAGLE_CORK: Final = 2
TCP_NAGLE_PUSH: Final = 4

# icsk_ack.pending
ICSK_ACK_SCHED: Final = 1
ICSK_ACK_TIMER: Final = 2
ICSK_ACK_PUSHED: Final = 4
ICSK_ACK_PUSHED2: Final = 8
ICSK_ACK_NOW: Final = 16
ICSK_ACK_NOMEM: Final = 32

# icsk_pending
ICSK_TIME_RETRANS: Final = 1
ICSK_TIME_DACK: Final = 2
ICSK_TIME_PROBE0: Final = 3
ICSK_TIME_LOSS_PROBE: Final = 5
ICSK_TIME_REO_TIMEOUT: Final = 6

RCV_SHUTDOWN: Final = 1
SEND_SHUTDOWN: Final = 2
SHUTDOWN_MASK: Final = 3

SK_PACING_NONE: Final = 0
SK_PACING_NEEDED: Final = 1
SK_PACING_FQ: Final = 2

# tcp_sock.chrono_type
TCP_CHRONO_UNSPEC: Final = 0
TCP_CHRONO_BUSY: Final = 1
TCP_CHRONO_RWND_LIMITED: Final = 2
TCP_CHRONO_SNDBUF_LIMITED: Final = 3

# tcp_ca_event
CA_EVENT_TX_START: Final = 0
CA_EVENT_CWND_RESTART: Final = 1
CA_EVENT_COMPLETE_CWR: Final = 2
CA_EVENT_LOSS: Final = 3
CA_EVENT_ECN_NO_CE: Final = 4
CA_EVENT_ECN_IS_CE: Final = 5

# tcp_ca_ack_event_flags
CA_ACK_SLOWPATH: Final = 1
CA_ACK_WIN_UPDATE: Final = 2
CA_ACK_ECE: Final = 4

TCP_INFINITE_SSTHRESH: Final = 0x7FFFFFFF
MAX_TCP_WINDOW: Final = 32767
TCP_MAX_WSCALE: Final = 14
TCP_INIT_CWND: Final = 10
TCP_MSS_DEFAULT: Final = 536
TCP_MIN_MSS: Final = 88
TCP_MIN_SND_MSS: Final = 48
TCP_BASE_MSS: Final = 1024
TCP_FASTRETRANS_THRESH: Final = 3
MAX_HEADER_V4: Final = 20
GSO_LEGACY_MAX_SIZE: Final = 65536
NET_SKB_PAD: Final = 64
TCP_RMEM_TO_WIN_SCALE: Final = 8
TCP_DEFAULT_SCALING_RATIO: Final = 128
SK_BUFF_SIZE: Final = 256  # SKB_DATA_ALIGN(sizeof(struct sk_buff)), x86-64
SHARED_INFO_SIZE: Final = 320  # SKB_DATA_ALIGN(sizeof(struct skb_shared_info)), x86-64
FEW: Final = 16  # skbs that are searched one by one


def SKB_TRUESIZE(n: int) -> int:
    """Memory of an skb whose head holds `n` bytes; source include/linux/skbuff.h:SKB_TRUESIZE."""
    return n + SK_BUFF_SIZE + SHARED_INFO_SIZE


def MAX_TCP_HEADER(max_header: int) -> int:
    """Room for the headers of a segment, by MAX_HEADER; source include/net/tcp.h:MAX_TCP_HEADER."""
    return (128 + max_header + 63) & ~63


@cache
def skb_end_offset(size: int, kernel: int, max_header: int) -> int:
    """How many bytes the head of an skb holds that was allocated for `size`; source net/core/skbuff.c:kmalloc_reserve.

    Since 6.3 small heads are of a slab of their own, as large as the headers of a segment or the pulling of GRO want.
    """
    obj = ((size + 63) & ~63) + SHARED_INFO_SIZE
    if kernel >= 603:
        gro_max_head_pad = max_header + 128 + NET_SKB_PAD
        small = ((max(MAX_TCP_HEADER(max_header), gro_max_head_pad) + 63) & ~63) + SHARED_INFO_SIZE
        if not small & (small - 1):
            small += 64
        if obj <= small:
            return small - SHARED_INFO_SIZE
    return (1 << (obj - 1).bit_length()) - SHARED_INFO_SIZE


class TcpOptions:
    """The options of one segment: struct tcp_options_received as read, struct tcp_out_options as written.

    What is absent is None, False or (). `sacks` are (start, end) pairs, a DSACK first. `fastopen` is the cookie (b"" a
    request), `fastopen_exp` says that it has the experimental kind. `accecn` are Accurate ECN's order and counters.
    `unknown` are kinds that TCP ignores. `size` is how many bytes they take on the wire (-1: laid out as Linux does),
    `aligned` says that they begin NOP NOP TS.
    """

    __slots__ = (
        "accecn", "aligned", "fastopen", "fastopen_exp", "md5", "mss", "sack_perm", "sacks", "size", "tsecr", "tsval",
        "unknown", "wscale",
    )  # fmt: skip

    def __init__(
        self,
        mss: int | None = None,
        wscale: int | None = None,
        sack_perm: bool = False,
        tsval: int | None = None,
        tsecr: int = 0,
        sacks: tuple[tuple[int, int], ...] = (),
        fastopen: bytes | None = None,
        fastopen_exp: bool = False,
        md5: bytes | None = None,
        unknown: tuple[int, ...] = (),
        size: int = -1,
        aligned: bool = True,
        accecn: tuple[int, tuple[int, ...]] | None = None,
    ) -> None:
        self.accecn = accecn
        self.mss = mss
        self.wscale = wscale
        self.sack_perm = sack_perm
        self.tsval = tsval
        self.tsecr = tsecr
        self.sacks = sacks
        self.fastopen = fastopen
        self.fastopen_exp = fastopen_exp
        self.md5 = md5
        self.unknown = unknown
        self.size = size
        self.aligned = aligned


class Packet:
    """A TCP segment between IP and TCP, in either direction.

    Addresses are 4 or 16 bytes; `window` is the header's 16 bits; `len` counts payload bytes; `tos` is the whole byte;
    `gso_size` and `gso_segs` say how the device would cut a super-segment (0: it is none). `truesize` of a packet that
    arrives is the memory it takes. `by` names the step that sent it. `time` is when it left (us). `md5_ok`: whether a
    signature that stands in it is right. `accecn`: it is one of Accurate ECN (SKB_GSO_TCP_ACCECN).
    """

    __slots__ = (
        "accecn",
        "ack_seq",
        "bad_csum",
        "by",
        "daddr",
        "dport",
        "flags",
        "flowlabel",
        "gso_segs",
        "gso_size",
        "len",
        "md5_ok",
        "opts",
        "saddr",
        "seq",
        "sk",
        "skb",
        "sport",
        "tap",
        "time",
        "tos",
        "truesize",
        "tstamp",
        "ttl",
        "urg_ptr",
        "window",
    )

    def __init__(
        self,
        saddr: bytes,
        daddr: bytes,
        sport: int,
        dport: int,
        seq: int,
        ack_seq: int,
        flags: int,
        window: int,
        len: int = 0,
        opts: TcpOptions | None = None,
        urg_ptr: int = 0,
        tos: int = 0,
        ttl: int = 64,
        gso_size: int = 0,
        gso_segs: int = 1,
        truesize: int = 0,
        by: str = "",
        time: int = 0,
        bad_csum: bool = False,
        md5_ok: bool = True,
        flowlabel: int = 0,
    ) -> None:
        self.accecn = False
        self.saddr = saddr
        self.daddr = daddr
        self.sport = sport
        self.dport = dport
        self.seq = seq
        self.ack_seq = ack_seq
        self.flags = flags
        self.window = window
        self.len = len
        self.opts = opts if opts is not None else TcpOptions()
        self.urg_ptr = urg_ptr
        self.tos = tos
        self.ttl = ttl
        self.gso_size = gso_size
        self.gso_segs = gso_segs
        self.truesize = truesize
        self.by = by
        self.time = time
        self.bad_csum = bad_csum
        self.md5_ok = md5_ok
        self.flowlabel = flowlabel
        self.sk: Sock | None = None  # whose memory it holds while it waits in a queueing discipline
        self.skb: Skb | None = None  # of which skb it is the clone
        self.tstamp = 0  # earliest departure (ns), 0: none
        self.tap = 0  # how many packets had arrived when it left

    @property
    def end_seq(self) -> int:
        """The sequence number behind the segment."""
        return (self.seq + self.len + (self.flags & FIN) + ((self.flags & SYN) >> 1)) & 0xFFFFFFFF


class IcmpError:
    """An ICMP or ICMPv6 error that arrives and quotes a segment of ours: `info` is the MTU, `seq` the quoted one."""

    __slots__ = ("code", "daddr", "dport", "info", "saddr", "seq", "sport", "type")

    def __init__(
        self, type: int, code: int, info: int, saddr: bytes, daddr: bytes, sport: int, dport: int, seq: int
    ) -> None:
        self.type = type
        self.code = code
        self.info = info
        self.saddr = saddr  # of the quoted header: ours
        self.daddr = daddr
        self.sport = sport
        self.dport = dport
        self.seq = seq


class SockAddr:
    """A socket address: family (AF_UNSPEC 0, AF_INET 2, AF_INET6 10), address bytes, port. `len` is what was passed."""

    __slots__ = ("addr", "family", "len", "port")

    def __init__(self, family: int, addr: bytes = b"", port: int = 0, len: int | None = None) -> None:
        self.family = family
        self.addr = addr
        self.port = port
        self.len = len if len is not None else (28 if family == 10 else 16)


class MsgHdr:
    """struct msghdr of a send: `left` bytes are still to be copied; `frags` are the pages' sizes of a splice.

    `iov` are what is left of the application's buffers, `at` how much of the first one is gone (bytes). `fault`: they
    are no memory of the process.
    """

    __slots__ = ("at", "cmsgs", "fault", "frags", "iov", "left", "msg_flags", "msg_name", "msg_ubuf")

    def __init__(
        self,
        left: int = 0,
        msg_flags: int = 0,
        msg_name: SockAddr | None = None,
        cmsgs: tuple[tuple[int, int, bytes], ...] = (),
        frags: tuple[int, ...] = (),
        iov: tuple[int, ...] = (),
    ) -> None:
        self.left = left
        self.msg_flags = msg_flags
        self.msg_name = msg_name
        self.cmsgs = cmsgs
        self.frags = deque(frags)
        self.iov = deque(iov or (left,))
        self.at = 0
        self.fault = False
        self.msg_ubuf: Any = None


class FastopenCookie:
    """struct tcp_fastopen_cookie: `len` is -1 without the option, 0 for a request, else the length of `val`."""

    __slots__ = ("exp", "len", "val")

    def __init__(self, len: int = -1, val: bytes = b"", exp: bool = False) -> None:
        self.len = len
        self.val = val
        self.exp = exp  # in the experimental option's form (RFC 6994)


class FastopenRequest:
    """struct tcp_fastopen_request: what a client wants to send with its SYN; `size` bytes, `copied` of them queued."""

    __slots__ = ("cookie", "copied", "data", "size", "uarg")

    def __init__(self, size: int = 0, data: Any = None, uarg: Any = None) -> None:
        self.cookie = FastopenCookie(0)
        self.data = data
        self.size = size
        self.copied = 0
        self.uarg = uarg


class TxInfo:
    """tcp_skb_cb.tx: what the connection had delivered when an skb left (times in us)."""

    __slots__ = ("delivered", "delivered_ce", "delivered_mstamp", "first_tx_mstamp", "is_app_limited")

    def __init__(self) -> None:
        self.delivered = 0
        self.delivered_ce = 0
        self.delivered_mstamp = 0
        self.first_tx_mstamp = 0
        self.is_app_limited = False


class Skb:
    """struct sk_buff with its tcp_skb_cb, in the write queue, the retransmit queue or a receive queue.

    `len` counts payload bytes. `skb_mstamp` is when it was (re)sent or received (us). `uarg` is the zerocopy
    notification that holds its pages, `tskey` and `tx_flags` the timestamping asked for. `frags` counts page fragments.
    """

    __slots__ = (
        "ack_seq",
        "end_offset",
        "end_seq",
        "eor",
        "frag_at",
        "frags",
        "gso_segs",
        "gso_size",
        "has_rxtstamp",
        "ip_dsfield",
        "len",
        "linear",
        "next",
        "opts",
        "packet",
        "peeked",
        "prev",
        "pure_zcopy",
        "sacked",
        "seq",
        "skb_mstamp",
        "tailroom",
        "tap",
        "tcp_flags",
        "truesize",
        "ts_next",
        "ts_prev",
        "ts_queued",
        "tskey",
        "tstamp",
        "tw_isn",
        "tx",
        "tx_flags",
        "txstamp_ack",
        "uarg",
        "urg_ptr",
    )  # fmt: skip

    def __init__(self, seq: int = 0, end_seq: int = 0, len: int = 0, tcp_flags: int = 0) -> None:
        self.seq = seq
        self.end_seq = end_seq
        self.len = len
        self.tcp_flags = tcp_flags
        self.gso_segs = 0
        self.gso_size = 0
        self.sacked = 0
        self.ip_dsfield = 0
        self.txstamp_ack = False
        self.eor = False
        self.has_rxtstamp = False
        self.ack_seq = 0
        self.urg_ptr = 0
        self.truesize = 0
        self.skb_mstamp = 0
        self.tstamp = 0
        self.tx: TxInfo | None = None  # None: it was never sent
        self.tx_flags = 0
        self.tskey = 0
        self.uarg: Any = None
        self.pure_zcopy = False  # SKBFL_PURE_ZEROCOPY
        self.frag_at = -1  # where the last fragment ends in the task's page frags; -1: in other pages
        self.frags = 0
        self.linear = 0  # payload bytes in the head, not in frags
        self.end_offset = 0  # skb_end_offset: the size of the head
        self.tailroom = 0  # skb_tailroom: how many bytes the head still takes
        self.tap = 0  # the number of the packet that brought it; a packet socket may hold a clone of it
        self.tw_isn = 0
        self.peeked = False
        self.opts: TcpOptions | None = None
        self.packet: Packet | None = None
        self.prev: Skb | None = None
        self.next: Skb | None = None
        self.ts_prev: Skb | None = None
        self.ts_next: Skb | None = None
        self.ts_queued = False  # in tsorted_sent_queue


class SkbQueue:
    """A queue of skbs linked by next and prev: sk_write_queue, tcp_rtx_queue, out_of_order_queue, sk_receive_queue."""

    __slots__ = ("head", "len", "tail")

    def __init__(self) -> None:
        self.head: Skb | None = None
        self.tail: Skb | None = None
        self.len = 0

    def __iter__(self) -> Iterator[Skb]:
        skb = self.head
        while skb is not None:
            after = skb.next
            yield skb
            skb = after

    def __len__(self) -> int:
        return self.len

    def __bool__(self) -> bool:
        return self.head is not None

    def append(self, skb: Skb) -> None:
        """Puts `skb` at the tail."""
        skb.prev, skb.next = self.tail, None
        if self.tail is None:
            self.head = skb
        else:
            self.tail.next = skb
        self.tail = skb
        self.len += 1

    def push(self, skb: Skb) -> None:
        """Puts `skb` at the head."""
        skb.prev, skb.next = None, self.head
        if self.head is None:
            self.tail = skb
        else:
            self.head.prev = skb
        self.head = skb
        self.len += 1

    def insert_after(self, at: Skb, skb: Skb) -> None:
        """Puts `skb` behind `at`."""
        if at is self.tail:
            self.append(skb)
            return
        skb.prev, skb.next = at, at.next
        assert at.next is not None
        at.next.prev = skb
        at.next = skb
        self.len += 1

    def insert_before(self, at: Skb, skb: Skb) -> None:
        """Puts `skb` before `at`."""
        if at is self.head:
            self.push(skb)
            return
        assert at.prev is not None
        self.insert_after(at.prev, skb)

    def unlink(self, skb: Skb) -> None:
        """Takes `skb` out."""
        if skb.prev is None:
            self.head = skb.next
        else:
            skb.prev.next = skb.next
        if skb.next is None:
            self.tail = skb.prev
        else:
            skb.next.prev = skb.prev
        skb.prev = skb.next = None
        self.len -= 1

    def pop(self) -> Skb | None:
        """Takes the head out; None if the queue is empty."""
        skb = self.head
        if skb is not None:
            self.unlink(skb)
        return skb

    def clear(self) -> None:
        """Empties the queue."""
        self.head = self.tail = None
        self.len = 0


class OfoQueue(SkbQueue):
    """out_of_order_queue: in the order of sequence numbers, and a tree, whose shape decides what is compared."""

    __slots__ = ("nodes", "tree")

    def __init__(self) -> None:
        super().__init__()
        self.tree: RbTree[Skb] = RbTree()
        self.nodes: dict[Skb, Node[Skb]] = {}

    def _link(self, skb: Skb) -> None:
        nodes = self.nodes
        node = nodes[skb] = Node(skb)
        self.tree.insert(
            node, nodes[skb.prev] if skb.prev is not None else None, nodes[skb.next] if skb.next is not None else None
        )

    def append(self, skb: Skb) -> None:
        """Puts `skb` at the tail."""
        super().append(skb)
        self._link(skb)

    def push(self, skb: Skb) -> None:
        """Puts `skb` at the head."""
        super().push(skb)
        self._link(skb)

    def insert_after(self, at: Skb, skb: Skb) -> None:
        """Puts `skb` behind `at`."""
        if at is self.tail:
            self.append(skb)
            return
        super().insert_after(at, skb)
        self._link(skb)

    def replace(self, old: Skb, new: Skb) -> None:
        """Puts `new` where `old` stands; source lib/rbtree.c:rb_replace_node."""
        SkbQueue.insert_after(self, old, new) if old is not self.tail else SkbQueue.append(self, new)
        SkbQueue.unlink(self, old)
        node = self.nodes[new] = self.nodes.pop(old)
        node.item = new

    def unlink(self, skb: Skb) -> None:
        """Takes `skb` out."""
        super().unlink(skb)
        self.tree.erase(self.nodes.pop(skb))

    def clear(self) -> None:
        """Empties the queue."""
        super().clear()
        self.tree.root = None
        self.nodes.clear()


class RtxQueue(SkbQueue):
    """tcp_rtx_queue: in the order of sequence numbers; where the kernel has a tree, a long one has an array to search.

    The array is made by the first search and kept until the queue is short.
    """

    __slots__ = ("array",)

    def __init__(self) -> None:
        super().__init__()
        self.array: list[Skb] | None = None

    def at_or_before(self, seq: int) -> Skb | None:
        """The last skb that doesn't begin behind `seq`, for about the logarithm of the queue's length."""
        skb = self.tail
        if skb is None or not before(seq, skb.seq):
            return skb
        assert self.head is not None
        if before(seq, self.head.seq):
            return None
        if self.len > FEW:
            if self.array is None:
                self.array = list(self)
            return self.array[self._rank(self.array, seq)]
        while skb is not None and before(seq, skb.seq):
            skb = skb.prev
        return skb

    @staticmethod
    def _rank(array: list[Skb], seq: int) -> int:
        """Which skb is the last that doesn't begin behind `seq`."""
        first = array[0].seq
        return bisect_right(array, (seq - first) & M32, key=lambda skb: (skb.seq - first) & M32) - 1

    def _place(self, array: list[Skb], skb: Skb) -> int:
        """Where `skb` is; one that was emptied begins where the next one does."""
        if skb is array[0]:
            return 0
        i = self._rank(array, skb.seq)
        while array[i] is not skb:
            i -= 1
        return i

    def append(self, skb: Skb) -> None:
        """Puts `skb` at the tail."""
        super().append(skb)
        if self.array is not None:
            self.array.append(skb)

    def push(self, skb: Skb) -> None:
        """Puts `skb` at the head."""
        super().push(skb)
        if self.array is not None:
            self.array.insert(0, skb)

    def insert_after(self, at: Skb, skb: Skb) -> None:
        """Puts `skb` behind `at`."""
        if self.array is not None and at is not self.tail:
            self.array.insert(self._place(self.array, at) + 1, skb)
        super().insert_after(at, skb)

    def unlink(self, skb: Skb) -> None:
        """Takes `skb` out."""
        if self.array is not None:
            if self.len <= FEW:
                self.array = None
            else:
                del self.array[self._place(self.array, skb)]
        super().unlink(skb)

    def clear(self) -> None:
        """Empties the queue."""
        super().clear()
        self.array = None


class SentQueue:
    """tsorted_sent_queue: skbs that were sent and aren't SACKed, in the order of their last transmission."""

    __slots__ = ("head", "tail")

    def __init__(self) -> None:
        self.head: Skb | None = None
        self.tail: Skb | None = None

    def __iter__(self) -> Iterator[Skb]:
        skb = self.head
        while skb is not None:
            after = skb.ts_next
            yield skb
            skb = after

    def append(self, skb: Skb) -> None:
        """Puts `skb` at the tail, taking it from where it stands."""
        if skb.ts_queued:
            self.unlink(skb)
        skb.ts_prev, skb.ts_next, skb.ts_queued = self.tail, None, True
        if self.tail is None:
            self.head = skb
        else:
            self.tail.ts_next = skb
        self.tail = skb

    def insert_after(self, at: Skb, skb: Skb) -> None:
        """Puts `skb` behind `at`."""
        if at is self.tail:
            self.append(skb)
            return
        skb.ts_prev, skb.ts_next, skb.ts_queued = at, at.ts_next, True
        assert at.ts_next is not None
        at.ts_next.ts_prev = skb
        at.ts_next = skb

    def unlink(self, skb: Skb) -> None:
        """Takes `skb` out if it is in."""
        if not skb.ts_queued:
            return
        if skb.ts_prev is None:
            self.head = skb.ts_next
        else:
            skb.ts_prev.ts_next = skb.ts_next
        if skb.ts_next is None:
            self.tail = skb.ts_prev
        else:
            skb.ts_next.ts_prev = skb.ts_prev
        skb.ts_prev = skb.ts_next = None
        skb.ts_queued = False

    def clear(self) -> None:
        """Empties the queue."""
        for skb in self:
            skb.ts_prev = skb.ts_next = None
            skb.ts_queued = False
        self.head = self.tail = None


class RxOpt:
    """struct tcp_options_received as a socket keeps it."""

    __slots__ = (
        "accecn",
        "dsack",
        "mss_clamp",
        "num_sacks",
        "rcv_tsecr",
        "rcv_tsval",
        "rcv_wscale",
        "sack_ok",
        "saw_tstamp",
        "snd_wscale",
        "ts_recent",
        "ts_recent_stamp",
        "tstamp_ok",
        "user_mss",
        "wscale_ok",
    )  # fmt: skip

    def __init__(self) -> None:
        self.accecn: tuple[int, tuple[int, ...]] | None = None  # order and counters of the segment at hand
        self.ts_recent_stamp = 0  # seconds
        self.ts_recent = 0
        self.rcv_tsval = 0
        self.rcv_tsecr = 0
        self.saw_tstamp = False
        self.tstamp_ok = False
        self.dsack = False
        self.wscale_ok = False
        self.sack_ok = 0  # TCP_SACK_SEEN 1, TCP_DSACK_SEEN 4
        self.snd_wscale = 0
        self.rcv_wscale = 0
        self.num_sacks = 0
        self.user_mss = 0
        self.mss_clamp = 0


class IcskAck:
    """icsk_ack: the acknowledgment that is owed (times in jiffies)."""

    __slots__ = (
        "ato", "dst_quick_ack", "last_seg_size", "lrcv_flowlabel", "lrcvtime", "pending", "pingpong", "quick",
        "rcv_mss", "retry", "timeout",
    )  # fmt: skip

    def __init__(self) -> None:
        self.pending = 0
        self.quick = 0
        self.pingpong = 0
        self.retry = 0
        self.ato = 0
        self.dst_quick_ack = False
        self.timeout = 0
        self.lrcvtime = 0
        self.lrcv_flowlabel = 0
        self.last_seg_size = 0
        self.rcv_mss = 0


class IcskMtup:
    """icsk_mtup: the search for a larger MTU."""

    __slots__ = ("enabled", "probe_size", "probe_timestamp", "search_high", "search_low")

    def __init__(self) -> None:
        self.search_high = 0
        self.search_low = 0
        self.probe_size = 0
        self.enabled = False
        self.probe_timestamp = 0


class Rack:
    """tcp_sock.rack (times in us)."""

    __slots__ = (
        "advanced", "dsack_seen", "end_seq", "last_delivered", "mstamp", "reo_wnd_persist", "reo_wnd_steps", "rtt_us",
    )  # fmt: skip

    def __init__(self) -> None:
        self.mstamp = 0
        self.rtt_us = 0
        self.end_seq = 0
        self.last_delivered = 0
        self.reo_wnd_steps = 1
        self.reo_wnd_persist = 0
        self.dsack_seen = False
        self.advanced = False


class RcvRttEst:
    """tcp_sock.rcv_rtt_est (us, scaled by 8)."""

    __slots__ = ("rtt_us", "seq", "time")

    def __init__(self) -> None:
        self.rtt_us = 0
        self.seq = 0
        self.time = 0


class RcvqSpace:
    """tcp_sock.rcvq_space: what the application copied within the last round trip."""

    __slots__ = ("seq", "space", "time")

    def __init__(self) -> None:
        self.space = 0
        self.seq = 0
        self.time = 0


class CA(IntEnum):
    """icsk_ca_state (include/net/tcp.h)."""

    Open = 0
    Disorder = 1
    CWR = 2
    Recovery = 3
    Loss = 4


class MinMax:
    """struct minmax: a windowed minimum or maximum as three (time, value) samples, best first (lib/minmax.c)."""

    __slots__ = ("s",)

    def __init__(self) -> None:
        self.s = [(0, 0), (0, 0), (0, 0)]

    def get(self) -> int:
        """The best value in the window."""
        return self.s[0][1]

    def reset(self, t: int, v: int) -> int:
        """Forgets all samples but this one."""
        self.s = [(t, v)] * 3
        return v

    def running_max(self, win: int, t: int, v: int) -> int:
        """Takes a sample into the windowed maximum."""
        if v >= self.s[0][1] or ((t - self.s[2][0]) & 0xFFFFFFFF) > win:
            return self.reset(t, v)
        if v >= self.s[1][1]:
            self.s[2] = self.s[1] = (t, v)
        elif v >= self.s[2][1]:
            self.s[2] = (t, v)
        return self._subwin(win, t, v)

    def running_min(self, win: int, t: int, v: int) -> int:
        """Takes a sample into the windowed minimum."""
        if v <= self.s[0][1] or ((t - self.s[2][0]) & 0xFFFFFFFF) > win:
            return self.reset(t, v)
        if v <= self.s[1][1]:
            self.s[2] = self.s[1] = (t, v)
        elif v <= self.s[2][1]:
            self.s[2] = (t, v)
        return self._subwin(win, t, v)

    def _subwin(self, win: int, t: int, v: int) -> int:
        dt = (t - self.s[0][0]) & 0xFFFFFFFF
        if dt > win:
            self.s = [self.s[1], self.s[2], (t, v)]
            if ((t - self.s[0][0]) & 0xFFFFFFFF) > win:
                self.s = [self.s[1], self.s[2], (t, v)]
        elif self.s[1][0] == self.s[0][0] and dt > win // 4:
            self.s[2] = self.s[1] = (t, v)
        elif self.s[2][0] == self.s[1][0] and dt > win // 2:
            self.s[2] = (t, v)
        return self.s[0][1]


class RateSample:
    """struct rate_sample: how much was delivered over which time (us)."""

    __slots__ = (
        "acked_sacked", "delivered", "delivered_ce", "interval_us", "is_ack_delayed", "is_app_limited", "is_retrans",
        "last_end_seq", "losses", "prior_delivered", "prior_delivered_ce", "prior_in_flight", "prior_mstamp",
        "rcv_interval_us", "rtt_us", "snd_interval_us",
    )  # fmt: skip

    def __init__(self) -> None:
        self.prior_mstamp = 0
        self.prior_delivered = 0
        self.prior_delivered_ce = 0
        self.delivered = 0
        self.delivered_ce = 0
        self.interval_us = 0
        self.snd_interval_us = 0
        self.rcv_interval_us = 0
        self.rtt_us = 0
        self.losses = 0
        self.acked_sacked = 0
        self.prior_in_flight = 0
        self.last_end_seq = 0
        self.is_app_limited = False
        self.is_retrans = False
        self.is_ack_delayed = False


class SackBlock:
    """struct tcp_sack_block."""

    __slots__ = ("end_seq", "start_seq")

    def __init__(self, start_seq: int = 0, end_seq: int = 0) -> None:
        self.start_seq = start_seq
        self.end_seq = end_seq


class AckedSample:
    """struct ack_sample: what a congestion control's pkts_acked is told."""

    __slots__ = ("in_flight", "pkts_acked", "rtt_us")

    def __init__(self, pkts_acked: int, rtt_us: int, in_flight: int) -> None:
        self.pkts_acked = pkts_acked
        self.rtt_us = rtt_us
        self.in_flight = in_flight


class Dst:
    """A route as TCP sees it: struct dst_entry with its metrics (0: not set)."""

    __slots__ = (
        "advmss",
        "cc",
        "cwnd",
        "dev_mtu",
        "fastopen_no_cookie",
        "features",
        "hoplimit",
        "initcwnd",
        "initrwnd",
        "lock",
        "mtu",
        "mtu_locked",
        "net",
        "own",
        "pmtu",
        "pmtu_expires",
        "quickack",
        "reordering",
        "rto_min",
        "rtt",
        "rttvar",
        "ssthresh",
        "v6",
        "window",
    )  # fmt: skip

    def __init__(self, dev_mtu: int = 1500) -> None:
        self.dev_mtu = dev_mtu
        self.mtu = 0  # RTAX_MTU
        self.pmtu = 0  # learnt from ICMP
        self.pmtu_expires = 0  # jiffies
        self.advmss = 0  # RTAX_ADVMSS
        self.initcwnd = 0
        self.initrwnd = 0
        self.quickack = 0
        self.rto_min = 0  # us
        self.features = 0
        self.lock: set[str] = set()
        self.ssthresh = 0
        self.rtt = 0
        self.rttvar = 0
        self.cwnd = 0
        self.reordering = 0
        self.hoplimit = 0
        self.cc = ""
        self.window = 0
        self.fastopen_no_cookie = 0
        self.mtu_locked = False  # rt_mtu_locked: a learnt MTU below the minimum
        self.v6 = False
        self.own = False  # a copy of the default route for one peer
        self.net: Net | None = None


class Sock:
    """struct sock, inet_sock, inet_connection_sock and tcp_sock of one full socket.

    One object stands for all four; `sk.icsk_ack` and the like are objects of their own. Every field has the kernel's
    name; the unit is stated where the kernel's isn't bytes, segments or sequence numbers.
    """

    def __init__(self, net: "Net", family: int) -> None:
        self.net = net
        # struct sock
        self.sk_family = family  # 2 or 10
        self.sk_type = 1
        self.sk_state: St = St.CLOSE
        self.sk_shutdown = 0
        self.sk_err = 0
        self.sk_err_soft = 0
        self.sk_sndbuf = 0
        self.sk_rcvbuf = 0
        self.sk_userlocks = 0  # SOCK_SNDBUF_LOCK 1, SOCK_RCVBUF_LOCK 2
        self.sk_wmem_queued = 0
        self.sk_wmem_alloc = 0  # beyond the initial reference
        self.sk_rmem_alloc = 0
        self.sk_forward_alloc = 0
        self.sk_rcvlowat = 1
        self.sk_rcvtimeo = -1  # us; -1: for ever (MAX_SCHEDULE_TIMEOUT)
        self.sk_sndtimeo = -1
        self.sk_lingertime = 0  # us; -1: for ever
        self.sk_max_ack_backlog = 0
        self.sk_ack_backlog = 0
        self.sk_pacing_rate = 0xFFFFFFFFFFFFFFFF  # bytes a second
        self.sk_max_pacing_rate = 0xFFFFFFFFFFFFFFFF
        self.sk_pacing_status = SK_PACING_NONE
        self.sk_pacing_shift = 10
        self.sk_priority = 0
        self.sk_mark = 0
        self.sk_gso_max_size = GSO_LEGACY_MAX_SIZE - (MAX_TCP_HEADER(net.p.max_header) + 1)
        self.sk_gso_max_segs = 65535
        self.sk_drops = 0
        self.sk_omem_alloc = 0
        self.sk_reserved_mem = 0
        self.sk_bind_phc = 0
        self.sk_tsflags = 0
        self.sk_tskey = 0
        self.sk_txhash = 1
        self.sk_txrehash = net.p.txrehash
        self.sk_zckey = 0
        self.sk_user_frags = 0
        self.sk_wq: list[Any] = []  # refmodel.tcp.whole.poll.WaitEntry, in the order in which they are woken
        self.sk_disconnects = 0
        self.sk_peek_off = -1
        self.sk_flags: set[str] = (
            set()
        )  # SOCK_DEAD, SOCK_DONE, SOCK_KEEPOPEN, SOCK_LINGER, SOCK_URGINLINE, SOCK_ZEROCOPY ...
        self.sk_nospace = False  # SOCK_NOSPACE of the socket's flags
        self.sk_write_pending = 0
        self.sk_reuse = 0
        self.sk_reuseport = 0
        self.sk_ipv6only = False
        self.sk_bound = False  # SOCK_BINDPORT_LOCK or bind() done
        self.sk_dst: Dst | None = None
        self.sk_hash: tuple[bytes, int, bytes, int] | None = None  # its key in ehash; (b"", 0, b"", 0) of a listener
        self.icsk_bind_hash: Any = None  # refmodel.tcp.whole.bind.InetBindBucket
        self.local_port_range: tuple[int, int] | None = None  # IP_LOCAL_PORT_RANGE
        self.min_ttl = 0
        self.min_hopcount = 0
        self.sk_receive_queue = SkbQueue()
        self.sk_write_queue = SkbQueue()
        self.tcp_rtx_queue = RtxQueue()
        self.sk_error_queue: deque[Any] = deque()
        self.sk_backlog: deque[Any] = deque()
        self.sk_owned = False  # an application holds the socket
        self.sk_tsq_flags: set[str] = set()
        # struct socket
        self.ss_state = 1  # SS_UNCONNECTED 1, SS_CONNECTING 2, SS_CONNECTED 3
        self.has_socket = True  # a struct socket stands above (children before accept have none)
        # inet_sock
        self.inet_saddr = b""
        self.inet_daddr = b""
        self.inet_rcv_saddr = b""
        self.inet_sport = 0
        self.inet_num = 0
        self.inet_dport = 0
        self.inet_tos = 0
        self.inet_rcv_tos = 0
        self.inet_ttl = -1
        self.inet_id = 0
        self.pmtudisc = 1  # IP_PMTUDISC_WANT
        self.recverr = False
        self.recverr6 = False  # IPV6_RECVERR
        self.np_pmtudisc = 1  # IPV6_MTU_DISCOVER
        self.hop_limit = -1  # IPV6_UNICAST_HOPS
        self.inet_opts: dict[str, int] = {}  # options that are kept for getsockopt() and control messages only
        self.recvtos = False
        self.recvttl = False
        self.tclass = 0
        self.mapped = False  # AF_INET6 that talks IPv4
        self.defer_connect = False
        # inet_connection_sock
        self.icsk_rto = 0  # jiffies
        self.icsk_rto_min = 0  # jiffies
        self.icsk_delack_max = 0  # jiffies
        self.icsk_pmtu_cookie = 0
        self.icsk_ca_ops: Any = None  # refmodel.tcp.whole.ca.CongestionOps
        self.icsk_ca_priv: Any = None
        self.icsk_ca_state: CA = CA.Open
        self.icsk_ca_initialized = False
        self.icsk_ca_setsockopt = False
        self.icsk_ca_dst_locked = False
        self.icsk_retransmits = 0
        self.icsk_pending = 0
        self.icsk_timeout = 0  # jiffies
        self.icsk_backoff = 0
        self.icsk_syn_retries = 0
        self.icsk_probes_out = 0
        self.icsk_ext_hdr_len = 0
        self.icsk_ack = IcskAck()
        self.icsk_mtup = IcskMtup()
        self.icsk_probes_tstamp = 0  # jiffies
        self.icsk_user_timeout = 0  # ms
        self.icsk_retransmit_timer: Timer
        self.icsk_delack_timer: Timer
        self.sk_timer: Timer
        self.pacing_timer: Timer
        self.compressed_ack_timer: Timer
        # the listener's icsk_accept_queue
        self.accept_queue: deque[Any] = deque()  # children that wait, in order
        self.requests: dict[tuple[bytes, int, bytes, int], Any] = {}  # (saddr, sport, daddr, dport) of the peer's SYN
        self.qlen = 0
        self.young = 0
        self.rskq_defer_accept = 0
        self.synflood_warned = False
        self.fastopenq_max_qlen = 0
        self.fastopenq_qlen = 0
        self.fastopenq_rskq_rst: deque[Any] = deque()
        self.fastopenq_ctx: Any = None  # a socket's own keys
        # tcp_sock
        self.max_window = 0
        self.rcv_ssthresh = 0
        self.reordering = TCP_FASTRETRANS_THRESH
        self.notsent_lowat = 0
        self.gso_segs = 0
        self.lost_skb_hint: Skb | None = None
        self.retransmit_skb_hint: Skb | None = None
        self.tsoffset = 0
        self.snd_wnd = 0
        self.mss_cache = TCP_MSS_DEFAULT
        self.snd_cwnd = TCP_INIT_CWND
        self.prr_out = 0
        self.lost_out = 0
        self.sacked_out = 0
        self.tcp_header_len = 20
        self.scaling_ratio = TCP_DEFAULT_SCALING_RATIO
        self.chrono_type = 0
        self.repair = False
        self.repair_queue = 0  # TCP_NO_QUEUE 0, TCP_RECV_QUEUE 1, TCP_SEND_QUEUE 2
        self.tcp_usec_ts = False
        self.is_sack_reneg = False
        self.is_cwnd_limited = False
        self.copied_seq = 0
        self.rcv_tstamp = 0  # jiffies
        self.snd_wl1 = 0
        self.tlp_high_seq = 0
        self.rttvar_us = 0
        self.retrans_out = 0
        self.advmss = 0
        self.urg_data = 0
        self.lost = 0
        self.rtt_min = MinMax()  # us, time in jiffies
        self.out_of_order_queue = OfoQueue()
        self.snd_ssthresh = TCP_INFINITE_SSTHRESH
        self.recvmsg_inq = False
        self.segs_out = 0
        self.data_segs_out = 0
        self.bytes_sent = 0
        self.snd_sml = 0
        self.chrono_start = 0  # jiffies
        self.chrono_stat = [0, 0, 0]
        self.write_seq = 0
        self.pushed_seq = 0
        self.lsndtime = 0  # jiffies
        self.mdev_us = 0
        self.rtt_seq = 0
        self.tcp_wstamp_ns = 0
        self.tsorted_sent_queue = SentQueue()
        self.highest_sack: Skb | None = None
        self.ecn_flags = 0
        self.received_ce = 0
        self.received_ce_pending = 0
        self.received_ecn_bytes = [0, 0, 0]  # by ECN field: ECT(1), ECT(0), CE
        self.delivered_ecn_bytes = [0, 0, 0]
        self.accecn_minlen = 0
        self.est_ecnfield = 0
        self.accecn_opt_demand = 0
        self.accecn_opt_sent_w_dsack = False
        self.accecn_opt_tstamp = 0
        self.prev_ecnfield = 0
        self.syn_ect_snt = 0
        self.syn_ect_rcv = 0
        self.saw_accecn_opt = 0
        self.accecn_fail_mode = 0
        self.pkts_acked_ewma = 0
        self.nonagle = 0
        self.rate_app_limited = False
        self.pred_flags: tuple[Any, ...] | None = None
        self.tcp_clock_cache = 0  # ns
        self.tcp_mstamp = 0  # us
        self.rcv_nxt = 0
        self.snd_nxt = 0
        self.snd_una = 0
        self.window_clamp = 0
        self.srtt_us = 0  # scaled by 8
        self.packets_out = 0
        self.snd_up = 0
        self.delivered = 0
        self.delivered_ce = 0
        self.app_limited = 0
        self.rcv_wnd = 0
        self.rx_opt = RxOpt()
        self.bytes_received = 0
        self.segs_in = 0
        self.data_segs_in = 0
        self.rcv_wup = 0
        self.max_packets_out = 0
        self.cwnd_usage_seq = 0
        self.rate_delivered = 0
        self.rate_interval_us = 0
        self.rcv_rtt_last_tsecr = 0
        self.first_tx_mstamp = 0
        self.delivered_mstamp = 0
        self.bytes_acked = 0
        self.rcv_rtt_est = RcvRttEst()
        self.rcvq_space = RcvqSpace()
        self.dsack_dups = 0
        self.compressed_ack_rcv_nxt = 0
        self.rack = Rack()
        self.compressed_ack = 0
        self.dup_ack_counter = 0
        self.tlp_retrans = False
        self.thin_lto = False
        self.fastopen_connect = False
        self.fastopen_no_cookie = False
        self.fastopen_client_fail = 0
        self.frto = False
        self.save_syn = 0
        self.syn_data = False
        self.syn_fastopen = False
        self.syn_fastopen_exp = False
        self.syn_fastopen_ch = False
        self.syn_fastopen_child = False
        self.syn_data_acked = False
        self.keepalive_probes = 0
        self.mdev_max_us = 0
        self.reord_seen = 0
        self.snd_cwnd_cnt = 0
        self.snd_cwnd_clamp = 0xFFFFFFFF
        self.snd_cwnd_used = 0
        self.snd_cwnd_stamp = 0  # jiffies
        self.prior_cwnd = 0
        self.prr_delivered = 0
        self.last_oow_ack_time = 0  # jiffies
        self.ooo_last_skb: Skb | None = None
        self.duplicate_sack: list[SackBlock] = [SackBlock()]
        self.selective_acks: list[SackBlock] = [SackBlock() for _ in range(4)]
        self.recv_sack_cache: list[SackBlock] = [SackBlock() for _ in range(4)]
        self.lost_cnt_hint = 0
        self.prior_ssthresh = 0
        self.high_seq = 0
        self.retrans_stamp = 0  # in the units of tcp_time_stamp_ts: ms
        self.undo_marker = 0
        self.undo_retrans = 0
        self.bytes_retrans = 0
        self.total_retrans = 0
        self.rto_stamp = 0  # ms
        self.total_rto = 0
        self.total_rto_recoveries = 0
        self.total_rto_time = 0  # ms
        self.urg_seq = 0
        self.keepalive_time = 0  # jiffies; 0: the sysctl
        self.keepalive_intvl = 0  # jiffies; 0: the sysctl
        self.linger2 = 0  # jiffies; -1: none
        self.timeout_rehash = 0
        self.plb_rehash = 0
        self.tcp_tx_delay = 0  # us
        self.rcv_ooopack = 0
        self.mtu_probe_seq_start = 0
        self.mtu_probe_seq_end = 0
        self.mtu_info = 0
        self.md5sig_info: Any = None
        self.fastopen_req: Any = None
        self.fastopen_rsk: Any = None
        self.saved_syn: bytes | None = None
        net.init_timers(self)


class RequestSock:
    """A half-open passive connection: struct request_sock, inet_request_sock and tcp_request_sock."""

    def __init__(self, net: "Net", listener: Sock) -> None:
        self.net = net
        self.sk_state: St = St.NEW_SYN_RECV
        self.rsk_listener = listener
        self.sk: Sock | None = None  # the child of a fast open
        self.ir_loc_addr = b""
        self.ir_rmt_addr = b""
        self.ir_num = 0
        self.ir_rmt_port = 0
        self.ireq_family = listener.sk_family
        self.mss = 0
        self.num_retrans = 0
        self.num_timeout = 0
        self.syncookie = False
        self.timeout = 0  # jiffies
        self.ts_recent = 0
        self.rsk_timer: Timer
        self.saved_syn: bytes | None = None
        self.sk_hash: tuple[bytes, int, bytes, int] | None = None
        self.expires = 0  # jiffies: rsk_timer.expires of a fast open's request, whose timer never runs
        self.snd_wscale = 0
        self.rcv_wscale = 0
        self.tstamp_ok = False
        self.sack_ok = False
        self.wscale_ok = False
        self.ecn_ok = False
        self.accecn_ok = False
        self.saw_accecn_opt = 0
        self.accecn_fail_mode = 0
        self.syn_ect_rcv = 0
        self.syn_ect_snt = 0
        self.acked = False
        self.tfo_listener = False
        self.ir_mark = 0
        self.txhash = 1
        self.rcv_isn = 0
        self.snt_isn = 0
        self.ts_off = 0
        self.snt_synack = 0  # us; 0: none
        self.last_oow_ack_time = 0  # jiffies
        self.rcv_nxt = 0
        self.syn_tos = 0
        self.rsk_rcv_wnd = 0
        self.rsk_window_clamp = 0
        self.req_usec_ts = False
        self.used_md5_key: bytes | None = None
        self.flowlabel = 0


class TimewaitSock:
    """What is left of a connection: struct inet_timewait_sock and tcp_timewait_sock."""

    def __init__(self, net: "Net") -> None:
        self.net = net
        self.sk_family = 0
        self.sk_state: St = St.TIME_WAIT
        self.tw_substate: St = St.TIME_WAIT
        self.tw_daddr = b""
        self.tw_rcv_saddr = b""
        self.tw_num = 0
        self.tw_dport = 0
        self.tw_reuse = 0
        self.tw_ipv6only = False
        self.tw_tos = 0
        self.tw_mark = 0
        self.tw_priority = 0
        self.tw_txhash = 0
        self.tw_rcv_wscale = 0
        self.tw_rcv_nxt = 0
        self.tw_snd_nxt = 0
        self.tw_rcv_wnd = 0
        self.tw_ts_offset = 0
        self.tw_ts_recent = 0
        self.tw_ts_recent_stamp = 0  # seconds
        self.tw_last_oow_ack_time = 0  # jiffies
        self.tw_entry_stamp = 0
        self.tw_md5_key: Any = None
        self.tw_reuseport = 0
        self.tw_flowlabel = 0
        self.tw_usec_ts = False
        self.tw_tb: Any = None  # refmodel.tcp.whole.bind.InetBindBucket
        self.sk_hash: tuple[bytes, int, bytes, int] | None = None
        self.tw_timer: Timer


def tcp_skb_pcount(skb: Skb) -> int:
    """How many segments the skb stands for; source include/net/tcp.h:tcp_skb_pcount."""
    return skb.gso_segs


def tcp_in_initial_slowstart(sk: Sock) -> bool:
    """No loss has set a threshold yet; source include/net/tcp.h:tcp_in_initial_slowstart."""
    return sk.snd_ssthresh >= TCP_INFINITE_SSTHRESH


def tcp_packets_in_flight(sk: Sock) -> int:
    """Segments in the network as far as is known; source include/net/tcp.h:tcp_packets_in_flight."""
    return sk.packets_out - (sk.sacked_out + sk.lost_out) + sk.retrans_out


def tcp_is_sack(sk: Sock) -> bool:
    """The peer permitted SACK; source include/net/tcp.h:tcp_is_sack."""
    return sk.rx_opt.sack_ok != 0


def tcp_write_queue_head(sk: Sock) -> Skb | None:
    """The first unsent skb (tcp_send_head); source include/net/tcp.h:tcp_send_head."""
    return sk.sk_write_queue.head


# ---------------------------------------------------------------- inlines of include/net/tcp.h and include/net/sock.h

PAGE_SIZE: Final = 4096
MAX_SKB_FRAGS: Final = 17
USEC_PER_MSEC: Final = 1000
NSEC_PER_USEC: Final = 1000
TCP_TIMEOUT_MIN_US: Final = 2000


def tcp_wnd_end(sk: Sock) -> int:
    """The right edge of the peer's window; source include/net/tcp.h:tcp_wnd_end."""
    return (sk.snd_una + sk.snd_wnd) & 0xFFFFFFFF


def tcp_left_out(sk: Sock) -> int:
    """Segments that left the network or are lost; source include/net/tcp.h:tcp_left_out."""
    return sk.sacked_out + sk.lost_out


def tcp_receive_window(sk: Sock) -> int:
    """What is left of the window that we advertised; source include/net/tcp.h:tcp_receive_window."""
    win = (sk.rcv_wup + sk.rcv_wnd - sk.rcv_nxt) & 0xFFFFFFFF
    return 0 if win >= 0x80000000 else win


def tcp_in_slow_start(sk: Sock) -> bool:
    """The congestion window is below the threshold; source include/net/tcp.h:tcp_in_slow_start."""
    return sk.snd_cwnd < sk.snd_ssthresh


def tcp_in_cwnd_reduction(sk: Sock) -> bool:
    """The state is CWR or Recovery; source include/net/tcp.h:tcp_in_cwnd_reduction."""
    return sk.icsk_ca_state in (CA.CWR, CA.Recovery)


def tcp_current_ssthresh(sk: Sock) -> int:
    """The threshold to go on with after idleness; source include/net/tcp.h:tcp_current_ssthresh."""
    if tcp_in_cwnd_reduction(sk):
        return sk.snd_ssthresh
    return max(sk.snd_ssthresh, (sk.snd_cwnd >> 1) + (sk.snd_cwnd >> 2))


def tcp_is_cwnd_limited(sk: Sock) -> bool:
    """The congestion window held sending back; source include/net/tcp.h:tcp_is_cwnd_limited."""
    if sk.is_cwnd_limited:
        return True
    return tcp_in_slow_start(sk) and sk.snd_cwnd < 2 * sk.max_packets_out


def tcp_min_rtt(sk: Sock) -> int:
    """The least round trip seen lately (us), 2**32 - 1 if none; source include/net/tcp.h:tcp_min_rtt."""
    return sk.rtt_min.get()


def tcp_skb_mss(skb: Skb) -> int:
    """The segment size of a super-segment; source include/net/tcp.h:tcp_skb_mss."""
    return skb.gso_size


def tcp_skb_can_collapse_to(skb: Skb) -> bool:
    """Data may be added to it; source include/net/tcp.h:tcp_skb_can_collapse_to."""
    return not skb.eor


def tcp_skb_can_collapse(to: Skb, frm: Skb) -> bool:
    """Two skbs may become one; source include/net/tcp.h:tcp_skb_can_collapse."""
    return not to.eor and skb_zcopy_pure(to) == skb_zcopy_pure(frm)


def skb_zcopy_pure(skb: Skb) -> bool:
    """All its data are a user's pages; source include/linux/skbuff.h:skb_zcopy_pure."""
    return skb.uarg is not None and skb.pure_zcopy


def tcp_rto_min(sk: Sock) -> int:
    """The least RTO (jiffies), a route's if it is locked; source include/net/tcp.h:tcp_rto_min."""
    dst = sk.sk_dst
    if dst is not None and "rto_min" in dst.lock:
        return sk.net.usecs_to_jiffies(dst.rto_min)
    return sk.icsk_rto_min


def tcp_rto_min_us(sk: Sock) -> int:
    """The least RTO in us; source include/net/tcp.h:tcp_rto_min_us."""
    return sk.net.jiffies_to_usecs(tcp_rto_min(sk))


def tcp_probe0_base(sk: Sock) -> int:
    """The first interval of window probes (jiffies); source include/net/tcp.h:tcp_probe0_base."""
    return max(sk.icsk_rto, sk.net.hz // 5)


def tcp_probe0_when(sk: Sock, max_when: int) -> int:
    """The next interval of window probes (jiffies); source include/net/tcp.h:tcp_probe0_when."""
    hz = sk.net.hz
    backoff = min((120 * hz // (hz // 5)).bit_length(), sk.icsk_backoff)
    return min(tcp_probe0_base(sk) << backoff, max_when)


def tcp_pacing_delay(sk: Sock) -> int:
    """In how many jiffies pacing lets the next segment go; source include/net/tcp.h:tcp_pacing_delay."""
    delay = sk.tcp_wstamp_ns - sk.tcp_clock_cache
    return delay * sk.net.hz // 1_000_000_000 if delay > 0 else 0


def tcp_needs_internal_pacing(sk: Sock) -> bool:
    """TCP paces by a timer of its own; source include/net/tcp.h:tcp_needs_internal_pacing."""
    return sk.sk_pacing_status == SK_PACING_NEEDED


def tcp_time_stamp_ts(sk: Sock) -> int:
    """The timestamp clock; source include/net/tcp.h:tcp_time_stamp_ts."""
    return (sk.tcp_mstamp if sk.tcp_usec_ts else sk.tcp_mstamp // 1000) & 0xFFFFFFFF


def tcp_skb_timestamp_ts(usec_ts: bool, skb: Skb) -> int:
    """An skb's departure in the timestamp clock; source include/net/tcp.h:tcp_skb_timestamp_ts."""
    return (skb.skb_mstamp if usec_ts else skb.skb_mstamp // 1000) & 0xFFFFFFFF


def tcp_mss_clamp(sk: Sock, mss: int) -> int:
    """`mss`, or the user's if that is less; source include/linux/tcp.h:tcp_mss_clamp."""
    user_mss = sk.rx_opt.user_mss
    return user_mss if 0 < user_mss < mss else mss


def inet_csk_in_pingpong_mode(sk: Sock) -> bool:
    """The session is interactive; source include/net/inet_connection_sock.h:inet_csk_in_pingpong_mode."""
    return sk.icsk_ack.pingpong >= sk.net.p.tcp_pingpong_thresh


def inet_csk_ack_scheduled(sk: Sock) -> bool:
    """An acknowledgment is owed; source include/net/inet_connection_sock.h:inet_csk_ack_scheduled."""
    return bool(sk.icsk_ack.pending & ICSK_ACK_SCHED)


def tcp_urg_mode(sk: Sock) -> bool:
    """Urgent data are unacknowledged; source net/ipv4/tcp_output.c:tcp_urg_mode."""
    return sk.snd_una != sk.snd_up


def tcp_highest_sack_replace(sk: Sock, old: Skb, new: Skb | None) -> None:
    """`new` stands where `old` stood; source include/net/tcp.h:tcp_highest_sack_replace."""
    if sk.highest_sack is old:
        sk.highest_sack = new


def sk_wmem_queued_add(sk: Sock, val: int) -> None:
    """Memory of both send queues; source include/net/sock.h:sk_wmem_queued_add."""
    sk.sk_wmem_queued += val


def sk_mem_charge(sk: Sock, size: int) -> None:
    """Takes memory from what is scheduled; source include/net/sock.h:sk_mem_charge."""
    sk.sk_forward_alloc -= size


def sk_mem_reclaim(sk: Sock) -> None:
    """Gives whole pages back; source include/net/sock.h:sk_mem_reclaim."""
    if sk.sk_forward_alloc >= PAGE_SIZE:
        sk.sk_forward_alloc %= PAGE_SIZE


def sk_mem_uncharge(sk: Sock, size: int) -> None:
    """Puts memory back to what is scheduled; source include/net/sock.h:sk_mem_uncharge."""
    sk.sk_forward_alloc += size
    sk_mem_reclaim(sk)


def sk_forced_mem_schedule(sk: Sock, size: int) -> None:
    """Schedules memory whatever the limits say; source net/ipv4/tcp_output.c:sk_forced_mem_schedule."""
    delta = size - sk.sk_forward_alloc
    if delta > 0:
        sk.sk_forward_alloc += -(-delta // PAGE_SIZE) * PAGE_SIZE


def tcp_is_reno(sk: Sock) -> bool:
    """The peer did not permit SACK; source include/net/tcp.h:tcp_is_reno."""
    return sk.rx_opt.sack_ok == 0


def tcp_stamp_us_delta(t1: int, t0: int) -> int:
    """From `t0` to `t1` in us, 0 if that is negative; source include/net/tcp.h:tcp_stamp_us_delta."""
    return t1 - t0 if t1 > t0 else 0


def tcp_time_stamp_ms(sk: Sock) -> int:
    """The socket's clock in ms; source include/net/tcp.h:tcp_time_stamp_ms."""
    return (sk.tcp_mstamp // 1000) & 0xFFFFFFFF


def tcp_skb_sent_after(t1: int, t2: int, seq1: int, seq2: int) -> bool:
    """The first was sent later, or at the same time and lies behind; source include/net/tcp.h:tcp_skb_sent_after."""
    return t1 > t2 or (t1 == t2 and ((seq2 - seq1) & 0xFFFFFFFF) >= 0x80000000)


def tcp_highest_sack_seq(sk: Sock) -> int:
    """Where the skb behind the last SACKed one begins; source include/net/tcp.h:tcp_highest_sack_seq."""
    if sk.sacked_out == 0:
        return sk.snd_una
    return sk.snd_nxt if sk.highest_sack is None else sk.highest_sack.seq


def tcp_advance_highest_sack(sk: Sock, skb: Skb) -> None:
    """The highest SACK is `skb`; source include/net/tcp.h:tcp_advance_highest_sack."""
    sk.highest_sack = skb.next


def tcp_highest_sack_reset(sk: Sock) -> None:
    """Nothing is SACKed; source include/net/tcp.h:tcp_highest_sack_reset."""
    sk.highest_sack = sk.tcp_rtx_queue.head


def tcp_clear_retrans_hints_partial(sk: Sock) -> None:
    """Forgets where loss marking stood; source include/net/tcp.h:tcp_clear_retrans_hints_partial."""
    sk.lost_skb_hint = None


def tcp_clear_all_retrans_hints(sk: Sock) -> None:
    """Forgets where loss marking and retransmission stood; source include/net/tcp.h:tcp_clear_all_retrans_hints."""
    sk.lost_skb_hint = None
    sk.retransmit_skb_hint = None


def tcp_rtx_queue_unlink_and_free(skb: Skb, sk: Sock) -> None:
    """Frees an skb of the retransmit queue; source include/net/tcp.h:tcp_rtx_queue_unlink_and_free."""
    sk.tsorted_sent_queue.unlink(skb)
    sk.tcp_rtx_queue.unlink(skb)
    tcp_wmem_free_skb(sk, skb)


def sk_wmem_schedule(sk: Sock, size: int) -> bool:
    """Schedules memory for sending; source include/net/sock.h:sk_wmem_schedule."""
    sk_forced_mem_schedule(sk, size)
    return True


def sk_stream_wspace(sk: Sock) -> int:
    """How much the send buffer still takes; source include/net/sock.h:sk_stream_wspace."""
    return sk.sk_sndbuf - sk.sk_wmem_queued


def tx_skb_truesize(sk: Sock) -> int:
    """Memory of an skb without payload that TCP allocates; source net/ipv4/tcp.c:tcp_stream_alloc_skb."""
    p = sk.net.p
    return SKB_TRUESIZE(skb_end_offset(MAX_TCP_HEADER(p.max_header), p.kernel, p.max_header))


def tcp_wmem_free_skb(sk: Sock, skb: Skb) -> None:
    """Frees an skb of a send queue; source include/net/tcp.h:tcp_wmem_free_skb."""
    sk.sk_wmem_queued -= skb.truesize
    if skb.uarg is None:
        sk_mem_uncharge(sk, skb.truesize)
        return
    from refmodel.tcp.whole import errqueue

    sk_mem_uncharge(sk, tx_skb_truesize(sk) if skb.pure_zcopy else skb.truesize)
    errqueue.skb_zcopy_clear(skb, True)


# ---------------------------------------------------------------- the receiver's inlines


def options_size(opts: TcpOptions) -> int:
    """How many bytes of options a header carries; source net/ipv4/tcp_output.c:tcp_options_write."""
    if opts.size >= 0:
        return opts.size
    n = 0
    if opts.md5 is not None:
        n += 20
    if opts.mss:
        n += 4
    if opts.tsval is not None:
        n += 12
    elif opts.sack_perm:
        n += 4
    if opts.wscale is not None:
        n += 4
    if opts.sacks:
        n += 4 + 8 * len(opts.sacks)
    if opts.fastopen is not None:
        n += (len(opts.fastopen) + (4 if opts.fastopen_exp else 2) + 3) & ~3
    if opts.accecn is not None:
        n += (5 + 3 * len(opts.accecn[1])) & ~3
    opts.size = n
    return n


def tcp_hdrlen(packet: Packet) -> int:
    """The length of the TCP header in bytes; source include/linux/tcp.h:tcp_hdrlen."""
    return 20 + options_size(packet.opts)


def tcp_fast_path_on(sk: Sock) -> None:
    """Predicts the next header: its length, the window and the flags, with Accurate ECN those of the last mark.

    source include/net/tcp.h:tcp_fast_path_on
    """
    ace = (sk.delivered_ce + 5 & 7) << 6 if sk.ecn_flags & 17 == 16 else 0
    sk.pred_flags = (sk.tcp_header_len, sk.snd_wnd >> sk.rx_opt.snd_wscale, ACK | ace)


def tcp_fast_path_check(sk: Sock) -> None:
    """Predicts headers unless something needs a closer look; source include/net/tcp.h:tcp_fast_path_check."""
    if sk.out_of_order_queue.head is None and sk.rcv_wnd and sk.sk_rmem_alloc < sk.sk_rcvbuf and not sk.urg_data:
        tcp_fast_path_on(sk)


def tcp_sack_reset(rx_opt: RxOpt) -> None:
    """Forgets the SACK blocks that are to be sent; source include/net/tcp.h:tcp_sack_reset."""
    rx_opt.dsack = False
    rx_opt.num_sacks = 0


def tcp_clear_options(rx_opt: RxOpt) -> None:
    """Nothing was agreed on; source include/linux/tcp.h:tcp_clear_options."""
    rx_opt.tstamp_ok = False
    rx_opt.sack_ok = 0
    rx_opt.wscale_ok = False
    rx_opt.snd_wscale = 0


def inet_csk_schedule_ack(sk: Sock) -> None:
    """An acknowledgment is owed; source include/net/inet_connection_sock.h:inet_csk_schedule_ack."""
    sk.icsk_ack.pending |= ICSK_ACK_SCHED


def inet_csk_enter_pingpong_mode(sk: Sock) -> None:
    """Takes the session for interactive; source include/net/inet_connection_sock.h:inet_csk_enter_pingpong_mode."""
    sk.icsk_ack.pingpong = sk.net.p.tcp_pingpong_thresh


def inet_csk_exit_pingpong_mode(sk: Sock) -> None:
    """Takes the session for a bulk transfer; source include/net/inet_connection_sock.h:inet_csk_exit_pingpong_mode."""
    sk.icsk_ack.pingpong = 0


def sk_rmem_schedule(sk: Sock, size: int) -> bool:
    """Schedules memory for receiving; source include/net/sock.h:sk_rmem_schedule."""
    sk_forced_mem_schedule(sk, size)
    return True
