"""A router of the model with a ruleset, and packets through it."""

from conformance.differential.netfilter_packets import Event, icmp, ip, tcp, udp
from conformance.differential.netfilter_world import OracleNat, Out, World

A, B, ROUTER0, ROUTER1, FAR = "10.0.1.10", "10.0.2.20", "10.0.1.1", "10.0.2.1", "172.16.7.7"
EMPTY = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n"


class Router(World):
    """A router; what happened is in `out`, `drops` and `notes`."""

    def __init__(self, *filter: str, nat: tuple[str, ...] = (), raw: tuple[str, ...] = (), policy: str = "ACCEPT",
                 kernel: int = 612, chains: tuple[str, ...] = ("mine",)) -> None:  # fmt: skip
        super().__init__(kernel)
        self.now = 1_000_000
        nat_hooks = self.nf.nat
        assert isinstance(nat_hooks, OracleNat)
        self.port: int | None = None
        nat_hooks.chosen = lambda orig, manip: self.port
        heads = "".join(f":{c} - [0:0]\n" for c in chains)
        self.nf.iptables_restore(
            f"*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{lines(raw)}COMMIT\n{EMPTY}{lines(nat)}COMMIT\n"
            f"*filter\n:INPUT ACCEPT [0:0]\n:FORWARD {policy} [0:0]\n:OUTPUT ACCEPT [0:0]\n{heads}"
            f"{lines(filter)}COMMIT\n"
        )

    def at(self, device: str, packet: bytes) -> list[Out]:
        """A packet comes in."""
        return self.received(device, Event("", device, packet).frame)

    def udp(self, src: str = A, dst: str = B, sport: int = 1000, dport: int = 53, device: str = "tap0",
            data: bytes = b"x") -> list[Out]:  # fmt: skip
        """A datagram comes in."""
        return self.at(device, ip(src, dst, 17, udp(src, dst, sport, dport, data)))

    def tcp(self, flags: int, seq: int, ack: int = 0, src: str = A, dst: str = B, sport: int = 1000, dport: int = 80,
            device: str = "tap0", data: bytes = b"", options: bytes = b"", win: int = 65_535) -> list[Out]:  # fmt: skip
        """A segment comes in."""
        return self.at(device, ip(src, dst, 6, tcp(src, dst, sport, dport, seq, ack, flags, win, options, data)))

    def ping(self, src: str = A, dst: str = B, device: str = "tap0", kind: int = 8) -> list[Out]:
        """An echo comes in."""
        return self.at(device, ip(src, dst, 1, icmp(kind, 0, 7 << 16 | 1, b"ping")))

    def states(self) -> list[str]:
        """The states that the packets were in, in order."""
        return [d.split(":")[0] for fn, d in self.notes if fn == "nf_conntrack_in"]


def lines(rules: tuple[str, ...]) -> str:
    """The rules, one a line."""
    return "".join(f"{r}\n" for r in rules)
