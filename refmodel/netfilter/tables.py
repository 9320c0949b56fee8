"""A table: chains of rules as the kernel keeps them, one after the other, and the walk of a packet through them.

The law: a table is only put in if no chain can come back to itself; so every walk comes to a verdict. A built-in chain
ends in its policy, a user's chain in a return to where it was called from (with goto: to where its caller was called).
"""

from typing import Final

from msgspec import Struct

from refmodel.netfilter import limit
from refmodel.netfilter.conntrack import Conntrack
from refmodel.netfilter.core import NfHookState
from refmodel.netfilter.env import NetfilterEnv
from refmodel.netfilter.matches import AddrType, Limit, Mac, Match, Par
from refmodel.netfilter.skb import ip_hdrlen, u16at, u32at
from refmodel.netfilter.targets import RETURN, Error, Standard, Target
from refmodel.netfilter.uapi import (
    HOOKS,
    IP_OFFSET,
    NF_ACCEPT,
    NF_DROP,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_FILTER,
    NF_IP_PRI_MANGLE,
    NF_IP_PRI_RAW,
    VERDICTS,
    XT_CONTINUE,
    XT_RETURN,
)  # fmt: skip
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

FILE: Final = "net/ipv4/netfilter/ip_tables.c:"
ON_PATH: Final = 1 << 5
VALID_HOOKS: Final = {
    "raw": (NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT),
    "mangle": (0, 1, 2, 3, 4),
    "nat": (NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING),
    "filter": (NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT),
}
PRIORITY: Final = {"raw": NF_IP_PRI_RAW, "mangle": NF_IP_PRI_MANGLE, "filter": NF_IP_PRI_FILTER}


class TableError(ValueError):
    """A table that the kernel would not take: what is wrong, and where."""


class IptIp(Struct):
    """struct ipt_ip: addresses (as numbers) with masks, devices (a trailing + is a prefix), protocol, fragments.

    `inv` holds what is inverted: "s", "d", "i", "o", "p", "f".
    """

    src: int = 0
    smsk: int = 0
    dst: int = 0
    dmsk: int = 0
    iniface: str = ""
    outiface: str = ""
    proto: int = 0
    frag: bool = False
    inv: frozenset[str] = frozenset()


class IptEntry(Struct):
    """struct ipt_entry: one rule with its counters. `goto`: its jump doesn't come back here."""

    ip: IptIp
    matches: tuple[Match, ...]
    target: Target
    goto: bool = False
    pcnt: int = 0
    bcnt: int = 0
    comefrom: int = 0
    text: str = ""
    where: str = ""


class ChainSpec(Struct):
    """A chain as userspace says it: `policy` ("ACCEPT", "DROP") if it is built in, else ""."""

    name: str
    policy: str = ""
    counters: tuple[int, int] = (0, 0)
    rules: list[IptEntry] = []


