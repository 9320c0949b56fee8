"""The networks that random workloads run in: a pair of hosts, a relay or a router between them, or one host's loopback.

The hosts are the lab's; like the lab's, these namespaces have no names and end with the process. Standard library,
`ip`, `nft` and `tc` only.
"""

import json
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from conformance.live.errors import ScenarioFailed
from conformance.live.kernel import NetNamespace, set_features
from conformance.live.lab import QUIET_V6, Host, run
from conformance.live.relay import Relay, netem
from conformance.live.workload import Impairment, Plan

NFT_COUNTER: Final = re.compile(r"counter packets (\d+) bytes \d+ drop")
ROUTER: Final = 254
LINKS: Final = {
    "pair": {"a.a0": "02:00:00:00:00:01", "b.b0": "02:00:00:00:00:02"},
    "relay": {
        **{"a.a0": "02:00:00:00:00:01", "b.b0": "02:00:00:00:00:02"},
        **{"wire.p1": "02:00:00:00:00:81", "wire.p2": "02:00:00:00:00:82"},
    },
    "router": {
        **{"a.a0": "02:00:00:00:00:01", "b.b0": "02:00:00:00:00:02"},
        **{"r.ra": "02:00:00:00:00:fe", "r.rb": "02:00:00:00:01:fe"},
    },
    "loopback": {},
}
"""The link-layer address of each interface, by topology."""
GATEWAYS: Final = {4: {"a": "10.9.0.254", "b": "10.9.1.254"}, 6: {"a": "fd09::fe", "b": "fd09:0:0:1::fe"}}
"""Where the hosts on a router's sides send what is not on their link."""

OF_THE_MACHINE: Final = (
    *("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_limit_output_bytes"),
    *("net.core.rmem_max", "net.core.wmem_max"),
)
"""Sysctls whose defaults depend on the machine's memory or the build; recorded for each host whatever their value."""


