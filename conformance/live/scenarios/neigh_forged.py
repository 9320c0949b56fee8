"""ARP frames and neighbour advertisements that a crafted peer sends: forged, early, late, unasked."""

from conformance.live.craft import BROADCAST, RawPeer, arp, lladdr, nd, udp4
from conformance.live.errors import ScenarioFailed
from conformance.live.lab import Lab, Sock
from conformance.live.scenarios.registry import scenario
from conformance.live.sidecar import Value

NOBODY = "00:00:00:00:00:00"
ELSE = "02:00:00:00:00:66"
THIRD = "02:00:00:00:00:77"


def _resolved(lab: Lab) -> tuple[RawPeer, Sock]:
    """A crafted neighbour that host a has resolved."""
    peer = RawPeer(lab, neighbour=False)
    s = lab["a"].udp()
    s.sendto(20, lab["b"].address, 5000)
    peer.solicited()
    peer.answer()
    lab.sleep(0.1)
    return peer, s


def _knows(lab: Lab, address: str, mac: str) -> None:
    shown = lab["a"].run("ip", "neigh", "show", "to", address, "dev", "a0")
    if (mac or "lladdr") not in shown if mac else shown.strip():
        raise ScenarioFailed(f"the entry is '{shown.strip()}', expected {mac or 'none'}")


def _replies(peer: RawPeer, limit: float = 0.3) -> int:
    """How many ARP replies come within `limit` s."""
    n = 0
    while (data := peer.frame(limit)) is not None:
        n += data[12:14] == b"\x08\x06" and data[21] == 2
    return n


def _conf(**values: Value) -> dict[str, dict[str, Value]]:
    return {"a": {f"net.ipv4.conf.default.{k}": v for k, v in values.items()}}


@scenario("neigh", raw=("b",), announces=("a REACHABLE",))
def arp_reply(lab: Lab) -> None:
    """The answer comes 300 ms after the solicitation: the datagram that waited leaves then."""
    peer = RawPeer(lab, neighbour=False)
    lab["a"].udp().sendto(20, lab["b"].address, 5000)
    peer.solicited()
    lab.sleep(0.3)
    peer.answer()
    lab.sleep(0.1)


@scenario(
    "neigh", raw=("b",), sysctls={"a": {"net.ipv4.neigh.default.unres_qlen_bytes": 3000}}, announces=("a REACHABLE",)
)
def arp_queue_overflow(lab: Lab) -> None:
    """Six datagrams wait where unres_qlen_bytes has room for fewer: the oldest are dropped, the newest leave."""
    peer = RawPeer(lab, neighbour=False)
    s = lab["a"].udp()
    for i in range(6):
        s.sendto(20 + i, lab["b"].address, 5000)
    lab.sleep(0.1)
    peer.answer()
    lab.sleep(0.1)


@scenario("neigh", raw=("b",), announces=("a REACHABLE",))
def arp_first_reply_wins(lab: Lab) -> None:
    """Two answers with different MACs within locktime: the first is taken, the second ignored."""
    peer = RawPeer(lab, neighbour=False)
    lab["a"].udp().sendto(20, lab["b"].address, 5000)
    peer.solicited()
    peer.answer()
    lab.sleep(0.05)
    peer.answer(ELSE)
    lab.sleep(0.1)
    _knows(lab, "10.9.0.2", lab["b"].mac)


@scenario("neigh", raw=("b",), announces=("a REACHABLE", "a REACHABLE"))
def arp_reply_after_locktime(lab: Lab) -> None:
    """An unasked reply with another MAC comes when locktime has passed: it overrides the entry."""
    peer, s = _resolved(lab)
    lab.sleep(1.2)
    peer.answer(ELSE)
    lab.sleep(0.1)
    _knows(lab, "10.9.0.2", ELSE)
    s.sendto(20, "10.9.0.2", 5000)
    lab.sleep(0.1)


