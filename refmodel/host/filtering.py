"""Netfilter of a host: the hooks as IP asks them, rulesets as an administrator loads them."""

from typing import TYPE_CHECKING

from refmodel.ip import icmp, output
from refmodel.ip.reasm import ip_defrag
from refmodel.netdevice import NetDevice
from refmodel.netfilter.core import Okfn
from refmodel.netfilter.netfilter import Netfilter
from refmodel.skbuff import SkBuff

if TYPE_CHECKING:
    from refmodel.ip.net import Ip


class Filtering:
    """The part of a namespace that netfilter is."""

    ipv4: "Ip"

    def __init__(self) -> None:
        self.nf = Netfilter(self)  # type: ignore[arg-type]

    def iptables_restore(self, text: str) -> None:
        """Loads a ruleset as `iptables-save` prints it."""
        self.nf.iptables_restore(text)

    def nf_hook(self, hook: int, skb: SkBuff, indev: NetDevice | None, outdev: NetDevice | None, okfn: Okfn) -> int:
        """Asks an IPv4 hook: 1 if the packet goes on."""
        return self.nf.nf_hook(hook, skb, indev, outdev, okfn)

    def nf_reset_ct(self, skb: SkBuff) -> None:
        """The packet forgets its connection."""
        self.nf.nf_reset_ct(skb)

    def nf_ct_attach(self, new: SkBuff, skb: SkBuff) -> None:
        """An error belongs to the connection of what it is about."""
        self.nf.nf_ct_attach(new, skb)

    def ip_defrag(self, skb: SkBuff, user: int) -> int:
        """Reassembles on behalf of the connection tracker."""
        return ip_defrag(self.ipv4, skb, user)

    def icmp_send(self, skb: SkBuff, type: int, code: int, info: int) -> None:
        """An error that a rule sends."""
        icmp.icmp_send(self.ipv4, skb, type, code, info)

    def ip_local_out(self, skb: SkBuff) -> int:
        """A packet that a rule sends."""
        return output.ip_local_out(self.ipv4, None, skb)