class Table:
    """One table of one namespace: entries in order, where each hook's chain begins and where its policy stands.

    `jumps` says which chain each rule whose target is the name of one goes to.
    """

    def __init__(
        self, name: str, chains: list[ChainSpec], jumps: dict[int, str], hz: int = 250, nft: bool = False
    ) -> None:
        self.name = name
        self.hz = hz
        self.nft = nft
        self.entries: list[IptEntry] = []
        self.hook_entry: dict[int, int] = {}
        self.underflow: dict[int, int] = {}
        self.chain_at: dict[str, int] = {}
        self.stacksize = 0
        self._lay_out(chains)
        for rule, chain in jumps.items():
            at = next(i for i, e in enumerate(self.entries) if id(e) == rule)
            if chain not in self.chain_at or chain in HOOKS:
                raise TableError(f"{self.entries[at].text or self.name}: there is no chain {chain}")
            self.entries[at].target = Standard(self.chain_at[chain])
        self.translate_table()

    def _lay_out(self, chains: list[ChainSpec]) -> None:
        valid = VALID_HOOKS[self.name]
        for hook in valid:
            spec = next((c for c in chains if c.name == HOOKS[hook]), ChainSpec(HOOKS[hook], "ACCEPT"))
            self.hook_entry[hook] = len(self.entries)
            self._place(spec)
            self.underflow[hook] = len(self.entries)
            verdict = Standard(-(NF_DROP if spec.policy == "DROP" else NF_ACCEPT) - 1)
            self.entries.append(IptEntry(IptIp(), (), verdict, pcnt=spec.counters[0], bcnt=spec.counters[1],
                                         text=f"policy {spec.policy}", where=spec.name))  # fmt: skip
        for spec in chains:
            if spec.name in HOOKS:
                if HOOKS.index(spec.name) not in valid:
                    raise TableError(f"table {self.name} has no chain {spec.name}")
                continue
            self.stacksize += 1
            self.entries.append(IptEntry(IptIp(), (), Error(spec.name), where=spec.name))
            self.chain_at[spec.name] = len(self.entries)
            self._place(spec)
            self.entries.append(IptEntry(IptIp(), (), RETURN, text="end of chain", where=spec.name))
        self.stacksize += 1
        self.entries.append(IptEntry(IptIp(), (), Error("ERROR")))

    def _place(self, spec: ChainSpec) -> None:
        for rule in spec.rules:
            rule.where = spec.name
            self.entries.append(rule)

    # ---- putting in

    @cited(FILE + "translate_table")
    def translate_table(self) -> None:
        """Takes the table if it has no loops and everything stands where it may; else raises TableError."""
        if not self.mark_source_chains():
            raise TableError(f"table {self.name}: a chain comes back to itself")
        for e in self.entries:
            self.find_check_entry(e)

    @cited(FILE + "mark_source_chains")
    def mark_source_chains(self) -> bool:
        """Which hooks each rule can be reached from; False if there is a loop.

        The chains are gone through as deep as they call each other; a rule that is on the way already makes a loop.
        """
        back: dict[int, int] = {}
        for hook, start in self.hook_entry.items():
            pos = start
            back[pos] = pos
            while True:
                e = self.entries[pos]
                visited = e.comefrom & 1 << hook
                if e.comefrom & ON_PATH:
                    return False
                e.comefrom |= 1 << hook | ON_PATH
                if self._ends(e) or visited:
                    while True:
                        self.entries[pos].comefrom &= ~ON_PATH
                        old, pos = pos, back.pop(pos)
                        if pos == old or old != pos + 1:
                            break
                    if pos == old:
                        break
                    back[pos + 1] = pos
                    pos += 1
                    continue
                jump = isinstance(e.target, Standard) and e.target.verdict >= 0
                new = e.target.verdict if jump and isinstance(e.target, Standard) else pos + 1
                back[new] = pos
                pos = new
        return True

    @staticmethod
    def _ends(e: IptEntry) -> bool:
        """An unconditional verdict or return."""
        return isinstance(e.target, Standard) and e.target.verdict < 0 and unconditional(e)

    @cited(FILE + "find_check_entry")
    def find_check_entry(self, e: IptEntry) -> None:
        """Every match and target stands in a table and under hooks where it may."""
        hooks = [h for h in range(len(HOOKS)) if e.comefrom & 1 << h]
        if e.target.tables and self.name not in e.target.tables:
            raise TableError(f"{e.text}: only in table {', '.join(e.target.tables)}, not in {self.name}")
        wrong = [HOOKS[h] for h in hooks if h not in e.target.hooks]
        if wrong:
            raise TableError(f"{e.text}: not from {', '.join(wrong)}")
        for m in e.matches:
            if isinstance(m, Mac) and set(hooks) - {NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD}:
                raise TableError(f"{e.text}: a MAC address is known only of what comes in")
            if isinstance(m, Limit) and not self.nft and limit.limit_mt_check(m.avg, m.burst, self.hz):
                raise TableError(f"{e.text}: rate times burst overflows 32 bits: try lower")
            if isinstance(m, AddrType) and m.limit:
                never = {
                    "in": (NF_INET_POST_ROUTING, NF_INET_LOCAL_OUT),
                    "out": (NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN),
                }
                if set(hooks) & set(never[m.limit]):
                    raise TableError(f"{e.text}: there is no device to limit the type to")

    @property
    def tracks(self) -> int:
        """How many matches and targets need connections."""
        return sum(e.target.tracks + sum(m.tracks for m in e.matches) for e in self.entries)

    def rules(self) -> list[IptEntry]:
        """The rules as userspace knows them: without policies, heads and ends of chains."""
        ends = {self.underflow[h] for h in self.underflow}
        return [
            e
            for at, e in enumerate(self.entries)
            if at not in ends and not isinstance(e.target, Error) and e.text != "end of chain"
        ]

    # ---- walking

    @cited(FILE + "ipt_do_table")
    def ipt_do_table(self, env: NetfilterEnv, ct: Conntrack, skb: SkBuff, state: NfHookState) -> int:
        """Goes through the hook's chain until a rule gives a verdict."""
        par = Par(env, ct, state, u16at(skb.data, 6) & IP_OFFSET, ip_hdrlen(skb), nft=self.nft)
        indev = state.indev.name if state.indev else ""
        outdev = state.outdev.name if state.outdev else ""
        jumpstack: list[int] = []
        at = self.hook_entry[state.hook]
        verdict = NF_DROP
        while True:
            e = self.entries[at]
            if not ip_packet_match(skb, indev, outdev, e.ip, par.fragoff) or not self._matches(e, skb, par):
                if par.hotdrop:
                    break
                at += 1
                continue
            e.pcnt += 1
            e.bcnt += len(skb.data)
            if not isinstance(e.target, Standard):
                verdict = e.target.target(skb, par)
                if verdict == XT_CONTINUE and not par.hotdrop:
                    at += 1
                    continue
                break
            v = e.target.verdict
            if v >= 0:
                if v != at + 1 and not e.goto:
                    if len(jumpstack) >= self.stacksize:
                        verdict = NF_DROP
                        break
                    jumpstack.append(at)
                at = v
            elif v != XT_RETURN:
                verdict = -v - 1
                break
            else:
                at = jumpstack.pop() + 1 if jumpstack else self.underflow[state.hook]
        if par.hotdrop:
            env.note("ipt_do_table", f"{self.name}/{e.where}: {e.text}: header cut off or forged: dropped")
            return NF_DROP
        env.note("ipt_do_table", f"{self.name}/{e.where}: {e.text}: {VERDICTS.get(verdict, str(verdict))}")
        return verdict

    @staticmethod
    def _matches(e: IptEntry, skb: SkBuff, par: Par) -> bool:
        return all(m.match(skb, par) for m in e.matches)


