"""NAT: which addresses and ports a connection gets, set up once by its first packet, and applied to every one.

The law: a mapping is chosen so that answers can be told apart: the tuple of the answers is in no other entry. What is
done to a packet of one direction is undone to the answers, since both are read from the same two tuples.
"""

import errno
from typing import Final, NamedTuple

from refmodel.netdevice import NetDevice
from refmodel.netfilter import nat_proto
from refmodel.netfilter.conn import NfConn, nf_ct_get
from refmodel.netfilter.conntrack import NO_CLASH, Conntrack
from refmodel.netfilter.core import NF_DROP_ERR, Hookfn, Hooks, NfHookOps, NfHookState
from refmodel.netfilter.env import Flow, NetfilterEnv, Route
from refmodel.netfilter.jhash import jhash2
from refmodel.netfilter.skb import daddr, ip_hdrlen, saddr
from refmodel.netfilter.tcp_state import Ct
from refmodel.netfilter.tuples import PORTS, Tuple, inverted
from refmodel.netfilter.uapi import (
    CTINFO2DIR,
    HOOK2MANIP,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    NAT_MASK,
    NF_ACCEPT,
    NF_DROP,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_NAT_DST,
    NF_IP_PRI_NAT_SRC,
    ORIGINAL,
    REPLY,
    RT_SCOPE_UNIVERSE,
    RTN_LOCAL,
    RTN_UNICAST,
    Info,
    Ips,
    Manip,
)  # fmt: skip
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

NF_NAT_RANGE_MAP_IPS: Final = 1 << 0
NF_NAT_RANGE_PROTO_SPECIFIED: Final = 1 << 1
NF_NAT_RANGE_PROTO_RANDOM: Final = 1 << 2
NF_NAT_RANGE_PERSISTENT: Final = 1 << 3
NF_NAT_RANGE_PROTO_RANDOM_FULLY: Final = 1 << 4
NF_NAT_RANGE_PROTO_RANDOM_ALL: Final = NF_NAT_RANGE_PROTO_RANDOM | NF_NAT_RANGE_PROTO_RANDOM_FULLY
NF_NAT_MAX_ATTEMPTS: Final = 128
NF_NAT_HARDER_THRESH: Final = NF_NAT_MAX_ATTEMPTS // 4
LOOPBACK: Final = b"\x7f\x00\x00\x01"
CORE: Final = "net/netfilter/nf_nat_core.c:"


class NatRange(NamedTuple):
    """struct nf_nat_range2: what a mapping may be chosen from. `flags` are NF_NAT_RANGE_ bits."""

    flags: int = 0
    min_addr: bytes = bytes(4)
    max_addr: bytes = bytes(4)
    min_proto: int = 0
    max_proto: int = 0


