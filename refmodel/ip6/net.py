"""What IPv6 keeps in a namespace and in a packet's control block, and how headers are read."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from refmodel.dropreason import Reason
from refmodel.ip6.const import (
    ANY,
    EXT_HDRS,
    IP6_HLEN,
    IPV6_ADDR_ANY,
    IPV6_ADDR_COMPATV4,
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_LOOPBACK,
    IPV6_ADDR_MAPPED,
    IPV6_ADDR_MULTICAST,
    IPV6_ADDR_SITELOCAL,
    IPV6_ADDR_UNICAST,
    LOOPBACK,
)
from refmodel.ip6.env import Inet6Protocol, Ip6Env, Okfn
from refmodel.ip6.route import Route6, Table6
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

if TYPE_CHECKING:
    from refmodel.ip6.reasm import FragQueue


class Ip6cb:
    """struct inet6_skb_parm: offsets from the IPv6 header, and IP6SKB_ flags.

    `nhoff`: of the byte that says what comes next. `srcrt`, `dst0`, `dst1`, `dsthao`, `lastopt`: of extension headers
    (0: none).
    """

    __slots__ = ("dst0", "dst1", "dsthao", "flags", "frag_max_size", "iif", "lastopt", "nhoff", "ra", "srcrt")

    def __init__(self, iif: int = 0) -> None:
        self.iif = iif
        self.ra = 0
        self.nhoff = 0
        self.dst0 = 0
        self.dst1 = 0
        self.dsthao = 0
        self.srcrt = 0
        self.lastopt = 0
        self.flags = 0
        self.frag_max_size = 0

    def copy(self) -> "Ip6cb":
        """Another one with the same content."""
        new = Ip6cb()
        for name in Ip6cb.__slots__:
            setattr(new, name, getattr(self, name))
        return new


def IP6CB(skb: SkBuff) -> Ip6cb:
    """The packet's control block as IPv6 uses it; one that another layer left behind is wiped."""
    if not isinstance(skb.cb, Ip6cb):
        skb.cb = Ip6cb(skb.skb_iif)
    return skb.cb


class Idev:
    """struct inet6_dev: a device's addresses with their prefix lengths, and its own sysctls."""

    def __init__(self, dev: NetDevice) -> None:
        self.dev = dev
        self.addresses: list[tuple[bytes, int]] = []
        self.anycast: set[bytes] = set()
        self.disable_ipv6 = False
        self.drop_unicast_in_l2_multicast = False
        self.accept_source_route = 0
        self.hop_limit = 64
        self.suppress_frag_ndisc = True

    @property
    def mtu6(self) -> int:
        """The largest packet on this link."""
        return self.dev.mtu


class Ip6:
    """IPv6 of one namespace.

    `protos` are the next headers' handlers, which the host adds its transport protocols to; `idevs` the devices' IPv6
    by ifindex; `table` the routes; `frags` what is being put together, `frag_mem` the bytes that it holds. `local_out`
    sends what this host makes; input.install sets it.
    """

    def __init__(self, env: Ip6Env) -> None:
        self.env = env
        self.protos: dict[int, Inet6Protocol] = {}
        self.idevs: dict[int, Idev] = {}
        self.table = Table6()
        self.frags: dict[tuple[Any, ...], FragQueue] = {}
        self.frag_mem = 0
        self.local_out: Callable[[SkBuff], int] = lambda skb: 0

    def idev(self, dev: NetDevice | None) -> Idev | None:
        """The device's IPv6, if it has any (__in6_dev_get)."""
        return self.idevs.get(dev.ifindex) if dev is not None else None

    def drop(self, skb: SkBuff, reason: Reason = Reason.NOT_SPECIFIED) -> None:
        """The packet ends here (kfree_skb_reason)."""
        self.env.kfree_skb(skb, reason)

    def po(self, what: str, size: int) -> None:
        """Counts a packet and its bytes (IP6_UPD_PO_STATS): "InMcast" is InMcastPkts and InMcastOctets."""
        self.env.count("Ip6InReceives" if what == "In" else f"Ip6{what}Pkts")
        self.env.count(f"Ip6{what}Octets", size)


def route(skb: SkBuff) -> Route6:
    """The packet's route, which it has."""
    rt: Route6 = skb.dst
    return rt


# ---------------------------------------------------------------------------------------------------------- headers