def unconditional(e: IptEntry) -> bool:
    """A rule about every packet; source net/ipv4/netfilter/ip_tables.c:unconditional."""
    return not e.matches and e.ip == IptIp()


def ifname_matches(name: str, rule: str) -> bool:
    """A device's name is the rule's, or begins with what stands before its +; source x_tables.h:ifname_compare."""
    return name.startswith(rule[:-1]) if rule.endswith("+") else name == rule


def ip_packet_match(skb: SkBuff, indev: str, outdev: str, ip: IptIp, fragoff: int) -> bool:
    """Addresses, devices, protocol and fragment of a rule fit; source ip_tables.c:ip_packet_match."""
    if (u32at(skb.data, 12) & ip.smsk != ip.src) != ("s" in ip.inv):
        return False
    if (u32at(skb.data, 16) & ip.dmsk != ip.dst) != ("d" in ip.inv):
        return False
    if ip.iniface and ifname_matches(indev, ip.iniface) == ("i" in ip.inv):
        return False
    if ip.outiface and ifname_matches(outdev, ip.outiface) == ("o" in ip.inv):
        return False
    if ip.proto and (skb.data[9] == ip.proto) == ("p" in ip.inv):
        return False
    return not ip.frag or bool(fragoff) != ("f" in ip.inv)
