"""Random rulesets for the netfilter differential, as text for iptables-restore."""

from random import Random
from typing import Final

from conformance.differential.netfilter_packets import INSIDE, OUTSIDE, PORT_POOL, ROUTER
from refmodel.netfilter.tables import VALID_HOOKS
from refmodel.netfilter.uapi import HOOKS

POOL: Final = (*INSIDE, *OUTSIDE, *ROUTER, "172.16.5.1")
NETS: Final = ("10.0.1.0/24", "10.0.2.0/24", "10.0.0.0/16", "172.16.0.0/16", "192.168.9.0/25", "10.0.1.8/29")
SNAT_TO: Final = ("10.0.2.1", "172.16.5.1", "172.16.5.1-172.16.5.4", "10.0.2.77", "192.168.9.200")
DNAT_TO: Final = (
    "10.0.2.20", "10.0.2.21", "10.0.1.10", "10.0.2.20-10.0.2.23", "10.0.1.1", "172.16.7.7", "192.168.9.9",
)  # fmt: skip
REJECTS: Final = (
    "icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable",
    "icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited",
)  # fmt: skip
FLAG_SETS: Final = (
    "FIN,SYN,RST,ACK SYN",
    "SYN,ACK SYN,ACK",
    "FIN FIN",
    "RST RST",
    "ALL NONE",
    "ALL ACK",
    "PSH,URG PSH",
)
CT_STATES: Final = ("NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "SNAT", "DNAT", "NEW,ESTABLISHED",
                    "RELATED,ESTABLISHED", "INVALID,UNTRACKED")  # fmt: skip


RATES: Final = ("1/hour", "2/day", "1/hour")
NF: Final = "net.netfilter.nf_conntrack_"
SYSCTLS: Final = {
    NF + "tcp_loose": (1, 0), NF + "tcp_be_liberal": (0, 1), NF + "tcp_ignore_invalid_rst": (0, 1),
    NF + "tcp_max_retrans": (3, 0, 1), NF + "checksum": (1, 0), NF + "tcp_timeout_established": (432_000, 200),
    NF + "tcp_timeout_unacknowledged": (300, 60, 1000), NF + "tcp_timeout_max_retrans": (300, 40),
    NF + "udp_timeout": (30, 77), NF + "tcp_timeout_close": (10, 500),
}  # fmt: skip
"""Settings of connection tracking, the default first."""


def sysctls(rng: Random) -> dict[str, int]:
    """All settings, most of them as they are by default."""
    other = rng.random() < 0.4
    return {n: rng.choice(v) if other and rng.random() < 0.4 else v[0] for n, v in SYSCTLS.items()}