class Nat:
    """NAT of one namespace: `ct` are its connections, `lookups` the tables that are asked, by hook."""

    def __init__(self, env: NetfilterEnv, hooks: Hooks, ct: Conntrack) -> None:
        self.env = env
        self.hooks = hooks
        self.ct = ct
        self.lookups: dict[int, list[Hookfn]] = {}
        self.ops = {
            x.hooknum: x
            for x in (
                NfHookOps(self.nf_nat_ipv4_pre_routing, NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST, "nat"),
                NfHookOps(self.nf_nat_ipv4_out, NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC, "nat"),
                NfHookOps(self.nf_nat_ipv4_local_fn, NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST, "nat"),
                NfHookOps(self.nf_nat_ipv4_local_in, NF_INET_LOCAL_IN, NF_IP_PRI_NAT_SRC, "nat"),
            )
        }

    @cited(CORE + "nf_nat_register_fn")
    def nf_nat_register_fn(self, hooknum: int, lookup: Hookfn) -> None:
        """A nat table wants to be asked for new connections; the first one registers NAT's hooks, all four of them."""
        if not any(self.lookups.values()):
            for ops in self.ops.values():
                self.hooks.nf_register_net_hook(ops)
        self.lookups.setdefault(hooknum, []).insert(0, lookup)

    @cited(CORE + "nf_nat_unregister_fn")
    def nf_nat_unregister_fn(self, hooknum: int, lookup: Hookfn) -> None:
        """The table is gone; the last one takes the hooks along."""
        self.lookups[hooknum].remove(lookup)
        if not any(self.lookups.values()):
            for ops in self.ops.values():
                self.hooks.nf_unregister_net_hook(ops)

    # ---- choosing

    @cited(CORE + "nf_nat_used_tuple")
    def nf_nat_used_tuple(self, t: Tuple, ignored: NfConn) -> bool:
        """Whether the answers to that tuple would be another connection's."""
        return self.ct.nf_conntrack_tuple_taken(inverted(t), ignored)

    @cited(CORE + "nf_nat_used_tuple_new")
    def nf_nat_used_tuple_new(self, t: Tuple, ignored: NfConn) -> bool:
        """The same for a tuple that isn't changed: it may be the other half of a connection without NAT."""
        if not self.nf_nat_used_tuple(t, ignored):
            return False
        if self.env.kernel < 612 or ignored.protonum in NO_CLASH:
            return True
        if ignored.status & (NAT_MASK | Ips.SEQ_ADJUST):
            return True
        found = self.ct.nf_conntrack_find_get(t) or self.ct.nf_conntrack_find_get(inverted(t))
        if found is None:
            return False
        if found[0].status & (NAT_MASK | Ips.SEQ_ADJUST):
            return True
        return found[0].orig != ignored.repl

    @cited(CORE + "nf_nat_used_tuple_harder")
    def nf_nat_used_tuple_harder(self, t: Tuple, ignored: NfConn, attempts_left: int) -> bool:
        """In the last attempts a new TCP connection may take the place of one that is over."""
        reply = inverted(t)
        if (
            self.env.kernel < 612
            or attempts_left > NF_NAT_HARDER_THRESH
            or t.protonum != IPPROTO_TCP
            or ignored.tcp.state != Ct.SYN_SENT
        ):
            return self.ct.nf_conntrack_tuple_taken(reply, ignored)
        found = self.ct.nf_conntrack_find_get(reply)
        if found is None:
            return False
        ct, direction = found
        if direction == ORIGINAL or not self.nf_nat_may_kill(ct):
            return True
        if not 0 < ((ignored.tcp.orig.td_end - ct.tcp.orig.td_end) & 0xFFFFFFFF) < 0x80000000:
            return True
        return not self.ct.nf_ct_delete(ct)

    @staticmethod
    def nf_nat_may_kill(ct: NfConn) -> bool:
        """A connection with a source mapping that is in TIME_WAIT or CLOSE; source nf_nat_core.c:nf_nat_may_kill."""
        if ct.tcp.state < Ct.TIME_WAIT or ct.status & (Ips.FIXED_TIMEOUT | Ips.DYING):
            return False
        return bool(ct.status & Ips.SRC_NAT)

    @cited(CORE + "find_appropriate_src")
    def find_appropriate_src(self, t: Tuple, r: NatRange) -> Tuple | None:
        """What the same source was mapped to before, if the range has it."""
        for ct in self.ct.nat_bysource.get((t.src, t.sport, t.protonum), ()):
            back = inverted(ct.repl)
            result = t._replace(src=back.src, sport=back.sport)
            if nf_in_range(result, r):
                return result
        return None

    @cited(CORE + "nf_nat_l4proto_unique_tuple")
    def nf_nat_l4proto_unique_tuple(self, t: Tuple, r: NatRange, manip: Manip, ct: NfConn) -> Tuple:
        """Ports are tried from a random one on (a range of destinations: from its first) until one is free."""
        span = port_range(t, r, manip)
        if span is None:
            return t
        low, size = span
        source = t.protonum == IPPROTO_ICMP or manip == Manip.SRC
        old = t.sport if source else t.dport
        ordered = self.env.kernel >= 612 and not r.flags & NF_NAT_RANGE_PROTO_RANDOM_ALL and manip == Manip.DST
        off = 0 if ordered else self.env.random() & 0xFFFF
        attempts = min(size, NF_NAT_MAX_ATTEMPTS)
        while True:
            for i in range(attempts):
                value = low + off % size & 0xFFFF
                t = t._replace(sport=value) if source else t._replace(dport=value)
                if not self.nf_nat_used_tuple_harder(t, ct, attempts - i):
                    self.env.note("nf_nat_l4proto_unique_tuple", f"{old} becomes {value}, of {low} to {low + size - 1}")
                    return t
                off = off + 1 & 0xFFFF
            if attempts >= size or attempts < 16:
                return t
            attempts //= 2
            off = self.env.random() & 0xFFFF

    @cited(CORE + "get_unique_tuple")
    def get_unique_tuple(self, orig: Tuple, r: NatRange, ct: NfConn, manip: Manip) -> Tuple:
        """The connection as it will look: unchanged if it may be, as the same source before, or a free choice."""
        if manip == Manip.SRC and not r.flags & NF_NAT_RANGE_PROTO_RANDOM_ALL:
            if nf_in_range(orig, r):
                if not self.nf_nat_used_tuple_new(orig, ct):
                    return orig
            else:
                before = self.find_appropriate_src(orig, r)
                if before is not None and not self.nf_nat_used_tuple(before, ct):
                    return before
        t = find_best_ips_proto(orig, r, manip)
        if not r.flags & NF_NAT_RANGE_PROTO_RANDOM_ALL:
            if r.flags & NF_NAT_RANGE_PROTO_SPECIFIED:
                if l4proto_in_range(t, manip, r) and (r.min_proto == r.max_proto or not self.nf_nat_used_tuple(t, ct)):
                    return t
            elif not self.nf_nat_used_tuple(t, ct):
                return t
        return self.nf_nat_l4proto_unique_tuple(t, r, manip, ct)

    @cited(CORE + "nf_nat_setup_info")
    def nf_nat_setup_info(self, ct: NfConn, r: NatRange, manip: Manip) -> int:
        """Sets one half of a new connection's mapping: what its answers look like changes."""
        if ct.confirmed:
            return NF_ACCEPT
        if nf_nat_initialized(ct, manip):
            return NF_DROP
        curr = inverted(ct.repl)
        new = self.get_unique_tuple(curr, r, ct, manip)
        if new != curr:
            self.ct.nf_conntrack_alter_reply(ct, inverted(new))
            ct.status |= Ips.SRC_NAT if manip == Manip.SRC else Ips.DST_NAT
            self.env.note("nf_nat_setup_info", f"{manip.name}: {curr} becomes {new}")
        if manip == Manip.SRC:
            self.ct.nat_bysource.setdefault(self.ct.source_of(ct), []).insert(0, ct)
        ct.status |= Ips.DST_NAT_DONE if manip == Manip.DST else Ips.SRC_NAT_DONE
        return NF_ACCEPT

    @cited(CORE + "nf_nat_alloc_null_binding", CORE + "__nf_nat_alloc_null_binding")
    def nf_nat_alloc_null_binding(self, ct: NfConn, hooknum: int) -> int:
        """No rule wants anything: the address stays, the port only gives way where it clashes."""
        manip = HOOK2MANIP(hooknum)
        ip = ct.repl.dst if manip == Manip.SRC else ct.repl.src
        return self.nf_nat_setup_info(ct, NatRange(NF_NAT_RANGE_MAP_IPS, ip, ip), manip)

    @cited("net/netfilter/nf_nat_masquerade.c:nf_nat_masquerade_ipv4")
    def nf_nat_masquerade_ipv4(self, skb: SkBuff, r: NatRange, out: NetDevice | None) -> int:
        """The source becomes the address of the device that the packet leaves by."""
        ct = nf_ct_get(skb)
        assert ct is not None
        assert out is not None
        if ct.orig.src == bytes(4):
            return NF_ACCEPT
        rt: Route = skb.dst
        nh = rt.gateway if rt.rt_uses_gateway else daddr(skb)
        newsrc = self.env.inet_select_addr(out, nh, RT_SCOPE_UNIVERSE)
        if newsrc in (b"", bytes(4)):
            self.env.note("nf_nat_masquerade_ipv4", f"{out.name} has no address")
            return NF_DROP
        if not ct.confirmed:
            ct.masq_index = out.ifindex
        new = NatRange(r.flags | NF_NAT_RANGE_MAP_IPS, newsrc, newsrc, r.min_proto, r.max_proto)
        return self.nf_nat_setup_info(ct, new, Manip.SRC)

    @cited("net/netfilter/nf_nat_redirect.c:nf_nat_redirect_ipv4")
    def nf_nat_redirect_ipv4(self, skb: SkBuff, r: NatRange, hooknum: int) -> int:
        """The destination becomes this host: 127.0.0.1 for its own packets, else the first address they came to."""
        ct = nf_ct_get(skb)
        assert ct is not None
        newdst = LOOPBACK
        if hooknum != NF_INET_LOCAL_OUT:
            assert skb.dev is not None
            newdst = self.env.ifa_local(skb.dev)
            if newdst in (b"", bytes(4)):
                return NF_DROP
        new = NatRange(r.flags | NF_NAT_RANGE_MAP_IPS, newdst, newdst, r.min_proto, r.max_proto)
        return self.nf_nat_setup_info(ct, new, Manip.DST)

    # ---- doing

    @cited(CORE + "nf_nat_packet")
    def nf_nat_packet(self, ct: NfConn, ctinfo: int, hooknum: int, skb: SkBuff) -> int:
        """Rewrites the end of the packet that this hook rewrites, if the connection maps it."""
        mtype = HOOK2MANIP(hooknum)
        direction = CTINFO2DIR(ctinfo)
        bit = statusbit(mtype, direction)
        if not ct.status & bit:
            return NF_ACCEPT
        return nat_proto.nf_nat_manip_pkt(self.env, skb, ct, mtype, direction)

    @cited(CORE + "nf_nat_inet_fn")
    def nf_nat_inet_fn(self, skb: SkBuff, state: NfHookState) -> int:
        """A new connection's half is set up, by the nat table or as it is; then the packet is rewritten."""
        ct = nf_ct_get(skb)
        if ct is None:
            return NF_ACCEPT
        manip = HOOK2MANIP(state.hook)
        ctinfo = skb.nfctinfo
        out = state.outdev
        moved = (
            ct.masq_index != 0
            and state.hook == NF_INET_POST_ROUTING
            and CTINFO2DIR(ctinfo) == ORIGINAL
            and out is not None
            and ct.masq_index != out.ifindex
        )
        if ctinfo in (Info.RELATED, Info.RELATED_REPLY, Info.NEW) and not nf_nat_initialized(ct, manip):
            for lookup in self.lookups.get(state.hook, ()):
                ret = lookup(skb, state)
                if ret != NF_ACCEPT:
                    return ret
                if nf_nat_initialized(ct, manip):
                    return self.nf_nat_packet(ct, ctinfo, state.hook, skb)
            ret = self.nf_nat_alloc_null_binding(ct, state.hook)
            if ret != NF_ACCEPT:
                return ret
        elif moved:
            self.env.note("nf_nat_inet_fn", f"masqueraded for another device than {out.name if out else ''}: dropped")
            self.ct.nf_ct_kill_acct(ct, ctinfo, skb)
            return NF_DROP
        return self.nf_nat_packet(ct, ctinfo, state.hook, skb)

    @cited("net/netfilter/nf_nat_proto.c:nf_nat_ipv4_fn")
    def nf_nat_ipv4_fn(self, skb: SkBuff, state: NfHookState) -> int:
        """ICMP errors are rewritten inside and outside; all else as its connection says."""
        ct = nf_ct_get(skb)
        if ct is None:
            return NF_ACCEPT
        if skb.nfctinfo in (Info.RELATED, Info.RELATED_REPLY) and skb.data[9] == IPPROTO_ICMP:
            done = nat_proto.nf_nat_icmp_reply_translation(self.env, skb, ct, skb.nfctinfo, state.hook)
            return NF_ACCEPT if done else NF_DROP
        return self.nf_nat_inet_fn(skb, state)

    @cited("net/netfilter/nf_nat_proto.c:nf_nat_ipv4_pre_routing")
    def nf_nat_ipv4_pre_routing(self, skb: SkBuff, state: NfHookState) -> int:
        """Destinations of what comes in; a route that was chosen before is forgotten."""
        old = daddr(skb)
        ret = self.nf_nat_ipv4_fn(skb, state)
        if ret == NF_ACCEPT and old != daddr(skb):
            skb.dst = None
        return ret

    @cited("net/netfilter/nf_nat_proto.c:nf_nat_ipv4_local_in")
    def nf_nat_ipv4_local_in(self, skb: SkBuff, state: NfHookState) -> int:
        """Sources of what is delivered here; a socket that was found for the old source is the wrong one."""
        old = bytes(skb.data[12:16]), bytes(skb.data[ip_hdrlen(skb) : ip_hdrlen(skb) + 2])
        ret = self.nf_nat_ipv4_fn(skb, state)
        if ret == NF_ACCEPT and old != (saddr(skb), bytes(skb.data[ip_hdrlen(skb) : ip_hdrlen(skb) + 2])):
            skb.sk = None
        return ret

    @cited("net/netfilter/nf_nat_proto.c:nf_nat_ipv4_out")
    def nf_nat_ipv4_out(self, skb: SkBuff, state: NfHookState) -> int:
        """Sources of what leaves."""
        return self.nf_nat_ipv4_fn(skb, state)

    @cited("net/netfilter/nf_nat_proto.c:nf_nat_ipv4_local_fn")
    def nf_nat_ipv4_local_fn(self, skb: SkBuff, state: NfHookState) -> int:
        """Destinations of what is sent from here; a new one needs a new route."""
        ret = self.nf_nat_ipv4_fn(skb, state)
        if ret != NF_ACCEPT:
            return ret
        ct = nf_ct_get(skb)
        if ct is not None:
            direction = CTINFO2DIR(skb.nfctinfo)
            if ct.tuplehash[direction].dst != ct.tuplehash[REPLY - direction].src:
                err = ip_route_me_harder(self.env, skb)
                if err < 0:
                    return NF_DROP_ERR(err)
        return ret


