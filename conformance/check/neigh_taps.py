"""Neighbours of a capture with several taps: the link of each tap has its own judge.

A frame of resolution that two taps of one link saw is one event, and each host is judged where most of it is seen: at
the tap on it, or else at the first tap of its link. A router has an interface, a link-layer address and entries on each
link. What is between a host and the tap delays its frames, and where the sidecar counts frames dropped there, some of
resolution may be among them.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from ipaddress import ip_address
from typing import Any, Final

from msgspec.structs import replace

from conformance.check.neigh import Neighbours
from conformance.check.neigh_frames import link_local, number
from conformance.check.neigh_hosts import PATH, Place
from conformance.check.setup import Host, Setup, SidecarError, at_tap
from conformance.check.verdict import Divergence, Outcome, Verdict
from conformance.frames import Frame
from refmodel.packet import LINKTYPE_ETHERNET, Arp, NdNa, NdNs, Packet, Segment

ANY: Final = "any"
MIDDLE: Final = "middle"
COPIES: Final = 65_536  # frames of resolution compared
BEFORE_TAP: Final = ("egress", "qdisc")


class Taps:
    """The judges of a capture, one a tap."""

    def __init__(self, setup: Setup) -> None:
        """Raises SidecarError for a call, notification, link or gateway that names no address."""
        self.setup = setup
        self.counts: Counter[str] = Counter()
        self.judges: dict[int, Neighbours] = {}
        self.left: dict[str, set[bytes]] = {}
        self.copies: list[tuple[str, Frame]] = []
        self.begins, self.full = 1 << 62, 1 << 62
        taps = len(setup.extra.get("taps", {}).get("hosts", ())) or 1
        for tap in range(taps):
            self._judge(tap)

    def frame(self, f: Frame, packet: Packet | Segment) -> None:
        """Takes the next frame, of whichever tap."""
        tap = f.interface if f.linktype == LINKTYPE_ETHERNET else 0
        judge = self.judges.get(tap) or self._judge(tap)
        judge.frame(f, packet)
        self.begins = min(self.begins, f.time // 1000)
        if len(self.judges) > 1 and isinstance(packet, Packet) and f.linktype == LINKTYPE_ETHERNET:
            self._compare(judge, f, packet)

    def _compare(self, judge: Neighbours, f: Frame, packet: Packet) -> None:
        """What a host with a tap of its own asks or answers must look the same at the other tap of the link."""
        sender = judge.by_mac.get(int.from_bytes(f.data[6:12], "big"))
        if sender is None or not sender.told or sender.crafted or len(self.copies) >= COPIES:
            return
        if all(packet.get(kind) is None for kind in (Arp, NdNs, NdNa)):
            return
        if judge.setup.near == sender.name:
            left = self.left.setdefault(sender.name, set())
            if len(left) < COPIES:
                left.add(f.data)
            else:
                self.full = min(self.full, f.time // 1000)
        elif sender.name in judge.place.elsewhere:
            self.copies.append((sender.name, f))

    def finish(self, end: int, linux: Collection[bytes] | None = None) -> list[Verdict]:
        """The verdicts of all taps; `linux` as in Neighbours.finish."""
        out: list[Verdict] = []
        for tap in sorted(self.judges):
            out += self.judges[tap].finish(end, linux)
            self.judges[tap].counts = Counter()
        return out + list(self._altered())

    @property
    def crowded(self) -> bool:
        """Whether a link had more hosts, or entries, than are followed."""
        return any(j.crowded for j in self.judges.values())

    def _altered(self) -> Iterator[Verdict]:
        """Copies of no frame that left their sender's tap; one under way when the capture began is passed over."""
        tapped = {j.setup.near for j in self.judges.values()}
        damaged = any(n and place.endswith(".corrupted") for place, n in self.setup.extra.get("drops", {}).items())
        found: dict[str, Divergence] = {}
        for host, f in self.copies:
            if f.time // 1000 + PATH > self.full:
                break
            early = f.time // 1000 < self.begins + PATH
            if host not in tapped or f.data in self.left.get(host, ()) or (early and host not in self.left) or damaged:
                continue
            what = f"{host} sent no frame that looks like #{f.number} at the other tap"
            found.setdefault(host, Divergence(f.number, f.time / 1e9, host, what))
        for host, d in found.items():
            yield Verdict(
                "neigh", f"{host}: at another tap", Outcome.DIVERGES, d.what, divergence=d, inferred=self.setup.inferred
            )

    def _judge(self, tap: int) -> Neighbours:
        judge = self.judges[tap] = Neighbours(*at_link(self.setup, tap))
        judge.counts = self.counts
        return judge


