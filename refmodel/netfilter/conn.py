"""A connection's entry: struct nf_conn, and the table that finds it by the tuples of its two directions."""

from zlib import crc32

from refmodel.netfilter.tcp_state import CtTcp
from refmodel.netfilter.tuples import Tuple
from refmodel.netfilter.uapi import ORIGINAL, REPLY, Ips
from refmodel.skbuff import SkBuff


class NfConn:
    """One connection.

    `tuplehash` are the tuples of the original and the reply direction. `status` are IPS_ bits. `timeout` is a tick: the
    one in which it ends once it is confirmed, before that the ticks that it is to live. `tcp` is the TCP tracker's
    state, `stream_ts` the tick after which a UDP flow counts as a stream. `masq_index` is the ifindex that its address
    was masqueraded for (0: none). `acct` are (packets, bytes) by direction where nf_conntrack_acct is on.
    """

    __slots__ = ("acct", "mark", "masq_index", "status", "stream_ts", "tcp", "timeout", "tuplehash")

    def __init__(self, orig: Tuple, repl: Tuple) -> None:
        self.tuplehash = [orig, repl]
        self.status = Ips(0)
        self.timeout = 0
        self.mark = 0
        self.tcp = CtTcp()
        self.stream_ts = 0
        self.masq_index = 0
        self.acct = [[0, 0], [0, 0]]

    @property
    def orig(self) -> Tuple:
        """The tuple of packets that go as the first one did."""
        return self.tuplehash[ORIGINAL]

    @property
    def repl(self) -> Tuple:
        """The tuple of packets that go the other way, as they come in."""
        return self.tuplehash[REPLY]

    @property
    def protonum(self) -> int:
        """Its transport protocol; source include/net/netfilter/nf_conntrack.h:nf_ct_protonum."""
        return self.tuplehash[ORIGINAL].protonum

    @property
    def confirmed(self) -> bool:
        """It is in the table; source include/net/netfilter/nf_conntrack.h:nf_ct_is_confirmed."""
        return bool(self.status & Ips.CONFIRMED)

    @property
    def template(self) -> bool:
        """It only says how to track; source include/net/netfilter/nf_conntrack.h:nf_ct_is_template."""
        return bool(self.status & Ips.TEMPLATE)

    def __repr__(self) -> str:
        return f"<nf_conn {self.orig} | {self.repl} {self.status!r}>"


def nf_ct_get(skb: SkBuff) -> NfConn | None:
    """A packet's entry; None without one, or if it is not to be tracked (then nfctinfo is UNTRACKED)."""
    ct: NfConn | None = skb.nfct
    return ct


def nf_ct_set(skb: SkBuff, ct: NfConn | None, info: int) -> None:
    """Gives a packet its entry and what it is to it."""
    skb.nfct = ct
    skb.nfctinfo = info


class CtTable:
    """nf_conntrack_hash: entries by the tuple of either direction, in buckets as far as early_drop needs them.

    NAT can make both tuples of an entry the same one: then the reply direction is found, which was put in last.
    The kernel's hash has a secret key; here it is a fixed one, so which entries share a bucket is this model's choice.
    """

    def __init__(self, size: int = 65_536) -> None:
        self.size = size
        self.by_tuple: dict[Tuple, tuple[NfConn, int]] = {}
        self.buckets: dict[int, list[tuple[NfConn, int]]] = {}

    def hash_conntrack(self, t: Tuple) -> int:
        """The bucket of a tuple."""
        raw = crc32(t.src + t.dst + t.sport.to_bytes(2, "big") + t.dport.to_bytes(2, "big") + bytes((t.protonum,)))
        return raw * self.size >> 32

    def insert(self, ct: NfConn, direction: int) -> None:
        """Puts one direction at the head of its bucket."""
        t = ct.tuplehash[direction]
        self.by_tuple[t] = (ct, direction)
        self.buckets.setdefault(self.hash_conntrack(t), []).insert(0, (ct, direction))

    def remove(self, ct: NfConn) -> None:
        """Takes both directions out."""
        for direction in (ORIGINAL, REPLY):
            t = ct.tuplehash[direction]
            if self.by_tuple.get(t, (None, 0)) == (ct, direction):
                del self.by_tuple[t]
            chain = self.buckets.get(self.hash_conntrack(t), [])
            if (ct, direction) in chain:
                chain.remove((ct, direction))

    def entries(self) -> list[NfConn]:
        """Every entry whose original direction can be found."""
        return [ct for chain in self.buckets.values() for ct, direction in chain if direction == ORIGINAL]
