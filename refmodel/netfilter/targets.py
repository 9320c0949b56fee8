"""The targets of rules: verdicts, jumps, and what changes or answers a packet."""

from typing import Final, Protocol

from msgspec import Struct

from refmodel.netfilter import reject
from refmodel.netfilter.conn import nf_ct_get, nf_ct_set
from refmodel.netfilter.matches import Par
from refmodel.netfilter.nat import Nat, NatRange
from refmodel.netfilter.skb import csum_replace2, put16, u16at
from refmodel.netfilter.uapi import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    XT_CONTINUE,
    XT_RETURN,
    Info,
    Manip,
)  # fmt: skip
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

ANY: Final = (0, 1, 2, 3, 4)
M32: Final = 0xFFFFFFFF


class Target(Protocol):
    """What a rule does. `tables` and `hooks` are where it may stand (no tables: in all)."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables that it may stand in."""

    @property
    def hooks(self) -> tuple[int, ...]:
        """Hooks that it may be reached from."""

    @property
    def tracks(self) -> bool:
        """It needs connections."""

    def target(self, skb: SkBuff, par: Par) -> int:
        """Does it: a verdict, or XT_CONTINUE."""


class Anywhere(Struct, kw_only=True):
    """What may stand anywhere and needs no connections."""

    @property
    def tables(self) -> tuple[str, ...]:
        """All."""
        return ()

    @property
    def hooks(self) -> tuple[int, ...]:
        """All."""
        return ANY

    @property
    def tracks(self) -> bool:
        """No connections are needed."""
        return False


class Standard(Anywhere):
    """A verdict, or the place of the chain to go on in: -1 - verdict, XT_RETURN, or a position."""

    verdict: int

    def target(self, skb: SkBuff, par: Par) -> int:
        """The table's walk does it itself."""
        raise ValueError("a standard target is no function")


ACCEPT: Final = Standard(-NF_ACCEPT - 1)
DROP: Final = Standard(-NF_DROP - 1)
RETURN: Final = Standard(XT_RETURN)


class Error(Anywhere):
    """The head of a user's chain, which no walk comes to."""

    name: str

    @cited("net/ipv4/netfilter/ip_tables.c:ipt_error")
    def ipt_error(self, skb: SkBuff, par: Par) -> int:
        """The packet should not be here."""
        return NF_DROP

    target = ipt_error


class Nothing(Anywhere):
    """A rule without a target: it only counts."""

    def target(self, skb: SkBuff, par: Par) -> int:
        """Goes on."""
        return XT_CONTINUE


class Log(Anywhere):
    """-j LOG: says what came; here only in the walk."""

    prefix: str = ""

    @cited("net/netfilter/xt_LOG.c:log_tg")
    def log_tg(self, skb: SkBuff, par: Par) -> int:
        """Logs the packet and goes on."""
        par.env.note("log_tg", f"{self.prefix}{len(skb.data)} bytes")
        return XT_CONTINUE

    target = log_tg


class Reject(Anywhere):
    """-j REJECT: `code` is an ICMP_DEST_UNREACH code, -1 a TCP reset."""

    code: int

    @property
    def tables(self) -> tuple[str, ...]:
        """Only filter."""
        return ("filter",)

    @property
    def hooks(self) -> tuple[int, ...]:
        """Where the packet has a route."""
        return (NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT)

    @cited("net/ipv4/netfilter/ipt_REJECT.c:reject_tg")
    def reject_tg(self, skb: SkBuff, par: Par) -> int:
        """Answers the packet with an error or a reset, and drops it."""
        if self.code < 0:
            reject.nf_send_reset(par.env, par.ct, skb, par.state.hook)
        else:
            reject.nf_send_unreach(par.env, skb, self.code, par.state.hook)
        return NF_DROP

    target = reject_tg


class NatTarget(Anywhere):
    """What the targets of the nat table share. `kind` is "SNAT", "DNAT", "MASQUERADE" or "REDIRECT"."""

    kind: str
    nat: Nat
    range: NatRange

    @property
    def tables(self) -> tuple[str, ...]:
        """Only nat."""
        return ("nat",)

    @property
    def hooks(self) -> tuple[int, ...]:
        """Sources where packets leave or are delivered, destinations where they enter."""
        return {
            "SNAT": (NF_INET_POST_ROUTING, NF_INET_LOCAL_IN),
            "MASQUERADE": (NF_INET_POST_ROUTING,),
        }.get(self.kind, (NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT))

    @property
    def tracks(self) -> bool:
        """Connections are needed."""
        return True

    def target(self, skb: SkBuff, par: Par) -> int:
        """Sets up one half of the connection's mapping."""
        run = {"SNAT": self.xt_snat_target, "DNAT": self.xt_dnat_target, "MASQUERADE": self.masquerade_tg}
        return run.get(self.kind, self.redirect_tg4)(skb, par)

    @cited("net/netfilter/xt_nat.c:xt_snat_target_v2")
    def xt_snat_target(self, skb: SkBuff, par: Par) -> int:
        """The source becomes one of the range."""
        ct = nf_ct_get(skb)
        assert ct is not None
        return self.nat.nf_nat_setup_info(ct, self.range, Manip.SRC)

    @cited("net/netfilter/xt_nat.c:xt_dnat_target_v2")
    def xt_dnat_target(self, skb: SkBuff, par: Par) -> int:
        """The destination becomes one of the range."""
        ct = nf_ct_get(skb)
        assert ct is not None
        return self.nat.nf_nat_setup_info(ct, self.range, Manip.DST)

    @cited("net/netfilter/xt_MASQUERADE.c:masquerade_tg")
    def masquerade_tg(self, skb: SkBuff, par: Par) -> int:
        """The source becomes the address of the device that the packet leaves by."""
        return self.nat.nf_nat_masquerade_ipv4(skb, self.range, par.state.outdev)

    @cited("net/netfilter/xt_REDIRECT.c:redirect_tg4")
    def redirect_tg4(self, skb: SkBuff, par: Par) -> int:
        """The destination becomes this host."""
        return self.nat.nf_nat_redirect_ipv4(skb, self.range, par.state.hook)