@scenario(
    "neigh", raw=("b",), sysctls={"a": {"net.ipv4.neigh.default.locktime": 0}}, announces=("a REACHABLE", "a REACHABLE")
)
def arp_no_locktime(lab: Lab) -> None:
    """locktime=0: the second of two answers overrides the first."""
    peer, _ = _resolved(lab)
    peer.answer(ELSE)
    lab.sleep(0.1)
    _knows(lab, "10.9.0.2", ELSE)


@scenario("neigh", raw=("b",), announces=("a REACHABLE", "a STALE"))
def arp_gratuitous_request(lab: Lab) -> None:
    """A gratuitous request with a new MAC overrides a known entry at once, locktime or not, and makes it STALE."""
    peer, s = _resolved(lab)
    peer.send(arp(1, ELSE, "10.9.0.2", NOBODY, "10.9.0.2"))
    lab.sleep(0.1)
    _knows(lab, "10.9.0.2", ELSE)
    s.sendto(20, "10.9.0.2", 5000)
    lab.sleep(0.1)


@scenario("neigh", raw=("b",), announces=("a REACHABLE", "a STALE"))
def arp_gratuitous_reply(lab: Lab) -> None:
    """A gratuitous reply to all with a new MAC overrides a known entry and makes it STALE."""
    peer, _ = _resolved(lab)
    peer.send(arp(2, ELSE, "10.9.0.2", ELSE, "10.9.0.2"))
    lab.sleep(0.1)
    _knows(lab, "10.9.0.2", ELSE)


@scenario("neigh", raw=("b",), sysctls=_conf(drop_gratuitous_arp=1), announces=("a REACHABLE",))
def arp_gratuitous_dropped(lab: Lab) -> None:
    """drop_gratuitous_arp=1: a gratuitous request changes nothing."""
    peer, _ = _resolved(lab)
    peer.send(arp(1, ELSE, "10.9.0.2", NOBODY, "10.9.0.2"))
    lab.sleep(0.1)
    _knows(lab, "10.9.0.2", lab["b"].mac)


@scenario("neigh", raw=("b",))
def arp_gratuitous_unknown(lab: Lab) -> None:
    """A gratuitous request and an unasked reply from a host that is not known are ignored (arp_accept=0)."""
    peer = RawPeer(lab, neighbour=False)
    peer.send(arp(1, lab["b"].mac, "10.9.0.2", NOBODY, "10.9.0.2"))
    peer.answer()
    lab.sleep(0.2)
    _knows(lab, "10.9.0.2", "")


@scenario("neigh", raw=("b",), sysctls=_conf(arp_accept=1), announces=("a STALE",))
def arp_accept_gratuitous(lab: Lab) -> None:
    """arp_accept=1: a gratuitous request from a host that is not known makes an entry in STALE."""
    peer = RawPeer(lab, neighbour=False)
    peer.send(arp(1, lab["b"].mac, "10.9.0.2", NOBODY, "10.9.0.2"))
    lab.sleep(0.2)
    _knows(lab, "10.9.0.2", lab["b"].mac)


@scenario("neigh", raw=("b",), announces=("a DELAY",))
def arp_broadcast_reply(lab: Lab) -> None:
    """The answer comes by broadcast: the entry becomes STALE, not REACHABLE, and the datagram leaves, so DELAY."""
    peer = RawPeer(lab, neighbour=False)
    b = lab["b"]
    lab["a"].udp().sendto(20, b.address, 5000)
    peer.solicited()
    peer.send(arp(2, b.mac, b.v4, lab["a"].mac, lab["a"].v4, BROADCAST))
    lab.sleep(0.1)
    _knows(lab, "10.9.0.2", b.mac)


@scenario("neigh", raw=("b",), announces=("a DELAY",))
def arp_request_resolves(lab: Lab) -> None:
    """While a datagram waits, the peer's own request comes: it makes the entry valid, and the datagram leaves."""
    peer = RawPeer(lab, neighbour=False)
    b = lab["b"]
    lab["a"].udp().sendto(20, b.address, 5000)
    peer.solicited()
    peer.send(arp(1, b.mac, b.v4, NOBODY, lab["a"].v4))
    lab.sleep(0.1)
    _knows(lab, "10.9.0.2", b.mac)


