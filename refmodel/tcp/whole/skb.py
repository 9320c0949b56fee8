"""Buffers, packets and the queues that hold them.

The law: payload has no content: a buffer is the range [seq, end_seq). Queues are doubly linked, so that a step costs
what it touches and never the length of a queue.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from refmodel.tcp.whole.const import FEW, FIN, SYN
from refmodel.tcp.whole.rbtree import Node, RbTree
from refmodel.types import M32, before

if TYPE_CHECKING:
    from refmodel.tcp.whole.sock import Sock


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
