"""NAT: what a packet undergoes its answer undoes, for as long as the entry lives; ports, ranges, errors."""

import socket
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.differential.netfilter_packets import icmp, ip, tcp, udp
from refmodel.netfilter.nat_proto import nf_nat_ipv4_manip_pkt
from refmodel.netfilter.tuples import Tuple
from refmodel.netfilter.uapi import Ips, Manip
from refmodel.packet.wire import ones_sum, pseudo_header
from refmodel.skbuff import CHECKSUM_PARTIAL, SkBuff
from tests.netfilter.play import FAR, ROUTER1, A, B, Router

MASQUERADE = "-A POSTROUTING -o tap1 -j MASQUERADE"


def ends(data: bytes) -> tuple[str, int, str, int]:
    """Addresses and ports (of an echo: its id twice)."""
    src, dst = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    if data[9] == 1:
        return src, struct.unpack_from(">H", data, 24)[0], dst, struct.unpack_from(">H", data, 24)[0]
    sport, dport = struct.unpack_from(">HH", data, 20)
    return src, sport, dst, dport


def checksums_right(data: bytes) -> bool:
    """IP's and the transport's."""
    start = 0 if data[9] == 1 else pseudo_header(data[12:16], data[16:20], data[9], len(data) - 20)
    none = data[9] == 17 and data[26:28] == b"\0\0"
    return ones_sum(data[:20]) == 0xFFFF and (none or ones_sum(data[20:], start) == 0xFFFF)


def body(proto: int, src: str, dst: str, sport: int, dport: int, reply: bool, data: bytes) -> bytes:
    if proto == 6:
        return tcp(
            src, dst, sport, dport, 7 if not reply else 900, 8 if reply else 0, 0x12 if reply else 2, 1000, b"", data
        )
    if proto == 17:
        return udp(src, dst, sport, dport, data)
    return icmp(0 if reply else 8, 0, sport << 16 | 1, data)