@scenario("neigh", raw=("b",))
def arp_probe_without_sender(lab: Lab) -> None:
    """A request with sender address 0.0.0.0 (duplicate address detection) is answered, and nothing is learnt."""
    peer = RawPeer(lab, neighbour=False)
    peer.send(arp(1, lab["b"].mac, "0.0.0.0", NOBODY, lab["a"].v4))
    if _replies(peer) != 1:
        raise ScenarioFailed("the probe was not answered")
    _knows(lab, "10.9.0.2", "")


@scenario("neigh", raw=("b",), announces=("a REACHABLE", "a STALE"))
def arp_request_for_another(lab: Lab) -> None:
    """A known host asks for somebody else with a new MAC after locktime: no answer, and its entry takes the new MAC."""
    peer, _ = _resolved(lab)
    lab.sleep(1.2)
    peer.send(arp(1, ELSE, "10.9.0.2", NOBODY, "10.9.0.77"))
    if _replies(peer):
        raise ScenarioFailed("a request for another was answered")
    _knows(lab, "10.9.0.2", ELSE)


@scenario("neigh", raw=("b",))
def arp_stranger_asks_for_another(lab: Lab) -> None:
    """A host that is not known asks for somebody else: no answer, no entry."""
    peer = RawPeer(lab, neighbour=False)
    peer.send(arp(1, lab["b"].mac, "10.9.0.2", NOBODY, "10.9.0.77"))
    if _replies(peer):
        raise ScenarioFailed("a request for another was answered")
    _knows(lab, "10.9.0.2", "")


@scenario("neigh", raw=("b",), announces=("a STALE",))
def arp_other_interface(lab: Lab) -> None:
    """A request for an address that the host has on another interface is answered (arp_ignore=0)."""
    lab["a"].add_address("10.9.0.100", 32, "lo")
    peer = RawPeer(lab, neighbour=False)
    peer.send(arp(1, lab["b"].mac, "10.9.0.2", NOBODY, "10.9.0.100"))
    if _replies(peer) != 1:
        raise ScenarioFailed("the request was not answered")


@scenario("neigh", raw=("b",), sysctls=_conf(arp_ignore=1))
def arp_ignore_other_interface(lab: Lab) -> None:
    """arp_ignore=1: a request for an address that the host has on another interface is not answered."""
    lab["a"].add_address("10.9.0.100", 32, "lo")
    peer = RawPeer(lab, neighbour=False)
    peer.send(arp(1, lab["b"].mac, "10.9.0.2", NOBODY, "10.9.0.100"))
    if _replies(peer):
        raise ScenarioFailed("the request was answered")


@scenario("neigh", raw=("b",), announces=("a PERMANENT",))
def arp_permanent_kept(lab: Lab) -> None:
    """A permanent entry is kept against a gratuitous request and a reply with another MAC."""
    peer = RawPeer(lab)
    lab.sleep(1.2)
    peer.send(arp(1, ELSE, "10.9.0.2", NOBODY, "10.9.0.2"))
    peer.answer(ELSE)
    lab.sleep(0.1)
    _knows(lab, "10.9.0.2", lab["b"].mac)
    lab["a"].udp().sendto(20, lab["b"].address, 5000)
    lab.sleep(0.1)


@scenario("neigh", raw=("b",), announces=("a STALE", "a STALE", "a STALE"))
def arp_requests_override(lab: Lab) -> None:
    """Three hosts claim one address in requests to this one: each overrides the one before, locktime or not."""
    peer = RawPeer(lab, neighbour=False)
    for mac, pause in ((lab["b"].mac, 0.1), (ELSE, 0.1), (THIRD, 0.1)):
        peer.send(arp(1, mac, "10.9.0.2", NOBODY, lab["a"].v4))
        lab.sleep(pause)
    _knows(lab, "10.9.0.2", THIRD)