def statusbit(mtype: Manip, direction: int) -> Ips:
    """The status bit that makes a hook rewrite packets of that direction; source nf_nat_core.c:nf_nat_packet."""
    bit = Ips.SRC_NAT if mtype == Manip.SRC else Ips.DST_NAT
    return bit ^ NAT_MASK if direction == REPLY else bit


def nf_nat_initialized(ct: NfConn, manip: Manip) -> bool:
    """That half of the mapping is set up; source include/net/netfilter/nf_nat.h:nf_nat_initialized."""
    return bool(ct.status & (Ips.SRC_NAT_DONE if manip == Manip.SRC else Ips.DST_NAT_DONE))


def port_range(t: Tuple, r: NatRange, manip: Manip) -> tuple[int, int] | None:
    """(first, how many) of the ports or ids that may be tried; None where there are none, or they have to stay.

    Without a range a source port stays among its kind: below 512, below 1024, above.
    """
    if t.protonum != IPPROTO_ICMP and t.protonum not in PORTS:
        return None
    if r.flags & NF_NAT_RANGE_PROTO_SPECIFIED:
        low, high = r.min_proto, r.max_proto
        if t.protonum != IPPROTO_ICMP and high < low:
            low, high = high, low
        return low, high - low + 1
    if t.protonum == IPPROTO_ICMP:
        return 0, 65_536
    if manip == Manip.DST:
        return None
    return (1, 511) if t.sport < 512 else (600, 424) if t.sport < 1024 else (1024, 64_512)