RULES = st.sampled_from(
    [
        (MASQUERADE,), ("-A POSTROUTING -j SNAT --to-source 172.16.5.1-172.16.5.9",),
        ("-A POSTROUTING -p tcp -j SNAT --to-source 10.0.2.77:2000-2999", MASQUERADE),
        ("-A PREROUTING -d 10.0.2.0/24 -j DNAT --to-destination 172.16.7.7", MASQUERADE),
        ("-A PREROUTING -p udp -j DNAT --to-destination 10.0.2.21-10.0.2.29:99",),
        ("-A PREROUTING -p tcp -j DNAT --to-destination 10.0.2.21:80-90",
         "-A POSTROUTING -j SNAT --to-source 172.16.5.1"),
        ("-A POSTROUTING -j SNAT --to-source 10.0.2.77 --random",),
        (),
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    rules=RULES,
    flows=st.lists(
        st.tuples(
            st.sampled_from([6, 17, 1]), st.sampled_from([A, "10.0.1.11"]), st.sampled_from([B, FAR, "10.0.2.21"]),
            st.sampled_from([1, 600, 1024, 5000]), st.sampled_from([53, 80]), st.integers(0, 70_000),
        ),
        min_size=1, max_size=6,
    ),
    data=st.binary(max_size=9),
)  # fmt: skip
def test_answer_undoes_what_the_packet_underwent(rules: tuple[str, ...], flows: list[tuple], data: bytes) -> None:
    r = Router("-A FORWARD -m conntrack --ctstate INVALID -j DROP", nat=rules)
    seen: dict[tuple, tuple] = {}
    for proto, src, dst, sport, dport, port in flows:
        r.port = port & 0xFFFF
        out = r.at("tap0", ip(src, dst, proto, body(proto, src, dst, sport, dport, False, data)))
        if not out:
            continue  # no free mapping: dropped where it would have been confirmed
        assert checksums_right(out[0].data)
        psrc, psport, pdst, pdport = ends(out[0].data)
        flow = (proto, src, sport, dst, dport if proto != 1 else sport)
        answer_key = (proto, psrc, psport, pdst, pdport)
        assert seen.setdefault(answer_key, flow) == flow, "two flows look alike from behind"
        back = r.at(out[0].where, ip(pdst, psrc, proto, body(proto, pdst, psrc, pdport, psport, True, data)))
        assert checksums_right(back[0].data)
        assert ends(back[0].data) == (dst, flow[4], src, sport)
        assert back[0].where == "tap0"


def test_port_that_is_taken_gives_way_within_its_kind() -> None:
    r = Router(nat=(MASQUERADE,))
    assert ends(r.udp(A, sport=700)[0].data)[:2] == (ROUTER1, 700)
    r.port = 650
    assert ends(r.udp("10.0.1.11", sport=700)[0].data)[:2] == (ROUTER1, 650)
    r.port = 300
    r.udp(A, sport=20)
    assert ends(r.udp("10.0.1.11", sport=20)[0].data)[:2] == (ROUTER1, 300)


def test_same_source_keeps_its_mapping_towards_others() -> None:
    r = Router(nat=("-A POSTROUTING -p udp -j SNAT --to-source 10.0.2.77:3000-3009",))
    r.port = 3005
    first = ends(r.udp()[0].data)
    r.port = 3001
    assert first[1] == 3005
    assert ends(r.udp(dst="10.0.2.21")[0].data)[:2] == ("10.0.2.77", 3005)


def test_range_that_is_used_up_drops_the_packet_at_its_end() -> None:
    r = Router(nat=("-A POSTROUTING -p tcp -j SNAT --to-source 10.0.2.77:3000-3001",))
    r.port = 3000
    assert [len(r.tcp(2, 1, sport=p)) for p in (10, 11, 12)] == [1, 1, 0]
    assert r.nf.ct.stat["insert_failed"] == 1


def test_nat_table_sees_only_the_first_packet() -> None:
    r = Router(nat=(MASQUERADE,))
    r.udp()
    r.udp()
    r.udp(B, ROUTER1, 53, 1000, "tap1")
    assert r.nf.tables["nat"].rules()[0].pcnt == 1


def test_error_is_rewritten_inside_and_outside() -> None:
    r = Router(nat=(MASQUERADE,))
    quoted = r.udp()[0].data
    (out,) = r.at("tap1", ip(FAR, ROUTER1, 1, icmp(3, 3, 0, quoted)))
    assert out.where == "tap0"
    assert socket.inet_ntoa(out.data[16:20]) == A
    inner = out.data[28:]
    assert ends(inner) == (A, 1000, B, 53)
    assert ones_sum(inner[:20]) == 0xFFFF
    assert checksums_right(out.data)


def test_redirected_packet_comes_to_the_router_itself() -> None:
    r = Router(nat=("-A PREROUTING -p udp --dport 99 -j REDIRECT --to-ports 53",))
    assert [x.where for x in r.udp(dport=99)] == ["udp 53"]
    (ct,) = r.nf.ct.table.entries()
    assert ct.status & Ips.DST_NAT


def test_masqueraded_entry_whose_packets_leave_elsewhere_is_dropped() -> None:
    r = Router(nat=("-A POSTROUTING -j MASQUERADE",))
    r.udp()
    r.nets = [(n, r.devices["tap0"]) if str(n) == "10.0.2.0/24" else (n, d) for n, d in r.nets]
    assert r.udp() == []
    assert r.nf.ct.table.entries() == []


def test_destination_range_is_tried_from_its_first_port_since_612() -> None:
    rules = ("-A PREROUTING -p tcp -j DNAT --to-destination 10.0.2.21:80-83",)
    for kernel, port in ((612, 80), (601, 82)):
        r = Router(nat=rules, kernel=kernel)
        r.port = 82
        assert ends(r.tcp(2, 1, dport=5000)[0].data)[3] == port


def test_new_connection_takes_the_place_of_one_that_is_over_since_612() -> None:
    for kernel, came in ((612, 1), (601, 0)):
        r = Router(nat=("-A POSTROUTING -p tcp -j SNAT --to-source 10.0.2.77:3000-3001",), kernel=kernel)
        r.port = 3000
        for sport in (10, 11):
            r.tcp(2, 1000, sport=sport)
            r.tcp(0x12, 5, 1001, B, "10.0.2.77", 80, 3000 + sport - 10, "tap1")
            r.tcp(0x10, 1001, 6, sport=sport)
            r.tcp(0x14, 1001, 6, sport=sport)
        assert {ct.tcp.state.name for ct in r.nf.ct.table.entries()} == {"CLOSE"}
        assert len(r.tcp(2, 9000, sport=12)) == came


def test_address_of_a_range_is_the_one_that_the_kernel_takes() -> None:
    # As Linux 6.18 chose them.
    for src, dst, chosen in ((A, B, "172.16.5.29"), ("10.0.1.11", FAR, "172.16.5.75")):
        r = Router(nat=("-A POSTROUTING -j SNAT --to-source 172.16.5.1-172.16.5.200",))
        assert ends(r.udp(src, dst, 9, 9)[0].data)[0] == chosen


@given(
    proto=st.sampled_from([6, 17]), data=st.binary(max_size=30), new=st.binary(min_size=4, max_size=4),
    port=st.integers(0, 0xFFFF), manip=st.sampled_from(list(Manip)), partial=st.booleans(),
    sport=st.integers(0, 0xFFFF),
)  # fmt: skip
def test_checksum_is_right_after_every_rewriting(
    proto: int, data: bytes, new: bytes, port: int, manip: Manip, partial: bool, sport: int
) -> None:
    skb = SkBuff(ip(A, B, proto, body(proto, A, B, sport, 80, False, data)))
    at = 20 + (16 if proto == 6 else 6)
    if partial:  # only the pseudo-header is summed yet: the device does the rest
        skb.ip_summed = CHECKSUM_PARTIAL
        start = pseudo_header(bytes(skb.data[12:16]), bytes(skb.data[16:20]), proto, len(skb.data) - 20)
        skb.data[at : at + 2] = start.to_bytes(2, "big")
    assert nf_nat_ipv4_manip_pkt(skb, 0, Tuple(new, port, new, port, proto), manip)
    if partial:
        skb.data[at : at + 2] = (ones_sum(bytes(skb.data[20:])) ^ 0xFFFF).to_bytes(2, "big")
    assert checksums_right(bytes(skb.data))
    now = ends(bytes(skb.data))
    assert (now[:2] if manip == Manip.SRC else now[2:]) == (socket.inet_ntoa(new), port)
