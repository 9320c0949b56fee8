"""The neighbour table between two hosts: how an entry is resolved, ages, is probed, changes and goes.

A kernel draws the time that an entry stays reachable between half and one and a half of base_reachable_time_ms, so
scenarios wait for states, not for times.
"""

from conformance.live.errors import ScenarioFailed
from conformance.live.lab import Lab, Sock
from conformance.live.scenarios.registry import scenario
from conformance.live.sidecar import Value


def quick(**values: Value) -> dict[str, dict[str, Value]]:
    """Sysctls of host a's interface, for both families."""
    return {"a": {f"net.{f}.neigh.default.{k}": v for f in ("ipv4", "ipv6") for k, v in values.items()}}


# An entry that was used less than delay_first_probe_time ago goes to DELAY instead of STALE, so it is the shorter one.
AGEING = quick(base_reachable_time_ms=2400, delay_first_probe_time=1, retrans_time_ms=300)


def absent(lab: Lab) -> str:
    """An address that nobody has."""
    return "fd09::99" if lab.family == 6 else "10.9.0.99"


def _stale(lab: Lab) -> Sock:
    """Host a knows b, and its entry has become STALE; gives the socket that it used."""
    lab["b"].udp().bind(5000)
    s = lab["a"].udp()
    s.sendto(20, lab["b"], 5000)
    lab["a"].wait_neighbour(lab["b"].address, "REACHABLE")
    lab["a"].wait_neighbour(lab["b"].address, "STALE")
    return s


SOLICITS = {4: "ether type arp", 6: "icmpv6 type nd-neighbor-solicit"}


@scenario("neigh", families=(4, 6), announces=("a REACHABLE", "b STALE"))
def neigh_resolve(lab: Lab) -> None:
    """A datagram to an unknown neighbour waits while it is solicited; the answer makes the entry REACHABLE."""
    lab["b"].udp().bind(5000)
    lab["a"].udp().sendto(20, lab["b"], 5000)
    lab.sleep(0.2)


@scenario("neigh", families=(4, 6), announces=("a FAILED",))
def neigh_fail(lab: Lab) -> None:
    """Nobody has the address: three solicitations a second apart, then FAILED, and the datagram is reported."""
    s = lab["a"].udp().connect(absent(lab), 5000)
    s.set(*(("IPPROTO_IPV6", "IPV6_RECVERR") if lab.family == 6 else ("IPPROTO_IP", "IP_RECVERR")), 1)
    s.send(20)
    lab.sleep(3.6)
    s.send(20, fails="EHOSTUNREACH")
    lab.sleep(0.1)


@scenario("neigh", announces=("a FAILED", "a FAILED"), sysctls=quick(retrans_time_ms=200, mcast_solicit=2))
def neigh_fail_then_again(lab: Lab) -> None:
    """A FAILED entry starts over with the next datagram; mcast_solicit=2 and retrans_time_ms=200 make it quick."""
    s = lab["a"].udp()
    for _ in range(2):
        s.sendto(20, absent(lab), 5000)
        lab.sleep(0.8)


@scenario("neigh", families=(4, 6), sysctls=quick(retrans_time_ms=400), tools=("nft",), announces=("a REACHABLE",))
def neigh_lost_solicit(lab: Lab) -> None:
    """The wire loses the first solicitation: the second, retrans_time_ms later, is answered."""
    lab["b"].udp().bind(5000)
    with lab["b"].drops(SOLICITS[lab.family]):
        lab["a"].udp().sendto(20, lab["b"], 5000)
        lab.sleep(0.2)
    lab.sleep(0.5)


@scenario("neigh", families=(4, 6), sysctls=AGEING, announces=("a REACHABLE", "a STALE"))
def neigh_stale(lab: Lab) -> None:
    """A reachable entry that nobody uses becomes STALE when its reachable time has passed; no frame is sent."""
    _stale(lab)
    lab.sleep(0.3)


@scenario("neigh", families=(4, 6), sysctls=AGEING, announces=("a REACHABLE", "a STALE", "a PROBE", "a REACHABLE"))
def neigh_delay_probe(lab: Lab) -> None:
    """A datagram to a STALE neighbour leaves at once and starts the delay; unconfirmed, the entry is probed by unicast
    and answered.
    """
    s = _stale(lab)
    s.sendto(20, lab["b"], 5000)
    lab.sleep(1.5)


@scenario("neigh", families=(4, 6), sysctls=AGEING, announces=("a REACHABLE", "a STALE", "a REACHABLE"))
def neigh_delay_confirmed_by_tcp(lab: Lab) -> None:
    """TCP uses a STALE neighbour and its progress confirms it: DELAY ends in REACHABLE without a probe."""
    server = lab["b"].server()
    client = lab["a"].socket().connect(lab["b"], 8080)
    child = server.accept()
    lab["a"].wait_neighbour(lab["b"].address, "STALE")
    for _ in range(8):
        client.send(10)
        child.recv_all(10)
        lab.sleep(0.2)