@cited(CORE + "l4proto_in_range")
def l4proto_in_range(t: Tuple, manip: Manip, r: NatRange) -> bool:
    """The port or id is in the range; protocols without are."""
    if t.protonum == IPPROTO_ICMP:
        return r.min_proto <= t.sport <= r.max_proto
    if t.protonum in PORTS:
        return r.min_proto <= (t.sport if manip == Manip.SRC else t.dport) <= r.max_proto
    return True


@cited(CORE + "nf_in_range")
def nf_in_range(t: Tuple, r: NatRange) -> bool:
    """A source that is in the range may stay."""
    if r.flags & NF_NAT_RANGE_MAP_IPS and not r.min_addr <= t.src <= r.max_addr:
        return False
    return not r.flags & NF_NAT_RANGE_PROTO_SPECIFIED or l4proto_in_range(t, Manip.SRC, r)


@cited(CORE + "find_best_ips_proto")
def find_best_ips_proto(t: Tuple, r: NatRange, manip: Manip) -> Tuple:
    """The address, by a hash of source and destination, so that the same pair always gets the same one."""
    if not r.flags & NF_NAT_RANGE_MAP_IPS:
        return t
    if r.min_addr == r.max_addr:
        new = r.min_addr
    else:
        words = [int.from_bytes(t.src, "little"), 0, 0, 0]
        key = 0 if r.flags & NF_NAT_RANGE_PERSISTENT else int.from_bytes(t.dst, "little")
        low, high = int.from_bytes(r.min_addr, "big"), int.from_bytes(r.max_addr, "big")
        new = (low + (jhash2(words, key) * (high - low + 1 & 0xFFFFFFFF) >> 32)).to_bytes(4, "big")
    return t._replace(src=new) if manip == Manip.SRC else t._replace(dst=new)


@cited("net/ipv4/netfilter.c:ip_route_me_harder")
def ip_route_me_harder(env: NetfilterEnv, skb: SkBuff) -> int:
    """A packet that is sent from here has changed: its way is looked up anew, or a negative errno."""
    dev = skb.dst.dev
    kind = env.inet_addr_type_dev_table(dev, saddr(skb))
    keep = kind in (RTN_LOCAL, RTN_UNICAST)
    flow = Flow(
        daddr=daddr(skb),
        saddr=saddr(skb) if keep else bytes(4),
        tos=skb.data[1] & 0xFC,
        oif=getattr(skb.sk, "sk_bound_dev_if", 0) if skb.sk is not None else 0,
        mark=skb.mark,
        anysrc=keep,
    )
    rt = env.ip_route_output_key(flow)
    if rt is None:
        env.note("ip_route_me_harder", "no way")
        return -errno.ENETUNREACH
    skb.dst = rt
    if rt.error:
        return -abs(rt.error)
    env.note("ip_route_me_harder", f"now by {rt.dev.name}")
    return 0