class Rules:
    """One ruleset. `broken`: something in it may be wrong, so that it is to be refused. `rates`: of -m limit."""

    def __init__(self, rng: Random, broken: bool = False, rates: tuple[str, ...] = RATES) -> None:
        self.rng = rng
        self.rates = rates
        self.broken = broken

    def text(self) -> str:
        """The whole: all four tables, those without rules too, so that nothing is left of the ruleset before."""
        return "".join(self.table(t) for t in ("raw", "mangle", "nat", "filter"))

    def table(self, name: str) -> str:
        """One table: its chains, their policies, their rules."""
        rng = self.rng
        hooks = [HOOKS[h] for h in VALID_HOOKS[name]]
        users = [f"u{i}" for i in range(rng.choice((0, 0, 1, 2, 3)))] if rng.random() < 0.8 else []
        lines = [f"*{name}"]
        for hook in hooks:
            drop = name == "filter" and rng.random() < 0.15
            lines.append(f":{hook} {'DROP' if drop else 'ACCEPT'} [0:0]")
        lines += [f":{u} - [0:0]" for u in users]
        busy = {"raw": 0.3, "mangle": 0.35, "nat": 0.7, "filter": 0.95}[name]
        if rng.random() < busy:
            for hook in hooks:
                for _ in range(rng.choice((0, 1, 1, 2, 3, 4))):
                    lines.append(self.rule(name, hook, users, hook))
            for i, user in enumerate(users):
                later = users if self.broken and rng.random() < 0.3 else users[i + 1 :]
                for _ in range(rng.choice((1, 2, 3))):
                    lines.append(self.rule(name, user, later, ""))
        return "\n".join([*lines, "COMMIT", ""])

    def rule(self, table: str, chain: str, users: list[str], hook: str) -> str:
        """One rule of a chain."""
        words = [f"-A {chain}"]
        proto = self.protocol()
        words += self.addresses(hook)
        if proto:
            words.append(f"{self.no(0.1)}-p {proto}")
            inverted = words[-1].startswith("!")
            if not inverted and self.rng.random() < 0.75:
                words += self.transport(proto)
        if self.rng.random() < 0.6:
            words.append(self.other(hook))
        certain = proto if proto and not words_inverted(words) else ""
        words.append(self.target(table, users, hook, certain))
        return " ".join(w for w in words if w)

    def no(self, chance: float) -> str:
        """Now and then an exclamation mark."""
        return "! " if self.rng.random() < chance else ""

    def protocol(self) -> str:
        """What the rule is about."""
        return self.rng.choice(("tcp", "tcp", "tcp", "udp", "udp", "icmp", "", "", ""))

    def addresses(self, hook: str) -> list[str]:
        """Addresses, devices, fragments."""
        rng = self.rng
        words = []
        for option in ("-s", "-d"):
            if rng.random() < 0.3:
                words.append(f"{self.no(0.2)}{option} {rng.choice((*NETS, *(f'{a}/32' for a in POOL)))}")
        device = rng.choice(("tap0", "tap1", "tap+", "lo"))
        if rng.random() < 0.2 and hook not in ("OUTPUT", "POSTROUTING", ""):
            words.append(f"{self.no(0.2)}-i {device}")
        if rng.random() < 0.2 and hook in ("OUTPUT", "POSTROUTING", "FORWARD"):
            words.append(f"{self.no(0.2)}-o {device}")
        if rng.random() < 0.06:
            words.append(f"{self.no(0.4)}-f")
        return words

    def transport(self, proto: str) -> list[str]:
        """What only that protocol has."""
        rng = self.rng
        if proto == "icmp":
            kind = rng.choice(("8", "0", "3", "3/3", "11", "any", "5", "echo-request"))
            return [f"-m icmp {self.no(0.2)}--icmp-type {kind}"]
        if rng.random() < 0.25:
            which = rng.choice(("sports", "dports", "ports"))
            ports = ",".join(self.port() for _ in range(rng.randint(1, 3)))
            return [f"-m multiport {self.no(0.2)}--{which} {ports}"]
        words = [f"-m {proto}"]
        for option in ("--sport", "--dport"):
            if rng.random() < 0.5:
                words.append(f"{self.no(0.2)}{option} {self.port()}")
        if proto == "tcp" and rng.random() < 0.35:
            words.append(f"{self.no(0.2)}--tcp-flags {rng.choice(FLAG_SETS)}")
        if proto == "tcp" and rng.random() < 0.1:
            words.append(f"{self.no(0.3)}--tcp-option {rng.choice((2, 3, 4, 5, 8))}")
        return words

    def port(self) -> str:
        """A port or a range."""
        low, high = sorted(self.rng.sample(PORT_POOL, 2))
        return str(low) if self.rng.random() < 0.7 else f"{low}:{high}"

    def other(self, hook: str) -> str:
        """A match that any protocol may have."""
        rng = self.rng
        a, b = sorted(rng.sample(range(1, 30), 2))
        kinds = [
            lambda: f"-m conntrack {self.no(0.2)}--ctstate {rng.choice(CT_STATES)}",
            lambda: f"-m conntrack {self.no(0.2)}--ctstate {rng.choice(CT_STATES)}",
            lambda: f"-m state --state {rng.choice(CT_STATES[:4])}",
            lambda: f"-m conntrack --ctdir {rng.choice(('ORIGINAL', 'REPLY'))}",
            lambda: (
                f"-m conntrack {self.no(0.2)}--{rng.choice(('ctorigsrc', 'ctorigdst', 'ctreplsrc', 'ctrepldst'))} "
                f"{rng.choice((*NETS, *POOL))}"
            ),
            lambda: (
                f"-m conntrack {self.no(0.2)}--ctproto {rng.choice(('tcp', 'udp', 'icmp'))} "
                f"{self.no(0.2)}--ctorigdstport {self.port()}"
            ),
            lambda: f"-m conntrack {self.no(0.3)}--ctstatus {rng.choice(('SEEN_REPLY', 'ASSURED', 'CONFIRMED'))}",
            lambda: f"-m mark {self.no(0.3)}--mark {rng.choice(('0x1', '0x2/0x3', '0x0/0xf0'))}",
            lambda: f"-m connmark {self.no(0.3)}--mark {rng.choice(('0x1', '0x2/0x3', '0x0'))}",
            lambda: f"-m limit --limit {rng.choice(self.rates)} --limit-burst {rng.randint(1, 6)}",
            lambda: f"-m length {self.no(0.3)}--length {rng.choice(('40', '28:60', '41:1500', '0:39'))}",
            lambda: f"-m ttl {rng.choice(('--ttl-eq 64', '! --ttl-eq 64', '--ttl-lt 5', '--ttl-gt 62'))}",
            lambda: f"-m pkttype {self.no(0.3)}--pkt-type {rng.choice(('unicast', 'broadcast', 'multicast'))}",
            lambda: (
                f"-m addrtype {self.no(0.3)}--{rng.choice(('src', 'dst'))}-type "
                f"{rng.choice(('LOCAL', 'UNICAST', 'BROADCAST', 'LOCAL,BROADCAST'))}"
            ),
            lambda: (
                f"-m addrtype {self.no(0.3)}--{rng.choice(('src', 'dst'))}-type {rng.choice(('LOCAL', 'BROADCAST'))} "
                f"{self.limited(hook)}"
            ),
            lambda: f"-m conntrack {self.no(0.3)}--ctexpire 100:250",
            lambda: f"-m iprange {self.no(0.3)}--{rng.choice(('src', 'dst'))}-range 10.0.1.{a}-10.0.2.{b}",
            lambda: f"-m statistic --mode nth {self.no(0.3)}--every {a % 5 + 2} --packet {a % 2}",
            lambda: f"-m comment --comment \"rule {a}, 'quoted'\"",
        ]
        if hook in ("PREROUTING", "INPUT", "FORWARD"):
            kinds.append(lambda: f"-m mac {self.no(0.3)}--mac-source 02:00:00:00:00:{rng.choice(('99', '98'))}")
        return rng.choice(kinds)()

    def limited(self, hook: str) -> str:
        """To which device's addresses -m addrtype is limited, where there is such a device."""
        ways = {"PREROUTING": ("in",), "INPUT": ("in",), "FORWARD": ("in", "out"), "": ()}.get(hook, ("out",))
        return f"--limit-iface-{self.rng.choice(ways)}" if ways else ""

    def target(self, table: str, users: list[str], hook: str, proto: str) -> str:
        """What the rule does; from a user's chain only what may be reached from anywhere."""
        rng = self.rng
        roll = rng.random()
        if users and roll < 0.3:
            return f"{rng.choice(('-j', '-j', '-j', '-g'))} {rng.choice(users)}"
        if roll < 0.4:
            return rng.choice(("-j RETURN", "", '-j LOG --log-prefix "x "' if rng.random() < 0.1 else ""))
        if table == "nat":
            return self.nat(hook, proto)
        if table == "raw" and roll < 0.75:
            return rng.choice(("-j CT --notrack", "-j NOTRACK"))
        if table == "mangle" and roll < 0.85:
            return rng.choice(
                (
                    "-j TOS --set-tos 0x10/0x3f", "-j TTL --ttl-set 33", "-j TTL --ttl-dec 2", "-j TTL --ttl-inc 1",
                    "-j DSCP --set-dscp 0x2e", "-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
                    "-j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff", "-j MARK --set-xmark 0x1/0x3",
                )
            )  # fmt: skip
        if roll < 0.52:
            return rng.choice(("-j MARK --set-xmark 0x2/0xffffffff", "-j MARK --set-xmark 0x1/0x1",
                               "-j CONNMARK --set-xmark 0x1/0xffffffff"))  # fmt: skip
        may_reject = hook in ("INPUT", "FORWARD", "OUTPUT") or (not hook and table == "filter")
        if table == "filter" and may_reject and roll < 0.72:
            if proto == "tcp" and rng.random() < 0.6:
                return "-j REJECT --reject-with tcp-reset"
            return f"-j REJECT --reject-with {rng.choice(REJECTS)}"
        if self.broken and rng.random() < 0.3:
            return rng.choice(("-j REJECT", "-j MASQUERADE", "-j TTL --ttl-set 3", "-j CT --notrack", "-j nowhere"))
        return rng.choice(("-j ACCEPT", "-j ACCEPT", "-j DROP"))

    def nat(self, hook: str, proto: str) -> str:
        """A mapping that this hook may make."""
        rng = self.rng
        ports = proto in ("tcp", "udp") and rng.random() < 0.5
        if hook in ("PREROUTING", "OUTPUT"):
            if rng.random() < 0.3:
                return "-j REDIRECT" + (f" --to-ports {rng.choice(('5000', '53', '5000-5003'))}" if ports else "")
            to = rng.choice(DNAT_TO) + (rng.choice((":80", ":8080-8083", ":5000")) if ports else "")
            return f"-j DNAT --to-destination {to}{' --persistent' if rng.random() < 0.2 else ''}"
        if hook == "POSTROUTING" and rng.random() < 0.5:
            return "-j MASQUERADE" + (f" --to-ports {rng.choice(('3000-3002', '4000-4999'))}" if ports else "")
        if hook in ("POSTROUTING", "INPUT"):
            to = rng.choice(SNAT_TO) + (rng.choice((":3000-3003", ":6000")) if ports else "")
            option = rng.choice(("", "", "", " --persistent", " --random", " --random-fully"))
            return f"-j SNAT --to-source {to}{option}"
        return rng.choice(("-j ACCEPT", "-j RETURN", "-j DNAT --to-destination 10.0.2.20" if self.broken else ""))


def words_inverted(words: list[str]) -> bool:
    """The rule's protocol is what it is not about."""
    return any(w.startswith("! -p") for w in words)