@scenario("neigh", raw=("b",))
def arp_odd_requests(lab: Lab) -> None:
    """A request for a multicast address, one for a loopback address and a packet with an unknown operation draw
    nothing.
    """
    peer = RawPeer(lab, neighbour=False)
    for op, target in ((1, "224.0.0.1"), (1, "127.0.0.1"), (25, lab["a"].v4)):
        peer.send(arp(op, lab["b"].mac, "10.9.0.2", NOBODY, target))
    if _replies(peer):
        raise ScenarioFailed("an odd request was answered")
    _knows(lab, "10.9.0.2", "")


@scenario("neigh", raw=("b",), announces=("a FAILED",), sysctls={"a": {"net.ipv4.neigh.default.retrans_time_ms": 300}})
def arp_late_reply(lab: Lab) -> None:
    """The answer comes after the entry has FAILED: it makes it REACHABLE, with no datagram left to send."""
    peer = RawPeer(lab, neighbour=False)
    lab["a"].udp().sendto(20, lab["b"].address, 5000)
    lab["a"].wait_neighbour("10.9.0.2", "FAILED")
    lab.sleep(0.2)
    peer.answer()
    lab.sleep(0.1)
    _knows(lab, "10.9.0.2", lab["b"].mac)


@scenario("neigh", raw=("b",), announces=("a DELAY",))
def arp_for_reply_datagram(lab: Lab) -> None:
    """A datagram to a closed port comes from a host that is not known: the ICMP error waits for its resolution."""
    peer = RawPeer(lab, neighbour=False)
    peer.send(udp4(lab["b"], lab["a"], 4000, 5999, 20))
    peer.solicited()
    peer.send(arp(1, lab["b"].mac, "10.9.0.2", NOBODY, lab["a"].v4))
    lab.sleep(0.2)


# ---- neighbour discovery ------------------------------------------------------------------------------------------


def _advertise(peer: RawPeer, flags: int, mac: str, unicast: bool = True) -> None:
    own, other = peer.host, peer.other
    to, dst = (other.mac, other.v6) if unicast else ("33:33:00:00:00:01", "ff02::1")
    option = lladdr(2, mac) if mac else b""
    peer.send(nd(136, own.mac, to, own.v6, dst, own.v6, flags, option))


@scenario("neigh", families=(6,), raw=("b",), announces=("a REACHABLE", "a STALE"))
def nd_unsolicited_override(lab: Lab) -> None:
    """An unsolicited advertisement with the override flag and a new MAC changes the entry, which becomes STALE."""
    peer, _ = _resolved(lab)
    _advertise(peer, 1, ELSE, unicast=False)
    lab.sleep(0.1)
    _knows(lab, "fd09::2", ELSE)


@scenario("neigh", families=(6,), raw=("b",), announces=("a REACHABLE", "a STALE"))
def nd_no_override(lab: Lab) -> None:
    """An advertisement with another MAC and no override flag makes a REACHABLE entry STALE and keeps its MAC."""
    peer, _ = _resolved(lab)
    _advertise(peer, 2, ELSE)
    lab.sleep(0.1)
    _knows(lab, "fd09::2", lab["b"].mac)


@scenario("neigh", families=(6,), raw=("b",), announces=("a REACHABLE", "a REACHABLE"))
def nd_solicited_override(lab: Lab) -> None:
    """A solicited advertisement with the override flag and another MAC changes the entry, which stays REACHABLE."""
    peer, _ = _resolved(lab)
    _advertise(peer, 3, ELSE)
    lab.sleep(0.1)
    _knows(lab, "fd09::2", ELSE)


@scenario("neigh", families=(6,), raw=("b",))
def nd_unknown_advertisement(lab: Lab) -> None:
    """An advertisement of an address that nobody asked for makes no entry."""
    peer = RawPeer(lab, neighbour=False)
    _advertise(peer, 3, lab["b"].mac)
    _advertise(peer, 1, lab["b"].mac, unicast=False)
    lab.sleep(0.2)
    _knows(lab, "fd09::2", "")