@scenario("neigh", sysctls=AGEING, announces=("a REACHABLE", "a STALE", "a REACHABLE"))
def neigh_delay_confirmed_by_msg(lab: Lab) -> None:
    """MSG_CONFIRM on datagrams to a STALE neighbour confirms it: DELAY ends in REACHABLE without a probe."""
    s = _stale(lab)
    s.connect(lab["b"], 5000)
    for _ in range(8):
        s.send(20, "MSG_CONFIRM")
        lab.sleep(0.2)


@scenario("neigh", sysctls=quick(base_reachable_time_ms=1000, delay_first_probe_time=1), announces=("a REACHABLE",))
def neigh_kept_by_tcp(lab: Lab) -> None:
    """A conversation over TCP keeps its neighbour REACHABLE: its acknowledgements confirm it, and no probe is sent."""
    server = lab["b"].server()
    client = lab["a"].socket().connect(lab["b"], 8080)
    child = server.accept()
    for _ in range(15):
        client.send(10)
        child.recv_all(10)
        lab.sleep(0.2)
    if lab["a"].neighbour(lab["b"].address) != "REACHABLE":
        raise ScenarioFailed("the neighbour did not stay REACHABLE")


@scenario(
    "neigh", sysctls=quick(base_reachable_time_ms=400, delay_first_probe_time=1), announces=("a REACHABLE", "a PROBE")
)
def neigh_used_then_probed(lab: Lab) -> None:
    """An entry whose reachable time ends soon after its use goes silently to DELAY, and from there to PROBE."""
    lab["b"].udp().bind(5000)
    lab["a"].udp().sendto(20, lab["b"], 5000)
    lab.sleep(2.4)


@scenario(
    "neigh",
    families=(4, 6),
    sysctls=AGEING,
    tools=("nft",),
    announces=("a REACHABLE", "a STALE", "a PROBE", "a FAILED"),
)
def neigh_probe_unanswered(lab: Lab) -> None:
    """The wire loses the solicitations: three unicast probes of an entry in use go unanswered, and it is FAILED."""
    s = _stale(lab)
    with lab["b"].drops(SOLICITS[lab.family]):
        s.sendto(20, lab["b"], 5000)
        lab["a"].wait_neighbour(lab["b"].address, "FAILED")
    lab.sleep(0.1)


@scenario(
    "neigh",
    sysctls={"a": AGEING["a"] | {"net.ipv4.neigh.default.mcast_resolicit": 2}},
    tools=("nft",),
    announces=("a REACHABLE", "a STALE", "a PROBE", "a FAILED"),
)
def neigh_resolicit(lab: Lab) -> None:
    """mcast_resolicit=2: after three unanswered unicast probes the neighbour is asked for by broadcast twice more."""
    s = _stale(lab)
    with lab["b"].drops("ether type arp"):
        s.sendto(20, lab["b"], 5000)
        lab["a"].wait_neighbour(lab["b"].address, "FAILED")
    lab.sleep(0.1)


@scenario("neigh", sysctls=AGEING, announces=("a REACHABLE", "a STALE", "a PROBE", "a FAILED", "a REACHABLE"))
def neigh_mac_changes(lab: Lab) -> None:
    """The neighbour's MAC changes silently: unicast probes to the old one go unanswered, and after FAILED the next
    datagram finds the new one by broadcast.
    """
    s = _stale(lab)
    lab["b"].ip("link set b0 address 02:00:00:00:00:22")
    s.sendto(20, lab["b"], 5000)
    lab["a"].wait_neighbour(lab["b"].address, "FAILED")
    s.sendto(20, lab["b"], 5000)
    lab.sleep(0.2)


@scenario("neigh", families=(4, 6), announces=("a REACHABLE", "a STALE"))
def neigh_mac_changes_announced(lab: Lab) -> None:
    """The neighbour's MAC changes and it says so (arp_notify, ndisc_notify): the entry takes the new one as STALE."""
    lab["b"].set_sysctl("net.ipv4.conf.default.arp_notify", 1)
    if lab.family == 6:
        lab["b"].set_sysctl("net.ipv6.conf.default.ndisc_notify", 1)
    lab["b"].udp().bind(5000)
    lab["a"].udp().sendto(20, lab["b"], 5000)
    lab.sleep(0.2)
    lab["b"].ip("link set b0 address 02:00:00:00:00:22")
    lab.sleep(0.3)


@scenario("neigh", families=(4, 6), announces=("a STALE",))
def neigh_request_makes_stale(lab: Lab) -> None:
    """The peer solicits first: its request is answered, and makes an entry in STALE on the host that was asked."""
    lab["a"].udp().bind(5000)
    lab["b"].udp().sendto(20, lab["a"], 5000)
    lab.sleep(0.2)