def has_netem() -> bool:
    """Whether this kernel can hold frames back with netem."""
    netns = NetNamespace()
    try:
        with netns.inside():
            run("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    except ScenarioFailed:
        return False
    finally:
        netns.close()
    return True


def frames_dropped(host: Host, table: str) -> int:
    """The frames that an impairment's nft table dropped, by its own counter."""
    found = NFT_COUNTER.search(host.run("nft", "list", "table", *table.split()))
    if found is None:
        raise ScenarioFailed(f"{host.name}: the table {table} has no counter")
    return int(found[1])


def _qdisc(device: str) -> tuple[int, int]:
    """How many packets the root qdisc of `device` dropped and sent, as `tc -s` says."""
    (told,) = json.loads(run("tc", "-s", "-j", "qdisc", "show", "dev", device, "root"))
    return int(told["drops"]), int(told["packets"])


class WorkloadNet:
    """The hosts of a plan, wired and impaired; a context manager that takes everything down again.

    With `netem` the kernel's qdisc does what the relay would, where it can. `server` is where clients connect to.
    `dropped` holds the frames dropped at each place once `stop` was called.
    """

    def __init__(self, plan: Plan, netem: bool) -> None:
        self.plan = plan
        self._netem = netem and not any(f.ce for f in plan.fates)
        self.hosts: dict[str, Host] = {}
        self.dropped: dict[str, int] = {}
        self.wire: NetNamespace | None = None
        self._relay: Relay | None = None
        self._tables: dict[int, tuple[Host, str]] = {}
        self._lock = threading.Lock()
        names = ("a",) if plan.topology == "loopback" else ("a", "b", "r") if plan.topology == "router" else ("a", "b")
        try:
            for name in names:
                self.hosts[name] = Host(name, ROUTER if name == "r" else "ab".index(name) + 1, plan.family, True)
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "WorkloadNet":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def client(self) -> Host:
        """The host whose applications connect."""
        return self.hosts["a"]

    @property
    def server(self) -> Host:
        """The host whose applications listen."""
        return self.hosts.get("b", self.hosts["a"])

    @property
    def target(self) -> str:
        """The address that clients connect to: the server's, or the router's where that forwards the port."""
        return self.hosts["r"].address if self.plan.nat == "dnat" else self.server.address

    def netns(self, tap: str) -> NetNamespace:
        """The namespace of a tap: a host's, or the wire's."""
        if tap in self.hosts:
            return self.hosts[tap].netns
        assert self.wire is not None
        return self.wire

    def taps(self) -> list[tuple[str, str]]:
        """Which devices are tapped: (host or `wire`, device)."""
        p = self.plan
        if p.device_any:
            return [("r" if p.tap == "middle" else p.tap, "any")]
        if p.tap in ("a", "b"):
            return [(p.tap, "lo" if p.topology == "loopback" else f"{p.tap}0")]
        if p.tap == "both":
            return [("a", "a0"), ("b", "b0")]
        where, devices = ("r", ("ra", "rb")) if p.topology == "router" else ("wire", ("p1", "p2"))
        return [(where, d) for d in (devices if p.tap == "middle-both" else devices[:1])]

    # ---- building -------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        p = self.plan
        quiet = QUIET_V6 if p.family == 6 else {"net.ipv6.conf.default.disable_ipv6": 1}
        for h in self.hosts.values():
            for key, value in quiet.items():
                h.set_sysctl(key, value)
            self._machine(h)
            h.run("ip", "link", "set", "lo", "up")
        if p.topology == "loopback":
            a = self.hosts["a"]
            a.interface, a.mac, a.v4, a.v6 = "lo", "", "127.0.0.1", "::1"
            return
        a, b = self.hosts["a"], self.hosts["b"]
        if p.topology == "pair":
            self._cable(a.netns, a.interface, a.mac, b.netns, b.interface, b.mac)
        elif p.topology == "relay":
            self.wire = NetNamespace()
            with self.wire.inside():
                Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            self._cable(a.netns, a.interface, a.mac, self.wire, "p1", LINKS["relay"]["wire.p1"])
            self._cable(b.netns, b.interface, b.mac, self.wire, "p2", LINKS["relay"]["wire.p2"])
            self._up(self.wire, "p1", "p2")
        else:
            self._build_router()
        for h in (a, b):
            h.run("ip", "addr", "add", f"{h.v4}/24", "dev", h.interface)
            self._up(h.netns, h.interface)
            if p.family == 6:
                h.run("ip", "addr", "add", f"{h.v6}/64", "dev", h.interface, "nodad")
        if p.topology == "router":
            self._routes()
        if self.wire is not None:
            self._join_wire(self.wire)

    def _join_wire(self, wire: NetNamespace) -> None:
        there, back = self.plan.fates
        if not self._netem:
            self._relay = Relay(wire, "p1", "p2", there, back, str(self.plan.seed))
            return
        with wire.inside():
            for device, fate in (("p2", there), ("p1", back)):
                run("tc", "qdisc", "add", "dev", device, "root", *netem(fate).split())
            run("ip", "-batch", "-", stdin="link add br0 type bridge mcast_snooping 0\nlink set br0 up\n")
            for device in ("p1", "p2"):
                run("ip", "link", "set", device, "master", "br0")

    def _cable(self, x: NetNamespace, device: str, mac: str, y: NetNamespace, peer: str, peer_mac: str) -> None:
        mtu = self.plan.mtu
        with x.inside():
            words = f"link add {device} address {mac} mtu {mtu} type veth peer name {peer} address {peer_mac}"
            run("ip", *words.split(), "mtu", str(mtu), "netns", y.path)
        for netns, name in ((x, device), (y, peer)):
            with netns.inside():
                set_features(name, dict(self.plan.offloads))

    def _up(self, netns: NetNamespace, *devices: str) -> None:
        with netns.inside():
            for device in devices:
                run("ip", "link", "set", device, "up")

    def _build_router(self) -> None:
        a, b, r = self.hosts["a"], self.hosts["b"], self.hosts["r"]
        b.v4, b.v6 = "10.9.1.2", "fd09:0:0:1::2"
        r.interface = "ra"
        second = LINKS["router"]["r.rb"]
        self._cable(a.netns, a.interface, a.mac, r.netns, "ra", r.mac)
        self._cable(b.netns, b.interface, b.mac, r.netns, "rb", second)
        r.more = ["10.9.1.254", *(["fd09:0:0:1::fe", "fe80::ff:fe00:1fe"] if self.plan.family == 6 else [])]
        r.set_sysctl("net.ipv4.ip_forward", 1)
        for device, v4, v6 in (("ra", r.v4, r.v6), ("rb", "10.9.1.254", "fd09:0:0:1::fe")):
            r.run("ip", "addr", "add", f"{v4}/24", "dev", device)
            self._up(r.netns, device)
            if self.plan.family == 6:
                r.run("ip", "addr", "add", f"{v6}/64", "dev", device, "nodad")
        if self.plan.family == 6:
            r.set_sysctl("net.ipv6.conf.all.forwarding", 1)

    def _routes(self) -> None:
        p, r = self.plan, self.hosts["r"]
        v6 = p.family == 6
        for name, gate in GATEWAYS[p.family].items():
            h = self.hosts[name]
            h.run("ip", *(["-6"] if v6 else []), "route", "add", "default", "via", gate)
            if p.path_mtu:
                device = "ra" if h.name == "a" else "rb"
                bits = "128" if v6 else "32"
                r.run(*f"ip route add {h.address}/{bits} dev {device} mtu {p.path_mtu}".split())
        family, b = ("ip6" if v6 else "ip"), self.hosts["b"]
        if p.nat == "masquerade":
            rule = "chain out {\ntype nat hook postrouting priority 100; policy accept;\noifname rb masquerade\n}"
        elif p.nat == "dnat":
            match = f"iifname ra {family} daddr {r.address} meta l4proto {{ tcp, udp }} dnat to {b.address}"
            rule = f"chain in {{\ntype nat hook prerouting priority -100; policy accept;\n{match}\n}}"
        else:
            return
        r.run("nft", "-f", "-", stdin=f"table {family} nat {{\n{rule}\n}}\n")

    def _machine(self, h: Host) -> None:
        with h.netns.inside():
            for name in OF_THE_MACHINE:
                path = Path("/proc/sys") / name.replace(".", "/")
                if path.exists():
                    text = " ".join(path.read_text().split())
                    h.sysctls[name] = int(text) if text.isdigit() else text
        for scope in ("*", h.name):
            for key, value in self.plan.sysctls.get(scope, {}).items():
                h.set_sysctl(key, value)

    # ---- impairments ----------------------------------------------------------------------------------------------

    def impair(self, number: int, i: Impairment) -> None:
        """Puts the plan's impairment `number` in place, logged as a call of the host's administrator."""
        name, hook = i.place.split(".")
        h = self.hosts[name]
        device = "rb" if name == "r" else h.interface
        began = time.time()
        if hook == "qdisc":
            h.run("tc", "qdisc", "add", "dev", device, "root", *i.rule.split())
            h.log(f"tc qdisc add dev {device} root {i.rule}", "0", began)
            return
        family = "netdev" if hook in ("ingress", "egress") else "inet"
        where = f"device {device} " if family == "netdev" else ""
        chain = f"chain drops {{\ntype filter hook {hook} {where}priority 0; policy accept;\n{i.rule} counter drop\n}}"
        h.run("nft", "-f", "-", stdin=f"table {family} loss{number} {{\n{chain}\n}}\n")
        with self._lock:
            self._tables[number] = (h, f"{family} loss{number}")
        h.log(f"wire loses: {i.rule}" if hook == "ingress" else f"nft {hook} drops: {i.rule}", "0", began)

    def relieve(self, number: int, i: Impairment) -> None:
        """Takes an nft impairment away again and adds what it dropped to `dropped`."""
        with self._lock:
            found = self._tables.pop(number, None)
        if found is None:
            return
        h, table = found
        began = time.time()
        hook = i.place.split(".")[1]
        h.run("nft", "insert", "rule", *table.split(), "drops", "accept")  # first, so that none is dropped uncounted
        self.dropped[i.place] = self.dropped.get(i.place, 0) + frames_dropped(h, table)
        h.run("nft", "delete", "table", *table.split())
        h.log("wire loses: nothing" if hook == "ingress" else f"nft {hook} drops: nothing", "0", began)

    def stop(self) -> Mapping[str, int]:
        """Counts what every impairment dropped; the relay ends with it. Keys are those of docs/captures.md."""
        for number, i in enumerate(self.plan.impairments):
            if not i.place.endswith(".qdisc"):
                self.relieve(number, i)
                self.dropped.setdefault(i.place, 0)
                continue
            h = self.hosts[i.place[0]]
            with h.netns.inside():
                self.dropped[i.place], _ = _qdisc("rb" if h.name == "r" else h.interface)
        if self._relay is not None:
            for way, counts in self._relay.stop().items():
                self.dropped |= {f"relay.{way}.{what}": n for what, n in counts.items()}
        elif self.wire is not None:
            with self.wire.inside():
                for way, device in (("there", "p2"), ("back", "p1")):
                    lost, passed = _qdisc(device)
                    self.dropped |= {f"relay.{way}.lost": lost, f"relay.{way}.passed": passed}
        return self.dropped

    def close(self) -> None:
        """Ends the relay, resets what is still open and lets go of the namespaces."""
        if self._relay is not None:
            self._relay.close()
        for h in self.hosts.values():
            for s in h.sockets:
                s.close()
            h.netns.close()
        if self.wire is not None:
            self.wire.close()
            self.wire = None
