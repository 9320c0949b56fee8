"""The five hooks: who is asked about a packet there, in which order, and what their verdict does.

The law: entries of a hook are asked in the order of their priorities, of equal ones the one registered last first,
until one doesn't say ACCEPT. A dropped packet is freed with NETFILTER_DROP.
"""

import errno
from collections.abc import Callable
from typing import Final, NamedTuple

from refmodel.dropreason import Reason
from refmodel.netdevice import NetDevice
from refmodel.netfilter.env import NetfilterEnv
from refmodel.netfilter.uapi import HOOKS, NF_ACCEPT, NF_DROP, NF_STOLEN, NFPROTO_IPV4
from refmodel.rule import NotModelled, cited
from refmodel.skbuff import SkBuff

NF_VERDICT_MASK: Final = 0xFF
Okfn = Callable[[SkBuff], int]


class NfHookState(NamedTuple):
    """struct nf_hook_state: which hook, where from, where to, and who goes on with the packet."""

    hook: int
    pf: int
    indev: NetDevice | None
    outdev: NetDevice | None
    okfn: Okfn | None = None


Hookfn = Callable[[SkBuff, NfHookState], int]


class NfHookOps(NamedTuple):
    """struct nf_hook_ops; `name` is the function's or table's, for the walk."""

    hook: Hookfn
    hooknum: int
    priority: int
    name: str
    pf: int = NFPROTO_IPV4


def NF_DROP_ERR(err: int) -> int:
    """A drop that the sender is told of; source include/uapi/linux/netfilter.h:NF_DROP_ERR."""
    return (-err << 16) | NF_DROP


class Hooks:
    """The hooks of one namespace, by (family, hook)."""

    def __init__(self, env: NetfilterEnv) -> None:
        self.env = env
        self.entries: dict[tuple[int, int], list[NfHookOps]] = {}
        self.freed: Callable[[SkBuff], None] | None = None  # conntrack's part of freeing a packet

    @cited("net/netfilter/core.c:nf_register_net_hook", "net/netfilter/core.c:nf_hook_entries_grow")
    def nf_register_net_hook(self, ops: NfHookOps) -> None:
        """Adds an entry: before the first whose priority is greater than or equal to its own."""
        entries = self.entries.setdefault((ops.pf, ops.hooknum), [])
        at = next((i for i, x in enumerate(entries) if ops.priority <= x.priority), len(entries))
        entries.insert(at, ops)

    @cited("net/netfilter/core.c:nf_unregister_net_hook")
    def nf_unregister_net_hook(self, ops: NfHookOps) -> None:
        """Takes an entry out."""
        self.entries[ops.pf, ops.hooknum].remove(ops)

    @cited("include/linux/netfilter.h:nf_hook")
    def nf_hook(
        self,
        hook: int,
        skb: SkBuff,
        indev: NetDevice | None,
        outdev: NetDevice | None,
        okfn: Okfn | None = None,
        pf: int = NFPROTO_IPV4,
    ) -> int:
        """Asks a hook: 1 if the packet goes on, 0 if somebody has taken it, a negative errno if it was dropped."""
        entries = self.entries.get((pf, hook))
        if not entries:
            self.env.note("nf_hook", f"{HOOKS[hook]}: nobody is registered")
            return 1
        return self.nf_hook_slow(skb, NfHookState(hook, pf, indev, outdev, okfn), tuple(entries))

    @cited("net/netfilter/core.c:nf_hook_slow")
    def nf_hook_slow(self, skb: SkBuff, state: NfHookState, entries: tuple[NfHookOps, ...], s: int = 0) -> int:
        """Asks the entries one after the other until one doesn't accept."""
        for ops in entries[s:]:
            verdict = ops.hook(skb, state)
            if verdict & NF_VERDICT_MASK == NF_ACCEPT:
                continue
            if verdict & NF_VERDICT_MASK == NF_DROP:
                self.env.note("nf_hook_slow", f"{HOOKS[state.hook]}: {ops.name} drops")
                if self.freed is not None:
                    self.freed(skb)
                self.env.kfree_skb(skb, Reason.NETFILTER_DROP)
                err = verdict >> 16
                return -err if err else -errno.EPERM
            if verdict & NF_VERDICT_MASK == NF_STOLEN:
                self.env.note("nf_hook_slow", f"{HOOKS[state.hook]}: {ops.name} has taken the packet")
                return 0
            raise NotModelled(f"verdict {verdict & NF_VERDICT_MASK} of {ops.name}: queueing to userspace")
        self.env.note("nf_hook_slow", f"{HOOKS[state.hook]}: accepted by {', '.join(x.name for x in entries)}")
        return 1
