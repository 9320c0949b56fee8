"""What IP keeps in a namespace, and what it keeps in a packet's control block."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from refmodel.dropreason import Reason
from refmodel.ip.env import IpEnv, Okfn, Route
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

if TYPE_CHECKING:
    from refmodel.ip.reasm import Ipq

PEER_TOKENS_AGE: Final = 60  # seconds before its birth at which a peer's last token is put


class IpOptions:
    """struct ip_options: where options stand, as offsets from the IP header (0: not there), and what to do with them.

    `data` are the options' bytes where they are not in a packet (__data).
    """

    __slots__ = (
        "cipso", "data", "faddr", "is_changed", "is_strictroute", "nexthop", "optlen", "router_alert", "rr",
        "rr_needaddr", "srr", "srr_is_hit", "ts", "ts_needaddr", "ts_needtime",
    )  # fmt: skip

    def __init__(self, optlen: int = 0, data: bytes = b"") -> None:
        self.optlen = optlen
        self.data = bytearray(data)
        self.faddr = bytes(4)
        self.nexthop = bytes(4)
        self.srr = 0
        self.rr = 0
        self.ts = 0
        self.cipso = 0
        self.router_alert = 0
        self.is_strictroute = False
        self.srr_is_hit = False
        self.is_changed = False
        self.rr_needaddr = False
        self.ts_needtime = False
        self.ts_needaddr = False

    def copy(self) -> "IpOptions":
        """Another one with the same content."""
        new = IpOptions.__new__(IpOptions)
        for name in IpOptions.__slots__:
            setattr(new, name, getattr(self, name))
        new.data = bytearray(self.data)
        return new


class Ipcb:
    """struct inet_skb_parm: `flags` are IPSKB_ bits, `frag_max_size` the largest fragment that was reassembled.

    `frag_list` are the payload lengths of the skbs that hang on this one (skb_shinfo(skb)->frag_list).
    """

    __slots__ = ("flags", "frag_list", "frag_max_size", "iif", "opt")

    def __init__(self, iif: int = 0) -> None:
        self.iif = iif
        self.opt = IpOptions()
        self.flags = 0
        self.frag_max_size = 0
        self.frag_list: list[int] = []

    def copy(self) -> "Ipcb":
        """Another one with the same content."""
        new = Ipcb(self.iif)
        new.opt = self.opt.copy()
        new.flags = self.flags
        new.frag_max_size = self.frag_max_size
        new.frag_list = list(self.frag_list)
        return new


def IPCB(skb: SkBuff) -> Ipcb:
    """The packet's control block as IP uses it; one that another layer left behind is wiped."""
    if not isinstance(skb.cb, Ipcb):
        skb.cb = Ipcb(skb.skb_iif)
    return skb.cb


def skb_clone(skb: SkBuff) -> SkBuff:
    """A copy of the packet with a control block of its own; source net/core/skbuff.c:skb_clone."""
    new = skb.copy()
    if isinstance(skb.cb, Ipcb):
        new.cb = skb.cb.copy()
    return new


def copy_metadata(to: SkBuff, skb: SkBuff) -> None:
    """What a part of a packet has of the whole; source net/ipv4/ip_output.c:ip_copy_metadata."""
    to.pkt_type = skb.pkt_type
    to.priority = skb.priority
    to.protocol = skb.protocol
    to.skb_iif = skb.skb_iif
    to.dst = skb.dst
    to.dev = skb.dev
    to.mark = skb.mark
    to.hash = skb.hash
    to.nfct, to.nfctinfo = skb.nfct, skb.nfctinfo
    to.sk = skb.sk
    to.tstamp = skb.tstamp
    to.by = skb.by


class InetPeer:
    """struct inet_peer: what is remembered of a host. `rate_tokens` and `rate_last` are in ticks."""

    __slots__ = ("n_redirects", "rate_last", "rate_tokens", "rid")

    def __init__(self, jiffies: int, hz: int) -> None:
        self.rid = 0
        self.rate_tokens = 0
        self.rate_last = jiffies - PEER_TOKENS_AGE * hz
        self.n_redirects = 0


class Ip:
    """IPv4 of one namespace.

    `frags` are the datagrams being reassembled by their key, `frag_mem` the bytes that they hold (fqdir's memory
    limit); `peers` what is known of hosts; `icmp_global_credit` and `icmp_global_stamp` (ticks) the share of ICMP
    messages that is left to all together; `custom_rules`: routing has rules of the administrator's; `ids` the
    identification counters and when (ticks) each was used.
    """

    def __init__(self, env: IpEnv) -> None:
        self.env = env
        self.frags: OrderedDict[tuple[Any, ...], Ipq] = OrderedDict()
        self.frag_mem = 0
        self.peers: dict[bytes, InetPeer] = {}
        self.icmp_global_credit = 0
        self.icmp_global_stamp = env.jiffies - env.hz
        self.icmp_busy = False
        self.custom_rules = False
        self.ids: dict[tuple[bytes, bytes, int], tuple[int, int]] = {}

    def drop(self, skb: SkBuff, reason: Reason = Reason.NOT_SPECIFIED) -> None:
        """The packet ends here (kfree_skb_reason)."""
        self.env.kfree_skb(skb, reason)


@cited("net/ipv4/inetpeer.c:inet_getpeer")
def inet_getpeer(net: Ip, daddr: bytes) -> InetPeer:
    """What is known of a host; one that nobody knew begins with all its tokens."""
    peer = net.peers.get(daddr)
    if peer is None:
        peer = net.peers[daddr] = InetPeer(net.env.jiffies, net.env.hz)
    return peer


@cited("include/linux/netfilter.h:NF_HOOK")
def NF_HOOK(net: Ip, hook: int, skb: SkBuff, indev: NetDevice | None, outdev: NetDevice | None, okfn: Okfn) -> int:
    """The packet passes a hook, and if that lets it go on, `okfn` has it."""
    ret = net.env.nf_hook(hook, skb, indev, outdev, okfn)
    if ret == 1:
        ret = okfn(skb)
    return ret


@cited("include/linux/netfilter.h:NF_HOOK_COND")
def NF_HOOK_COND(
    net: Ip, hook: int, skb: SkBuff, indev: NetDevice | None, outdev: NetDevice | None, okfn: Okfn, cond: bool
) -> int:
    """The same, unless `cond` says that the packet has passed it before."""
    if not cond:
        net.env.note("NF_HOOK_COND", "rerouted: the hook was passed before")
        return okfn(skb)
    ret = net.env.nf_hook(hook, skb, indev, outdev, okfn)
    if ret == 1:
        ret = okfn(skb)
    return ret


def dst(skb: SkBuff) -> Route:
    """The packet's route, which it has."""
    rt: Route = skb.dst
    return rt