class SetMark(Anywhere):
    """-j MARK: the bits of `mask` are cleared, then those of `mark` turned over."""

    mark: int
    mask: int = M32

    @cited("net/netfilter/xt_mark.c:mark_tg")
    def mark_tg(self, skb: SkBuff, par: Par) -> int:
        """Marks the packet and goes on."""
        skb.mark = skb.mark & (self.mask ^ M32) ^ self.mark
        par.env.note("mark_tg", f"mark {skb.mark:#x}")
        return XT_CONTINUE

    target = mark_tg


class SetConnmark(Anywhere):
    """-j CONNMARK: `mode` is "set", "save" (packet to connection) or "restore" (back)."""

    mode: str
    ctmark: int = 0
    ctmask: int = M32
    nfmask: int = M32

    @property
    def tracks(self) -> bool:
        """Connections are needed."""
        return True

    @cited("net/netfilter/xt_connmark.c:connmark_tg_shift")
    def connmark_tg_shift(self, skb: SkBuff, par: Par) -> int:
        """Marks the connection, or the packet as its connection is, and goes on."""
        ct = nf_ct_get(skb)
        if ct is None:
            return XT_CONTINUE
        if self.mode == "set":
            ct.mark = ct.mark & (self.ctmask ^ M32) ^ self.ctmark
        elif self.mode == "save":
            ct.mark = ct.mark & (self.ctmask ^ M32) ^ (skb.mark & self.nfmask)
        else:
            skb.mark = skb.mark & (self.nfmask ^ M32) ^ (ct.mark & self.ctmask)
        return XT_CONTINUE

    target = connmark_tg_shift


class Notrack(Anywhere):
    """-j CT --notrack, -j NOTRACK."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Only raw: before connections are looked up."""
        return ("raw",)

    @property
    def hooks(self) -> tuple[int, ...]:
        """Where packets enter."""
        return (NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT)

    @cited("net/netfilter/xt_CT.c:xt_ct_target")
    def xt_ct_target(self, skb: SkBuff, par: Par) -> int:
        """The packet isn't to be tracked, unless it is already."""
        if skb.nfct is None and skb.nfctinfo == 0:
            nf_ct_set(skb, None, Info.UNTRACKED)
            par.env.note("xt_ct_target", "untracked")
        return XT_CONTINUE

    target = xt_ct_target


class SetTos(Anywhere):
    """-j TOS: as MARK, on the TOS byte. -j DSCP is TOS with the mask 0xfc."""

    value: int
    mask: int = 0xFF

    @property
    def tables(self) -> tuple[str, ...]:
        """Only mangle."""
        return ("mangle",)

    @cited("net/netfilter/xt_DSCP.c:tos_tg", "include/net/dsfield.h:ipv4_change_dsfield")
    def tos_tg(self, skb: SkBuff, par: Par) -> int:
        """Sets the TOS byte and goes on."""
        old = skb.data[1]
        new = old & (self.mask ^ 0xFF) ^ self.value
        if new != old:
            check = u16at(skb.data, 10) + old
            if check + 1 >> 16:
                check = check + 1 & 0xFFFF
            check = check - new & M32
            put16(skb.data, 10, check + (check >> 16) & 0xFFFF)
            skb.data[1] = new
        return XT_CONTINUE

    target = tos_tg


class SetTtl(Anywhere):
    """-j TTL: `how` is "set", "inc" or "dec"."""

    how: str
    ttl: int

    @property
    def tables(self) -> tuple[str, ...]:
        """Only mangle."""
        return ("mangle",)

    @cited("net/netfilter/xt_HL.c:ttl_tg")
    def ttl_tg(self, skb: SkBuff, par: Par) -> int:
        """Sets the TTL and goes on."""
        old = skb.data[8]
        new = {"set": self.ttl, "inc": min(old + self.ttl, 255), "dec": max(old - self.ttl, 0)}[self.how]
        if new != old:
            put16(skb.data, 10, csum_replace2(u16at(skb.data, 10), old << 8, new << 8))
            skb.data[8] = new
        return XT_CONTINUE

    target = ttl_tg