@scenario("neigh", families=(6,), raw=("b",), announces=("a REACHABLE",))
def nd_router_flag(lab: Lab) -> None:
    """An advertisement with the router flag marks the entry as a router."""
    peer = RawPeer(lab, neighbour=False)
    lab["a"].udp().sendto(20, lab["b"].address, 5000)
    peer.solicited()
    _advertise(peer, 7, lab["b"].mac)
    lab.sleep(0.1)
    _knows(lab, "fd09::2", "router")


@scenario("neigh", families=(6,), raw=("b",), announces=("a DELAY",))
def nd_unsolicited_answer(lab: Lab) -> None:
    """A waiting entry is answered without the solicited flag: it becomes STALE, and the datagram leaves."""
    peer = RawPeer(lab, neighbour=False)
    lab["a"].udp().sendto(20, lab["b"].address, 5000)
    peer.solicited()
    _advertise(peer, 1, lab["b"].mac)
    lab.sleep(0.1)
    _knows(lab, "fd09::2", lab["b"].mac)


@scenario("neigh", families=(6,), raw=("b",), announces=("a STALE",))
def nd_solicitation_makes_stale(lab: Lab) -> None:
    """A solicitation with the sender's MAC makes a STALE entry, and is answered by a solicited advertisement."""
    peer = RawPeer(lab, neighbour=False)
    a, b = lab["a"], lab["b"]
    peer.send(nd(135, b.mac, "33:33:ff:00:00:01", b.v6, "ff02::1:ff00:1", a.v6, 0, lladdr(1, b.mac)))
    lab.sleep(0.2)
    _knows(lab, "fd09::2", b.mac)


@scenario("neigh", families=(6,), raw=("b",))
def nd_dad_defended(lab: Lab) -> None:
    """A solicitation from the unspecified address (duplicate address detection) is answered to all nodes; nothing
    is learnt.
    """
    peer = RawPeer(lab, neighbour=False)
    peer.send(nd(135, lab["b"].mac, "33:33:ff:00:00:01", "::", "ff02::1:ff00:1", lab["a"].v6))
    lab.sleep(0.2)
    _knows(lab, "fd09::2", "")


@scenario("neigh", families=(6,), raw=("b",))
def nd_bad_solicitations(lab: Lab) -> None:
    """Solicitations that RFC 4861 7.1.1 calls invalid draw nothing: from the unspecified address with a source option,
    or to a unicast address, and for a multicast target.
    """
    peer = RawPeer(lab, neighbour=False)
    a, b = lab["a"], lab["b"]
    option = lladdr(1, b.mac)
    peer.send(nd(135, b.mac, "33:33:ff:00:00:01", "::", "ff02::1:ff00:1", a.v6, 0, option))
    peer.send(nd(135, b.mac, a.mac, "::", a.v6, a.v6))
    peer.send(nd(135, b.mac, "33:33:ff:00:00:01", b.v6, "ff02::1:ff00:1", "ff02::1", 0, option))
    lab.sleep(0.2)
    _knows(lab, "fd09::2", "")


def _look_for_duplicates(lab: Lab) -> None:
    lab["a"].set_sysctl("net.ipv6.conf.default.dad_transmits", 1)
    lab["a"].set_sysctl("net.ipv6.conf.default.accept_dad", 1)


@scenario("neigh", families=(6,))
def nd_dad(lab: Lab) -> None:
    """A host that takes an address asks for it first, from the unspecified address; nobody has it."""
    _look_for_duplicates(lab)
    lab["a"].add_address("fd09::55", 64, "a0")
    lab.sleep(2.4)
    if "tentative" in lab["a"].run("ip", "-6", "addr", "show", "dev", "a0"):
        raise ScenarioFailed("the address did not become usable")


@scenario("neigh", families=(6,))
def nd_dad_conflict(lab: Lab) -> None:
    """A host that takes an address which another has is told so: its address stays unusable."""
    _look_for_duplicates(lab)
    lab["a"].ip(f"addr add {lab['b'].v6}/64 dev a0")
    lab.sleep(2.0)
    if "dadfailed" not in lab["a"].run("ip", "-6", "addr", "show", "dev", "a0"):
        raise ScenarioFailed("the duplicate was not found")