def saddr(skb: SkBuff) -> bytes:
    """The source address."""
    return bytes(skb.data[8:24])


def daddr(skb: SkBuff) -> bytes:
    """The destination address."""
    return bytes(skb.data[24:40])


def payload_len(skb: SkBuff) -> int:
    """What the header says that follows it (bytes)."""
    return int.from_bytes(skb.data[4:6], "big")


def tclass(skb: SkBuff) -> int:
    """The traffic class."""
    return (skb.data[0] & 0x0F) << 4 | skb.data[1] >> 4


def is_multicast(addr: bytes) -> bool:
    """ff00::/8."""
    return addr[0] == 0xFF


@cited("net/ipv6/addrconf_core.c:__ipv6_addr_type", "RFC 4291 2.4")
def ipv6_addr_type(addr: bytes) -> int:
    """IPV6_ADDR_ bits of an address, without its scope."""
    if addr[0] == 0xFF:
        return IPV6_ADDR_MULTICAST
    if addr[0] == 0xFE and addr[1] & 0xC0 == 0x80:
        return IPV6_ADDR_LINKLOCAL | IPV6_ADDR_UNICAST
    if addr[0] == 0xFE and addr[1] & 0xC0 == 0xC0:
        return IPV6_ADDR_SITELOCAL | IPV6_ADDR_UNICAST
    if addr[:8] == bytes(8):
        if addr == ANY:
            return IPV6_ADDR_ANY
        if addr == LOOPBACK:
            return IPV6_ADDR_LOOPBACK | IPV6_ADDR_UNICAST
        if addr[8:12] == bytes(4):
            return IPV6_ADDR_COMPATV4 | IPV6_ADDR_UNICAST
        if addr[8:12] == b"\0\0\xff\xff":
            return IPV6_ADDR_MAPPED
    return IPV6_ADDR_UNICAST


@cited("net/ipv6/exthdrs_core.c:ipv6_skip_exthdr", "RFC 8200 4")
def ipv6_skip_exthdr(data: bytes | bytearray, start: int, nexthdr: int) -> tuple[int, int, int]:
    """Goes past extension headers: offset of what follows (negative: cannot be told), its number, fragment field."""
    frag_off = 0
    while nexthdr in EXT_HDRS:
        if nexthdr == 59 or start + 2 > len(data):
            return -1, nexthdr, frag_off
        size = (data[start + 1] + 1) * 8
        if nexthdr == 44:
            if start + 4 > len(data):
                return -1, nexthdr, frag_off
            frag_off = int.from_bytes(data[start + 2 : start + 4], "big")
            if frag_off & ~7:
                break
            size = 8
        elif nexthdr == 51:
            size = (data[start + 1] + 2) * 4
        nexthdr = data[start]
        start += size
    return start, nexthdr, frag_off


@cited("net/ipv6/output_core.c:ip6_find_1stfragopt", "RFC 8200 4.5")
def ip6_find_1stfragopt(skb: SkBuff) -> tuple[int, int]:
    """How many bytes go into every fragment, and where the byte stands that says what follows; (-1, 0): malformed."""
    offset, at, routing = IP6_HLEN, 6, False
    while offset <= len(skb.data):
        nexthdr = skb.data[at]
        if nexthdr == 43:
            routing = True
        elif nexthdr == 60:
            if routing:
                return offset, at
        elif nexthdr != 0:
            return offset, at
        if offset + 2 > len(skb.data):
            return -1, 0
        at = offset
        offset += (skb.data[offset + 1] + 1) * 8
        if offset > 65535:
            return -1, 0
    return -1, 0


def trim(skb: SkBuff, size: int) -> None:
    """Cuts off what lies behind `size` bytes (pskb_trim_rcsum)."""
    if len(skb.data) > size:
        del skb.data[size:]
        if skb.ip_summed == 2:
            skb.ip_summed = 0


@cited("include/linux/netfilter.h:NF_HOOK")
def NF_HOOK(net: Ip6, hook: int, skb: SkBuff, indev: NetDevice | None, outdev: NetDevice | None, okfn: Okfn) -> int:
    """The packet passes a hook, and if that lets it go on, `okfn` has it."""
    ret = net.env.nf_hook6(hook, skb, indev, outdev, okfn)
    return okfn(skb) if ret == 1 else ret
