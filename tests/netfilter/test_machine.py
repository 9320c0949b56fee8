"""A router under any sequence of rulesets, packets and pauses: what holds of its connections after each step."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from conformance.differential.netfilter_packets import icmp, ip, tcp, udp
from conformance.differential.netfilter_world import Out
from refmodel.netfilter.tcp_state import Ct
from refmodel.netfilter.tuples import inverted
from refmodel.netfilter.uapi import IPPROTO_TCP, NAT_MASK, ORIGINAL, REPLY, Ips
from tests.netfilter.play import FAR, ROUTER0, A, B, Router
from tests.netfilter.test_nat import checksums_right, ends

NATS = (
    (), ("-A POSTROUTING -o tap1 -j MASQUERADE",),
    ("-A POSTROUTING -p tcp -j SNAT --to-source 10.0.2.77:3000-3003",),
    ("-A PREROUTING -p udp -j REDIRECT --to-ports 53", "-A POSTROUTING -j SNAT --to-source 172.16.5.1-172.16.5.3"),
    ("-A PREROUTING -d 10.0.2.0/24 -j DNAT --to-destination 172.16.7.7",),
)  # fmt: skip
FILTERS = (
    ("-A FORWARD -m conntrack --ctstate INVALID -j DROP",),
    ("-A FORWARD -p tcp -j REJECT --reject-with tcp-reset",),
    ("-A FORWARD -m state --state NEW -m limit --limit 1/minute -j ACCEPT", "-A FORWARD -j mine",
     "-A mine -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN", "-A mine -j REJECT"),
)  # fmt: skip
RAWS = ((), ("-A PREROUTING -s 10.0.1.11/32 -j CT --notrack",))
FLAGS = (0x02, 0x12, 0x10, 0x11, 0x04, 0x14, 0x18)


class RouterMachine(RuleBasedStateMachine):
    """Clients on one side, servers on the other; answers go to what came out."""

    @initialize(nat=st.sampled_from(NATS), filter=st.sampled_from(FILTERS), raw=st.sampled_from(RAWS))
    def begin(self, nat: tuple[str, ...], filter: tuple[str, ...], raw: tuple[str, ...]) -> None:
        self.r = Router(*filter, nat=nat, raw=raw)
        self.seen: list[Out] = []

    def took(self, out: list[Out]) -> None:
        for x in out:
            if x.where.startswith("tap"):
                assert checksums_right(x.data)
                if x.where == "tap1":
                    self.seen.append(x)

    @rule(src=st.sampled_from((A, "10.0.1.11")), dst=st.sampled_from((B, FAR, ROUTER0)),
          sport=st.sampled_from((700, 5000)), proto=st.sampled_from((6, 17, 1)), flags=st.sampled_from(FLAGS),
          seq=st.sampled_from((1, 100, 1 << 31)), port=st.integers(0, 0xFFFF))  # fmt: skip
    def sends(self, src: str, dst: str, sport: int, proto: int, flags: int, seq: int, port: int) -> None:
        self.r.port = port
        body = {
            6: lambda: tcp(src, dst, sport, 80, seq, 1, flags, 1000, b"", b"ab"),
            17: lambda: udp(src, dst, sport, 53, b"ab"),
            1: lambda: icmp(8, 0, sport << 16 | 1, b"ab"),
        }[proto]()
        self.took(self.r.at("tap0", ip(src, dst, proto, body)))

    @rule(i=st.integers(0, 1 << 16), flags=st.sampled_from(FLAGS), seq=st.sampled_from((1, 100)), error=st.booleans())
    def answers(self, i: int, flags: int, seq: int, error: bool) -> None:
        if not self.seen:
            return
        data = self.seen[i % len(self.seen)].data
        src, sport, dst, dport = ends(data)
        proto = 1 if error else data[9]
        if error:
            body = icmp(3, 1, 0, data)
        elif proto == 6:
            body = tcp(dst, src, dport, sport, seq, 3, flags, 1000, b"", b"cd")
        else:
            body = udp(dst, src, dport, sport, b"cd") if proto == 17 else icmp(0, 0, sport << 16 | 1, b"ab")
        self.took(self.r.at("tap1", ip(dst, src, proto, body)))

    @rule(seconds=st.sampled_from((1, 3, 31, 121, 400_000)))
    def waits(self, seconds: int) -> None:
        self.r.now += seconds * 1_000_000

    @rule()
    def collects(self) -> None:
        self.r.nf.ct.gc_worker()

    @invariant()
    def every_entry_is_found_by_both_its_tuples_and_no_tuple_twice(self) -> None:
        table = self.r.nf.ct.table
        for ct in table.entries():
            for direction in (ORIGINAL, REPLY):
                assert table.by_tuple[ct.tuplehash[direction]][0] is ct

    @invariant()
    def entries_are_confirmed_and_alive(self) -> None:
        for ct in self.r.nf.ct.table.entries():
            assert ct.confirmed
            assert not ct.status & Ips.DYING

    @invariant()
    def assured_means_answered(self) -> None:
        for ct in self.r.nf.ct.table.entries():
            assert ct.status & Ips.SEEN_REPLY or not ct.status & Ips.ASSURED

    @invariant()
    def entry_without_nat_is_answered_at_its_own_addresses(self) -> None:
        for ct in self.r.nf.ct.table.entries():
            assert (ct.repl == inverted(ct.orig)) == (not ct.status & NAT_MASK) or ct.status & NAT_MASK == NAT_MASK

    @invariant()
    def mapping_was_set_up(self) -> None:
        for ct in self.r.nf.ct.table.entries():
            assert ct.status & Ips.SRC_NAT_DONE or not ct.status & Ips.SRC_NAT
            assert ct.status & Ips.DST_NAT_DONE or not ct.status & Ips.DST_NAT

    @invariant()
    def sources_are_of_entries(self) -> None:
        for same in self.r.nf.ct.nat_bysource.values():
            assert all(ct.confirmed and not ct.status & Ips.DYING for ct in same)

    @invariant()
    def confirmed_tcp_has_a_state(self) -> None:
        for ct in self.r.nf.ct.table.entries():
            assert ct.protonum != IPPROTO_TCP or Ct.SYN_SENT <= ct.tcp.state <= Ct.SYN_SENT2

    @invariant()
    def counters_add_up(self) -> None:
        for table in self.r.nf.tables.values():
            assert all(e.bcnt >= 20 * e.pcnt for e in table.entries)


TestRouterMachine = RouterMachine.TestCase
TestRouterMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