@scenario(
    "neigh", families=(4, 6), sysctls=quick(delay_first_probe_time=1), announces=("a STALE", "a PROBE", "a REACHABLE")
)
def neigh_request_then_use(lab: Lab) -> None:
    """An entry that the peer's request made is used: DELAY, then a unicast probe makes it REACHABLE."""
    lab["a"].udp().bind(5000)
    lab["b"].udp().bind(5000).sendto(20, lab["a"], 5000)
    lab.sleep(0.1)
    lab["a"].udp().sendto(20, lab["b"], 5000)
    lab.sleep(1.4)


@scenario("neigh", hosts=("a", "b", "c"), announces=("a REACHABLE", "a REACHABLE"))
def neigh_two_neighbours(lab: Lab) -> None:
    """Two neighbours behind a bridge: each is solicited by broadcast, and only the one that is meant answers."""
    for name in ("b", "c"):
        lab[name].udp().bind(5000)
        lab["a"].udp().sendto(20, lab[name], 5000)
        lab.sleep(0.1)
    lab.sleep(0.2)


@scenario("neigh", announces=("a PERMANENT", "a REACHABLE", "a DELNEIGH"))
def neigh_netlink(lab: Lab) -> None:
    """An administrator adds a permanent entry, uses it without a solicitation, replaces it by a reachable one, and
    deletes it.
    """
    a, b = lab["a"], lab["b"]
    b.udp().bind(5000)
    s = a.udp()
    a.ip(f"neigh add {b.v4} lladdr {b.mac} nud permanent dev a0")
    s.sendto(20, b, 5000)
    lab.sleep(0.1)
    a.ip(f"neigh replace {b.v4} lladdr {b.mac} nud reachable dev a0")
    s.sendto(20, b, 5000)
    lab.sleep(0.1)
    a.ip(f"neigh del {b.v4} dev a0")
    lab.sleep(0.1)
    s.sendto(20, b, 5000)
    lab.sleep(0.2)


@scenario("neigh", announces=("a STALE", "a NOARP"))
def neigh_netlink_states(lab: Lab) -> None:
    """An administrator sets an entry to STALE, and another to NOARP, which is used without a solicitation."""
    a, b = lab["a"], lab["b"]
    b.udp().bind(5000)
    a.ip("neigh add 10.9.0.50 lladdr 02:00:00:00:00:50 nud stale dev a0")
    a.ip(f"neigh add {b.v4} lladdr {b.mac} nud noarp dev a0")
    a.udp().sendto(20, b, 5000)
    lab.sleep(0.2)


@scenario("neigh", sysctls=quick(retrans_time_ms=300), announces=("a FAILED", "a REACHABLE"), tools=("nft",))
def neigh_netlink_use(lab: Lab) -> None:
    """An administrator asks for resolution with the flag `use`: the entry is solicited without a datagram."""
    a, b = lab["a"], lab["b"]
    a.ip("neigh add 10.9.0.99 use dev a0")
    lab.sleep(1.4)
    a.ip(f"neigh add {b.v4} use dev a0")
    lab.sleep(0.2)


@scenario("neigh", announces=("a REACHABLE", "a DELNEIGH", "a REACHABLE"))
def neigh_link_down(lab: Lab) -> None:
    """The interface goes down and up again: its entries are deleted, and the next datagram starts over."""
    lab["b"].udp().bind(5000)
    s = lab["a"].udp()
    s.sendto(20, lab["b"], 5000)
    lab.sleep(0.1)
    lab["a"].ip("link set a0 down")
    lab.sleep(0.1)
    lab["a"].ip("link set a0 up")
    lab.sleep(0.3)
    s.sendto(20, lab["b"], 5000)
    lab.sleep(0.2)


@scenario("neigh", announces=("a REACHABLE", "a DELNEIGH", "a REACHABLE"))
def neigh_carrier_lost(lab: Lab) -> None:
    """The carrier goes and comes back: entries are deleted but for permanent ones; the next datagram starts over."""
    lab["b"].udp().bind(5000)
    s = lab["a"].udp()
    lab["a"].ip("neigh add 10.9.0.50 lladdr 02:00:00:00:00:50 nud permanent dev a0")
    s.sendto(20, lab["b"], 5000)
    lab.sleep(0.1)
    lab["b"].ip("link set b0 down")
    lab.sleep(1.5)  # linkwatch tells of a carrier that was lost up to a second later
    lab["b"].ip("link set b0 up")
    lab.sleep(0.3)
    s.sendto(20, lab["b"], 5000)
    lab.sleep(0.2)


@scenario("neigh", announces=("a REACHABLE", "a DELNEIGH"))
def neigh_own_mac_changes(lab: Lab) -> None:
    """The host's own MAC changes: its entries are deleted, and the next solicitation carries the new one."""
    lab["b"].udp().bind(5000)
    s = lab["a"].udp()
    s.sendto(20, lab["b"], 5000)
    lab.sleep(0.1)
    lab["a"].ip("link set a0 address 02:00:00:00:00:11")
    lab.sleep(0.1)
    s.sendto(20, lab["b"], 5000)
    lab.sleep(0.2)
