"""What a namespace has of netfilter: its hooks, its connections, NAT, and the tables that a ruleset has put in.

nf = Netfilter(env)
nf.iptables_restore(text)
nf.nf_hook(NF_INET_FORWARD, skb, indev, outdev)     1: goes on; 0: taken; negative: dropped
"""

from typing import Final

from refmodel.netdevice import NetDevice
from refmodel.netfilter.conntrack import Conntrack
from refmodel.netfilter.core import NF_DROP_ERR, Hooks, NfHookOps, NfHookState, Okfn
from refmodel.netfilter.env import NetfilterEnv
from refmodel.netfilter.nat import Nat, ip_route_me_harder
from refmodel.netfilter.params import CtParams, TcpCtParams
from refmodel.netfilter.restore import parse
from refmodel.netfilter.skb import daddr, saddr
from refmodel.netfilter.tables import PRIORITY, VALID_HOOKS, Table
from refmodel.netfilter.uapi import HOOKS, NF_DROP, NF_INET_LOCAL_OUT, NF_STOLEN
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

ORDER: Final = ("raw", "mangle", "nat", "filter")


class Netfilter:
    """netfilter in one namespace. `tables` are those that were put in."""

    def __init__(
        self, env: NetfilterEnv, params: CtParams | None = None, tcp_params: TcpCtParams | None = None
    ) -> None:
        self.env = env
        self.hooks = Hooks(env)
        self.ct = Conntrack(env, self.hooks, params, tcp_params)
        self.nat = Nat(env, self.hooks, self.ct)
        self.tables: dict[str, Table] = {}

    def iptables_restore(self, text: str, nft: bool = False) -> None:
        """Puts in the tables of an iptables-save text; raises RestoreError or TableError and leaves all as it was.

        `nft`: as iptables-nft does it, else as iptables-legacy.
        """
        made = [Table(spec.name, spec.chains, spec.jumps, self.env.hz, nft) for spec in parse(text, self.nat)]
        for table in made:
            self.xt_replace_table(table)

    @cited("net/netfilter/x_tables.c:xt_replace_table", "net/netfilter/x_tables.c:xt_register_table")
    def xt_replace_table(self, table: Table) -> None:
        """The new table takes the place of the old one; the first of its name registers its hooks."""
        old = self.tables.get(table.name)
        for _ in range(table.tracks):
            self.ct.nf_ct_netns_get()
        self.tables[table.name] = table
        for _ in range(old.tracks if old else 0):
            self.ct.nf_ct_netns_put()
        if old is not None:
            return
        for hook in VALID_HOOKS[table.name]:
            if table.name == "nat":
                self.nat.nf_nat_register_fn(hook, self.iptable_nat_do_chain)
                continue
            fn = {"mangle": self.iptable_mangle_hook, "raw": self.iptable_raw_hook}.get(
                table.name, self.iptable_filter_hook
            )
            self.hooks.nf_register_net_hook(NfHookOps(fn, hook, PRIORITY[table.name], f"iptables {table.name}"))

    def iptables_save(self) -> str:
        """The tables with their counters, as `iptables-save -c` prints them."""
        lines = []
        for name in (n for n in ORDER if n in self.tables):
            table = self.tables[name]
            lines.append(f"*{name}")
            for hook, at in table.underflow.items():
                e = table.entries[at]
                lines.append(f":{HOOKS[hook]} {e.text.removeprefix('policy ')} [{e.pcnt}:{e.bcnt}]")
            lines += [f":{chain} - [0:0]" for chain in table.chain_at]
            lines += [f"[{e.pcnt}:{e.bcnt}] -A {e.where} {e.text}" for e in table.rules()]
            lines.append("COMMIT")
        return "\n".join([*lines, ""])

    # ---- what IP calls

    def nf_hook(
        self, hook: int, skb: SkBuff, indev: NetDevice | None, outdev: NetDevice | None, okfn: Okfn | None = None
    ) -> int:
        """Asks an IPv4 hook: 1 if the packet goes on, 0 if it was taken, a negative errno if it was dropped."""
        return self.hooks.nf_hook(hook, skb, indev, outdev, okfn)

    def nf_ct_attach(self, new: SkBuff, skb: SkBuff) -> None:
        """An error belongs to the connection of the packet that it is about."""
        self.ct.nf_ct_attach(new, skb)

    def nf_reset_ct(self, skb: SkBuff) -> None:
        """The packet forgets its connection."""
        self.ct.nf_reset_ct(skb)

    # ---- the tables' hooks

    def iptable_filter_hook(self, skb: SkBuff, state: NfHookState) -> int:
        """The filter table, whose hook function is ipt_do_table."""
        return self.tables["filter"].ipt_do_table(self.env, self.ct, skb, state)

    def iptable_raw_hook(self, skb: SkBuff, state: NfHookState) -> int:
        """The raw table, whose hook function is ipt_do_table."""
        return self.tables["raw"].ipt_do_table(self.env, self.ct, skb, state)

    def iptable_nat_do_chain(self, skb: SkBuff, state: NfHookState) -> int:
        """The nat table, which only a new connection's first packet sees."""
        return self.tables["nat"].ipt_do_table(self.env, self.ct, skb, state)

    @cited("net/ipv4/netfilter/iptable_mangle.c:iptable_mangle_hook")
    def iptable_mangle_hook(self, skb: SkBuff, state: NfHookState) -> int:
        """The mangle table."""
        if state.hook == NF_INET_LOCAL_OUT:
            return self.ipt_mangle_out(skb, state)
        return self.tables["mangle"].ipt_do_table(self.env, self.ct, skb, state)

    @cited("net/ipv4/netfilter/iptable_mangle.c:ipt_mangle_out")
    def ipt_mangle_out(self, skb: SkBuff, state: NfHookState) -> int:
        """The mangle table for packets from here: what has changed their way is routed anew."""
        before = skb.mark, saddr(skb), daddr(skb), skb.data[1]
        ret = self.tables["mangle"].ipt_do_table(self.env, self.ct, skb, state)
        if ret not in (NF_DROP, NF_STOLEN) and before != (skb.mark, saddr(skb), daddr(skb), skb.data[1]):
            err = ip_route_me_harder(self.env, skb)
            if err < 0:
                return NF_DROP_ERR(err)
        return ret