def at_link(setup: Setup, tap: int) -> tuple[Setup, Place]:
    """What is known at a tap of its link alone, and where on it the tap is. Raises SidecarError."""
    taps = setup.extra.get("taps", {})
    hosts, interfaces = list(taps.get("hosts", ())), list(taps.get("interfaces", ()))
    if not hosts or len(hosts) != len(interfaces) or tap >= len(hosts):
        if not tap:
            return setup, Place()
        return replace(setup, near="", notifications=()), Place(frozenset(h.name for h in setup.hosts))
    here = at_tap(setup, tap)
    try:
        ends = [_ends(setup, h, i) for h, i in zip(hosts, interfaces, strict=True)]
        gateways = {h: ip_address(a).packed for h, a in setup.extra.get("gateways", {}).items()}
        return _link(here, tap, ends, gateways, hosts, interfaces[tap])
    except (ValueError, AttributeError) as why:
        raise SidecarError(f"the sidecar's links or gateways cannot be read: {why}") from why


def _link(
    setup: Setup,
    tap: int,
    ends: list[tuple[str, ...]],
    gateways: dict[str, bytes],
    tapped: list[str],
    interface: str,
) -> tuple[Setup, Place]:
    names = ends[tap]
    on = tuple(_on_link(setup, h, names, gateways) for h in setup.hosts if h.name in names)
    addresses = frozenset(a for h in on for a in h.addresses)
    local = frozenset(link_local(number(h.mac)) for h in on)
    readable = interface != ANY and setup.extra.get("taps", {}).get("start") != MIDDLE
    notes = tuple(
        n for n in setup.notifications if readable and n.host in names and ip_address(n.dst).packed in addresses | local
    )
    elsewhere = frozenset(n for n in names if _judged_at(n, tap, ends, tapped) != tap)
    others = {h.name: h.addresses - addresses for h in setup.hosts if h.name in names}
    drops = setup.extra.get("drops", {})
    path = {n: PATH for n in names if any(_between(place, n, tapped[tap]) for place in drops)}
    lossy = frozenset(n for n in names if any(v and _between(k, n, tapped[tap], True) for k, v in drops.items()))
    routes = {h: g for h, g in gateways.items() if h in names and g in addresses}
    return (
        replace(setup, hosts=on, notifications=notes),
        Place(elsewhere, path, lossy, addresses if gateways else None, routes, others),
    )


def _ends(setup: Setup, host: str, interface: str) -> tuple[str, ...]:
    """Who is on the link of an interface. A router's devices end with the name of the host behind them."""
    gateways = setup.extra.get("gateways", {})
    if not gateways:
        return tuple(h.name for h in setup.hosts)
    routers = tuple(h.name for h in setup.hosts if h.name not in gateways)
    behind = host if host in gateways else next((h for h in gateways if interface.endswith(h)), "")
    return (behind, *routers)


def _on_link(setup: Setup, h: Host, names: tuple[str, ...], gateways: dict[str, bytes]) -> Host:
    """A host as it is on one link: with the address and the link-layer address of its interface there."""
    if not gateways or h.name in gateways:
        return h
    behind = names[0]
    links: dict[str, Any] = setup.extra.get("links", {})
    hw = next((m for d, m in links.items() if d.startswith(f"{h.name}.") and d.endswith(behind)), "")
    mac = bytes.fromhex(hw.replace(":", "")) if hw else h.mac
    return replace(h, addresses=frozenset({gateways[behind]}) if behind in gateways else h.addresses, mac=mac)


def _judged_at(name: str, tap: int, ends: list[tuple[str, ...]], tapped: list[str]) -> int:
    """The tap that judges what a host does on the link of `tap`: the one on it, or else the first of that link."""
    same = [k for k, e in enumerate(ends) if e == ends[tap]]
    return next((k for k in same if tapped[k] == name), same[0])


def _between(place: str, host: str, tapped: str, kept: bool = False) -> bool:
    """Whether frames between a host and the tap pass a place that delays them, or (`kept`) that may have kept them.

    nft drops TCP only, which resolution does not notice but for a packet that waited for it.
    """
    where, _, what = place.partition(".")
    if what == "forward" or what in ("ingress", "input", "output"):
        return False
    if what in BEFORE_TAP:
        return (what == "qdisc" or kept) and (where == host or host != tapped)
    return where == "relay" and host != tapped and (not kept or what.endswith(("lost", "queue", "corrupted")))


def of_capture(setup: Setup) -> Taps:
    """The judges of a capture's neighbours. Raises SidecarError."""
    return Taps(setup)
