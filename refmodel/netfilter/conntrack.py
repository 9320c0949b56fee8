"""Connection tracking: which connection a packet belongs to, and what it is to it.

The law: a packet gets its entry where it enters (PRE_ROUTING, LOCAL_OUT); a new entry is put into the table only where
the packet leaves or is delivered (POST_ROUTING, LOCAL_IN), so that what a ruleset drops leaves no trace. Both
directions of an entry are found by their tuples, and no tuple is in the table twice.
"""

import errno
from collections import Counter
from typing import Final

from refmodel.netfilter import proto
from refmodel.netfilter.conn import CtTable, NfConn, nf_ct_get, nf_ct_set
from refmodel.netfilter.core import Hooks, NfHookOps, NfHookState
from refmodel.netfilter.env import NetfilterEnv
from refmodel.netfilter.params import SECOND, CtParams, TcpCtParams
from refmodel.netfilter.skb import ip_is_fragment
from refmodel.netfilter.tuples import (
    IPPROTO_DCCP,
    IPPROTO_SCTP,
    IPPROTO_UDPLITE,
    Tuple,
    get_l4proto,
    inverted,
    nf_ct_get_tuple,
    nf_ct_invert_tuple,
)
from refmodel.netfilter.uapi import (
    CTINFO2DIR,
    IP_DEFRAG_CONNTRACK_IN,
    IP_DEFRAG_CONNTRACK_OUT,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    NF_ACCEPT,
    NF_DROP,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_CONNTRACK,
    NF_IP_PRI_CONNTRACK_CONFIRM,
    NF_IP_PRI_CONNTRACK_DEFRAG,
    NF_REPEAT,
    NF_STOLEN,
    ORIGINAL,
    REPLY,
    Info,
    Ips,
)  # fmt: skip
from refmodel.rule import NotModelled, cited
from refmodel.skbuff import SkBuff

NF_CT_EVICTION_RANGE: Final = 8
OWN_TRACKERS: Final = (IPPROTO_SCTP, IPPROTO_DCCP, IPPROTO_UDPLITE, 47, 58)  # and GRE, ICMPv6
NO_CLASH: Final = (IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_DCCP)
CORE: Final = "net/netfilter/nf_conntrack_core.c:"


class Conntrack:
    """The connections of one namespace.

    `stat` counts as /proc/net/stat/nf_conntrack does: found, invalid, insert_failed, drop, early_drop, error,
    clash_resolve. `nat_bysource` finds entries by what their first packet came from, newest first. `users` is how many
    rules and tables need connections: the hooks are registered while there are any.
    """

    def __init__(
        self,
        env: NetfilterEnv,
        hooks: Hooks,
        params: CtParams | None = None,
        tcp_params: TcpCtParams | None = None,
        buckets: int = 65_536,
    ) -> None:
        self.env = env
        self.hooks = hooks
        self.params = params or CtParams()
        self.tcp_params = tcp_params or TcpCtParams()
        self.table = CtTable(buckets)
        self.stat: Counter[str] = Counter()
        self.nat_bysource: dict[tuple[bytes, int, int], list[NfConn]] = {}
        self.users = 0
        hooks.freed = self.nf_ct_put
        self.ops = (
            NfHookOps(self.ipv4_conntrack_defrag, NF_INET_PRE_ROUTING, NF_IP_PRI_CONNTRACK_DEFRAG, "defrag"),
            NfHookOps(self.ipv4_conntrack_defrag, NF_INET_LOCAL_OUT, NF_IP_PRI_CONNTRACK_DEFRAG, "defrag"),
            NfHookOps(self.ipv4_conntrack_in, NF_INET_PRE_ROUTING, NF_IP_PRI_CONNTRACK, "conntrack"),
            NfHookOps(self.ipv4_conntrack_local, NF_INET_LOCAL_OUT, NF_IP_PRI_CONNTRACK, "conntrack"),
            NfHookOps(self.nf_confirm, NF_INET_POST_ROUTING, NF_IP_PRI_CONNTRACK_CONFIRM, "confirm"),
            NfHookOps(self.nf_confirm, NF_INET_LOCAL_IN, NF_IP_PRI_CONNTRACK_CONFIRM, "confirm"),
        )

    # ---- being needed

    @cited("net/netfilter/nf_conntrack_proto.c:nf_ct_netns_get")
    def nf_ct_netns_get(self) -> None:
        """Somebody needs connections: the first one registers the hooks."""
        self.users += 1
        if self.users == 1:
            for ops in self.ops:
                self.hooks.nf_register_net_hook(ops)

    @cited("net/netfilter/nf_conntrack_proto.c:nf_ct_netns_put")
    def nf_ct_netns_put(self) -> None:
        """Somebody needs them no more: the last one takes the hooks away."""
        self.users -= 1
        if self.users == 0:
            for ops in self.ops:
                self.hooks.nf_unregister_net_hook(ops)

    # ---- time

    def ticks(self, us: int) -> int:
        """A time in us as ticks."""
        return us * self.env.hz // SECOND

    @cited("include/net/netfilter/nf_conntrack.h:nf_ct_expires")
    def nf_ct_expires(self, ct: NfConn) -> int:
        """Ticks that an entry has left.

        Of one that isn't confirmed, whose timeout counts from its confirmation, Linux takes the tick away all the same.
        """
        return max(s32(ct.timeout - self.env.jiffies), 0)

    def nf_ct_is_expired(self, ct: NfConn) -> bool:
        """Its time is over; source include/net/netfilter/nf_conntrack.h:nf_ct_is_expired."""
        return s32(ct.timeout - self.env.jiffies) <= 0

    @cited(CORE + "__nf_ct_refresh_acct")
    def nf_ct_refresh_acct(self, ct: NfConn, ctinfo: int, skb: SkBuff, extra_us: int) -> None:
        """The entry lives that long from now, and the packet is counted."""
        if not ct.status & Ips.FIXED_TIMEOUT:
            ct.timeout = self.ticks(extra_us) + (self.env.jiffies if ct.confirmed else 0)
        self.nf_ct_acct_update(ct, CTINFO2DIR(ctinfo), skb)

    def nf_ct_acct_update(self, ct: NfConn, direction: int, skb: SkBuff) -> None:
        """Counts a packet where nf_conntrack_acct is on."""
        if self.params.sysctl_acct:
            ct.acct[direction][0] += 1
            ct.acct[direction][1] += len(skb.data)

    # ---- the table

    @cited(CORE + "nf_conntrack_find_get", CORE + "____nf_conntrack_find")
    def nf_conntrack_find_get(self, t: Tuple) -> tuple[NfConn, int] | None:
        """The entry and the direction that a tuple belongs to; one whose time is over is deleted."""
        found = self.table.by_tuple.get(t)
        if found and self.nf_ct_is_expired(found[0]):
            self.nf_ct_delete(found[0])
            return None
        return found

    @cited(CORE + "nf_ct_delete")
    def nf_ct_delete(self, ct: NfConn) -> bool:
        """Takes an entry out; False if it is dying already."""
        if ct.status & Ips.DYING:
            return False
        ct.status |= Ips.DYING
        self.table.remove(ct)
        self.nf_conntrack_free(ct)
        return True

    @cited(CORE + "nf_conntrack_free", "net/netfilter/nf_nat_core.c:nf_nat_cleanup_conntrack")
    def nf_conntrack_free(self, ct: NfConn) -> None:
        """An entry that is in the table no more, or never was, is forgotten by NAT too."""
        if ct.status & Ips.SRC_NAT_DONE:
            same = self.nat_bysource.get(self.source_of(ct), [])
            if ct in same:
                same.remove(ct)

    @staticmethod
    def source_of(ct: NfConn) -> tuple[bytes, int, int]:
        """What an entry's first packet came from: address, port or id, protocol."""
        return ct.orig.src, ct.orig.sport, ct.orig.protonum

    @cited(CORE + "nf_ct_destroy", "include/net/netfilter/nf_conntrack.h:nf_ct_put")
    def nf_ct_put(self, skb: SkBuff) -> None:
        """A packet is freed: with it goes an entry that isn't in the table."""
        ct = nf_ct_get(skb)
        if ct is not None and not ct.confirmed:
            self.nf_conntrack_free(ct)

    @cited(CORE + "nf_ct_kill_acct")
    def nf_ct_kill_acct(self, ct: NfConn, ctinfo: int, skb: SkBuff) -> bool:
        """Deletes an entry, counting its last packet."""
        self.nf_ct_acct_update(ct, CTINFO2DIR(ctinfo), skb)
        return self.nf_ct_delete(ct)

    @cited(CORE + "gc_worker")
    def gc_worker(self) -> int:
        """Deletes what has expired: how many entries. The kernel does it in portions, as time permits."""
        over = [ct for ct, _ in self.table.by_tuple.values() if self.nf_ct_is_expired(ct)]
        return sum(self.nf_ct_delete(ct) for ct in over)

    @cited(CORE + "early_drop_list")
    def early_drop_list(self, bucket: int) -> int:
        """Deletes what expired or isn't ASSURED in a bucket: how many of the latter."""
        drops = 0
        for ct, _ in tuple(self.table.buckets.get(bucket, ())):
            if self.nf_ct_is_expired(ct):
                self.nf_ct_delete(ct)
            elif not ct.status & (Ips.ASSURED | Ips.DYING) and self.nf_ct_delete(ct):
                drops += 1
        return drops

    @cited(CORE + "early_drop")
    def early_drop(self, t: Tuple) -> bool:
        """The table is full: what isn't ASSURED in the next eight buckets has to go."""
        first = self.table.hash_conntrack(t)
        for i in range(NF_CT_EVICTION_RANGE):
            drops = self.early_drop_list((first + i) % self.table.size)
            if drops:
                self.stat["early_drop"] += drops
                self.env.note("early_drop", f"table full: {drops} entries that aren't ASSURED dropped")
                return True
        return False

    @cited(CORE + "__nf_conntrack_alloc")
    def nf_conntrack_alloc(self, orig: Tuple, repl: Tuple) -> NfConn | None:
        """A new entry; None if the table is full and nothing can be dropped."""
        limit = self.params.nf_conntrack_max
        if limit and len(self.table.entries()) + 1 > limit and not self.early_drop(orig):
            self.env.note("nf_conntrack_alloc", f"nf_conntrack_max {limit}: table full, dropping packet")
            return None
        return NfConn(orig, repl)

    # ---- a packet comes in

    @cited("net/ipv4/netfilter/nf_defrag_ipv4.c:ipv4_conntrack_defrag")
    def ipv4_conntrack_defrag(self, skb: SkBuff, state: NfHookState) -> int:
        """Fragments are put together first, so that every packet has its ports."""
        if skb.nfct is None and skb.nfctinfo == Info.UNTRACKED:
            return NF_ACCEPT
        if not ip_is_fragment(skb):
            return NF_ACCEPT
        inside = state.hook == NF_INET_PRE_ROUTING
        user = IP_DEFRAG_CONNTRACK_IN if inside else IP_DEFRAG_CONNTRACK_OUT
        if self.env.ip_defrag(skb, user):
            self.env.note("ipv4_conntrack_defrag", "a fragment: waits for the rest")
            return NF_STOLEN
        skb.ignore_df = True
        self.env.note("ipv4_conntrack_defrag", f"reassembled: {len(skb.data)} bytes")
        return NF_ACCEPT

    @cited("net/netfilter/nf_conntrack_proto.c:ipv4_conntrack_in")
    def ipv4_conntrack_in(self, skb: SkBuff, state: NfHookState) -> int:
        """A packet from outside gets its connection."""
        return self.nf_conntrack_in(skb, state)

    @cited("net/netfilter/nf_conntrack_proto.c:ipv4_conntrack_local")
    def ipv4_conntrack_local(self, skb: SkBuff, state: NfHookState) -> int:
        """A packet from here gets its connection, unless it is a fragment that was to stay one (IP_NODEFRAG)."""
        if ip_is_fragment(skb):
            return NF_ACCEPT
        return self.nf_conntrack_in(skb, state)

    @cited(CORE + "nf_conntrack_in")
    def nf_conntrack_in(self, skb: SkBuff, state: NfHookState) -> int:
        """Finds or makes the packet's entry, and lets the protocol's tracker judge the packet."""
        if skb.nfct is not None or skb.nfctinfo == Info.UNTRACKED:
            if skb.nfct is None or not skb.nfct.template:
                self.env.note("nf_conntrack_in", "untracked" if skb.nfct is None else "has its connection already")
                return NF_ACCEPT
            raise NotModelled("templates: the CT target with a zone, a helper, events or a timeout")
        dataoff, protonum = get_l4proto(skb, 0)
        if dataoff <= 0:
            self.stat["invalid"] += 1
            self.env.note("nf_conntrack_in", "INVALID: no transport header")
            return NF_ACCEPT
        if protonum == IPPROTO_ICMP:
            ret = proto.nf_conntrack_icmpv4_error(self, skb, dataoff, state)
            if ret <= 0:
                self.stat["error"] += 1
                return -ret
            if skb.nfct is not None:
                return ret
        while True:
            if self.resolve_normal_ct(skb, dataoff, protonum) < 0:
                self.stat["drop"] += 1
                return NF_DROP
            ct = nf_ct_get(skb)
            if ct is None:
                self.stat["invalid"] += 1
                self.env.note("nf_conntrack_in", "INVALID: no tuple, or one without an answer")
                return NF_ACCEPT
            ctinfo = skb.nfctinfo
            ret = self.nf_conntrack_handle_packet(ct, skb, dataoff, ctinfo, state)
            if ret > 0:
                break
            nf_ct_set(skb, None, 0)
            if ret == -NF_REPEAT:
                self.env.note("nf_conntrack_in", "reopened: looked up again")
                continue
            self.stat["invalid"] += 1
            if ret == NF_DROP:
                self.stat["drop"] += 1
            return -ret
        if ctinfo == Info.ESTABLISHED_REPLY:
            ct.status |= Ips.SEEN_REPLY
        self.env.note("nf_conntrack_in", f"{Info(ctinfo).name}: {ct.tuplehash[CTINFO2DIR(ctinfo)]}")
        return ret

    @cited(CORE + "resolve_normal_ct")
    def resolve_normal_ct(self, skb: SkBuff, dataoff: int, protonum: int) -> int:
        """Finds or makes the entry of a packet's tuple: 0, or ENOMEM if the table is full."""
        t = nf_ct_get_tuple(skb, 0, dataoff, protonum)
        if t is None:
            return 0
        found = self.nf_conntrack_find_get(t)
        if found is None:
            repl = nf_ct_invert_tuple(t)
            if repl is None:
                return 0
            ct = self.init_conntrack(t, repl)
            if ct is None:
                return -errno.ENOMEM
            found = (ct, ORIGINAL)
        ct, direction = found
        nf_ct_set(skb, ct, ctinfo_of(ct.status, direction))
        return 0

    @cited(CORE + "init_conntrack")
    def init_conntrack(self, orig: Tuple, repl: Tuple) -> NfConn | None:
        """A new entry for a packet that belongs to none; None if there is no room."""
        return self.nf_conntrack_alloc(orig, repl)

    @cited(CORE + "nf_conntrack_handle_packet")
    def nf_conntrack_handle_packet(self, ct: NfConn, skb: SkBuff, dataoff: int, ctinfo: int, state: NfHookState) -> int:
        """The protocol's tracker: ACCEPT, or a negative verdict if the packet is INVALID."""
        if ct.protonum == IPPROTO_TCP:
            return proto.nf_conntrack_tcp_packet(self, ct, skb, dataoff, ctinfo, state)
        if ct.protonum == IPPROTO_UDP:
            return proto.nf_conntrack_udp_packet(self, ct, skb, dataoff, ctinfo, state)
        if ct.protonum == IPPROTO_ICMP:
            return proto.nf_conntrack_icmp_packet(self, ct, skb, ctinfo)
        if ct.protonum in OWN_TRACKERS:
            raise NotModelled(f"connection tracking of protocol {ct.protonum}")
        return proto.generic_packet(self, ct, skb, ctinfo)

    # ---- a packet leaves

    @cited("net/netfilter/nf_conntrack_proto.c:nf_confirm")
    def nf_confirm(self, skb: SkBuff, state: NfHookState) -> int:
        """The packet has come through: its connection is real."""
        ct = nf_ct_get(skb)
        if ct is None:
            return NF_ACCEPT
        return self.nf_conntrack_confirm(skb)

    @cited("include/net/netfilter/nf_conntrack_core.h:nf_conntrack_confirm")
    def nf_conntrack_confirm(self, skb: SkBuff) -> int:
        """Puts the packet's entry into the table if it isn't there yet; DROP if that fails."""
        ct = nf_ct_get(skb)
        if ct is None or ct.confirmed:
            return NF_ACCEPT
        return self.__nf_conntrack_confirm(skb, ct)

    @cited(CORE + "__nf_conntrack_confirm")
    def __nf_conntrack_confirm(self, skb: SkBuff, ct: NfConn) -> int:
        """Puts a new entry into the table, under both its tuples, if nobody else has them."""
        if CTINFO2DIR(skb.nfctinfo) != ORIGINAL:
            return NF_ACCEPT
        if ct.status & Ips.DYING:
            self.stat["insert_failed"] += 1
            return NF_DROP
        for t in (ct.orig, ct.repl):
            clash = self.table.by_tuple.get(t)
            if clash is not None:
                return self.nf_ct_resolve_clash(skb, ct, clash[0])
        ct.timeout += self.env.jiffies
        self.table.insert(ct, ORIGINAL)
        self.table.insert(ct, REPLY)
        ct.status |= Ips.CONFIRMED
        self.env.note("__nf_conntrack_confirm", f"new: {ct.orig}, answers {ct.repl}")
        return NF_ACCEPT

    @cited(CORE + "nf_ct_resolve_clash")
    def nf_ct_resolve_clash(self, skb: SkBuff, loser_ct: NfConn, ct: NfConn) -> int:
        """Somebody else has the tuple: a packet of the same flow joins it, another one is dropped."""
        if ct.protonum not in NO_CLASH:
            if self.__nf_ct_resolve_clash(skb, loser_ct, ct) == NF_ACCEPT:
                return NF_ACCEPT
            if self.nf_ct_resolve_clash_harder(skb, loser_ct) == NF_ACCEPT:
                return NF_ACCEPT
        self.stat["drop"] += 1
        self.stat["insert_failed"] += 1
        self.nf_conntrack_free(loser_ct)
        self.env.note("nf_ct_resolve_clash", f"{loser_ct.orig} clashes with {ct.orig}: dropped")
        return NF_DROP

    @cited(CORE + "__nf_ct_resolve_clash")
    def __nf_ct_resolve_clash(self, skb: SkBuff, loser_ct: NfConn, ct: NfConn) -> int:
        """The same flow in both directions: the packet takes the entry that was first."""
        same = ct.tuplehash == loser_ct.tuplehash
        crossed = self.env.kernel >= 612 and ct.orig == loser_ct.repl and ct.repl == loser_ct.orig
        if not (same or crossed):
            return NF_DROP
        nf_ct_set(skb, ct, skb.nfctinfo)
        self.stat["clash_resolve"] += 1
        return NF_ACCEPT

    @cited(CORE + "nf_ct_resolve_clash_harder")
    def nf_ct_resolve_clash_harder(self, skb: SkBuff, loser_ct: NfConn) -> int:
        """Only the original direction clashes: the entry is kept for its answers, for one second."""
        found = self.table.by_tuple.get(loser_ct.repl)
        if found is not None:
            return self.__nf_ct_resolve_clash(skb, loser_ct, found[0])
        loser_ct.timeout = self.env.jiffies + self.env.hz
        loser_ct.status |= Ips.FIXED_TIMEOUT | Ips.NAT_CLASH
        self.table.insert(loser_ct, REPLY)
        loser_ct.status |= Ips.CONFIRMED
        self.stat["clash_resolve"] += 1
        return NF_ACCEPT

    @cited(CORE + "nf_conntrack_tuple_taken")
    def nf_conntrack_tuple_taken(self, t: Tuple, ignored: NfConn) -> bool:
        """Whether another connection has that tuple, so that NAT can't give it."""
        found = self.nf_conntrack_find_get(t)
        if found is None or found[0] is ignored or found[0].orig == ignored.orig:
            return False
        self.stat["found"] += 1
        return True

    @cited(CORE + "nf_conntrack_alter_reply")
    def nf_conntrack_alter_reply(self, ct: NfConn, newreply: Tuple) -> None:
        """NAT changes what answers to a connection look like."""
        ct.tuplehash[REPLY] = newreply

    # ---- what a host sends about a packet

    @cited("net/netfilter/core.c:nf_ct_attach", CORE + "nf_conntrack_attach")
    def nf_ct_attach(self, new: SkBuff, skb: SkBuff) -> None:
        """An error or a reset that is made here is RELATED to the connection of what it answers."""
        if skb.nfct is None and skb.nfctinfo == 0:
            return
        related = Info.RELATED_REPLY if CTINFO2DIR(skb.nfctinfo) == ORIGINAL else Info.RELATED
        nf_ct_set(new, skb.nfct, related)

    @cited("include/linux/skbuff.h:nf_reset_ct")
    def nf_reset_ct(self, skb: SkBuff) -> None:
        """The packet forgets its connection."""
        nf_ct_set(skb, None, 0)


def s32(ticks: int) -> int:
    """A difference of ticks as the kernel has it: in 32 bits, with a sign."""
    return ((ticks + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def ctinfo_of(status: int, direction: int) -> Info:
    """What a packet of an entry is: an answer, ESTABLISHED once both ways were seen, RELATED if expected, else NEW."""
    if direction == REPLY:
        return Info.ESTABLISHED_REPLY
    if status & Ips.SEEN_REPLY:
        return Info.ESTABLISHED
    return Info.RELATED if status & Ips.EXPECTED else Info.NEW


__all__ = ["Conntrack", "ctinfo_of", "inverted"]
