"""Wire formats: nothing is lost, everything Linux sends has a name, cut and malformed frames are told apart."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refmodel.packet import (
    ACK,
    AE,
    FIN,
    SYN,
    AccEcn,
    Ah,
    Ao,
    Arp,
    Checksum,
    Eol,
    Ether,
    Fastopen,
    Icmp,
    Icmp6,
    Icmp6Word,
    Ip,
    Ip6,
    Ip6Frag,
    Ip6Option,
    Ip6Opts,
    Ip6Rt,
    IpOption,
    Layer,
    Malformed,
    Md5,
    Mptcp,
    Mss,
    NdNa,
    NdNs,
    NdOption,
    NdRa,
    NdRedirect,
    NdRs,
    Nop,
    Null,
    Rest,
    Sack,
    SackPerm,
    Sll,
    Sll2,
    Tcp,
    TcpOption,
    Timestamp,
    Udp,
    Unknown,
    Vlan,
    Wscale,
    checksum,
    checksums,
    decode,
    encode,
    ones_sum,
    seal,
    segment,
)

MAC1, MAC2 = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
A4, B4 = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
A6, B6 = bytes.fromhex("fd" + "00" * 14 + "01"), bytes.fromhex("fd" + "00" * 14 + "02")
ETH4, ETH6 = Ether(MAC2, MAC1, 0x0800), Ether(MAC2, MAC1, 0x86DD)
IP_TCP = Ip(5, 0, 0, 7, 0x4000, 64, 6, 0, A4, B4)
IP6_TCP = Ip6(0, 0x12345, 0, 6, 64, A6, B6)
TS = (Nop(), Nop(), Timestamp(100, 200))
SYN_OPTIONS = (Mss(1460), SackPerm(), Timestamp(100, 0), Nop(), Wscale(7))
LINKTYPES = (0, 1, 12, 14, 101, 108, 113, 228, 229, 276, 147)

u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)


def tcp(options: tuple[TcpOption, ...] = (), flags: int = ACK, **given: int) -> Tcp:
    return replace(Tcp(40000, 80, 1000, 2000, 5, flags, 502, options=options), **given)


def frame(*layers: Layer, payload: bytes = b"", trailer: bytes = b"") -> bytes:
    return encode(seal(layers, payload, trailer))


def checks(data: bytes, linktype: int = 1, orig_len: int | None = None) -> dict[str, Checksum]:
    return dict(checksums(decode(data, linktype, orig_len)))


# Everything goes there and back


@given(st.binary(max_size=200), st.sampled_from(LINKTYPES), st.integers(0, 300))
def test_any_bytes_decode_and_encode_back(data: bytes, linktype: int, more: int) -> None:
    assert encode(decode(data, linktype, len(data) + more)) == data


tcp_option = st.one_of(
    st.just(Nop()),
    st.builds(Mss, u16),
    st.builds(Wscale, u8),
    st.just(SackPerm()),
    st.builds(Sack, st.lists(st.tuples(u32, u32), min_size=1, max_size=4).map(tuple)),
    st.builds(Timestamp, u32, u32),
    st.builds(Md5, st.binary(min_size=16, max_size=16)),
    st.builds(Ao, u8, u8, st.binary(max_size=12)),
    st.builds(Mptcp, st.binary(min_size=1, max_size=20)),
    st.builds(Fastopen, st.binary(max_size=16), st.booleans()),
    st.builds(AccEcn, st.integers(0, 1), st.lists(st.integers(0, 0xFFFFFF), max_size=3).map(tuple)),
    st.builds(Unknown, st.sampled_from([6, 7, 27, 28, 69, 253]), st.binary(max_size=8)),
)


def padded(options: list[TcpOption]) -> tuple[TcpOption, ...]:
    kept: list[TcpOption] = []
    size = 0
    for o in options:
        if size + len(o.wire()) <= 40:
            kept.append(o)
            size += len(o.wire())
    return (*kept, Eol(bytes(-size % 4 - 1))) if size % 4 else tuple(kept)


net4 = st.builds(
    lambda tos, ident, df, ttl: replace(IP_TCP, tos=tos, id=ident, frag_off=0x4000 * df, ttl=ttl), u8, u16, u8, u8
).map(lambda ip: replace(ip, frag_off=ip.frag_off & 0x4000))
net6 = st.builds(
    lambda tclass, label, hops: replace(IP6_TCP, tclass=tclass, flow_lbl=label, hop_limit=hops),
    u8,
    st.integers(0, 0xFFFFF),
    u8,
)
segments = st.builds(
    lambda seq, ack, flags, window, urg, options, res: Tcp(
        40000, 80, seq, ack, 5, flags, window, 0, urg, padded(options), res
    ),
    u32,
    u32,
    st.integers(0, 0x1FF),
    u16,
    u16,
    st.lists(tcp_option, max_size=6),
    st.integers(0, 7),
)


@given(st.one_of(net4, net6), segments, st.binary(max_size=64), st.lists(u16, max_size=2))
def test_a_tcp_frame_decodes_to_what_was_built(net: Ip | Ip6, th: Tcp, payload: bytes, tags: list[int]) -> None:
    proto = 0x0800 if isinstance(net, Ip) else 0x86DD
    types = [0x88A8, 0x8100][-len(tags) :] if tags else []
    vlans = (
        tuple(Vlan(tci, following) for tci, following in zip(tags, [*types[1:], proto], strict=True)) if tags else ()
    )
    built = seal((Ether(MAC2, MAC1, types[0] if types else proto), *vlans, net, th), payload)
    assert decode(encode(built)) == built
    assert all(verdict is Checksum.OK for _, verdict in checksums(built))


@given(st.one_of(net4, net6), segments, st.binary(max_size=64), st.integers(0, 160), st.booleans())
def test_the_flat_segment_agrees_with_the_layers(
    net: Ip | Ip6, th: Tcp, payload: bytes, snaplen: int, tagged: bool
) -> None:
    proto = 0x0800 if isinstance(net, Ip) else 0x86DD
    tags = (Ether(MAC2, MAC1, 0x8100), Vlan(5, proto)) if tagged else (Ether(MAC2, MAC1, proto),)
    whole = frame(*tags, net, th, payload=payload)
    cut = whole[:snaplen] if snaplen < 120 else whole
    p, s = decode(cut, 1, len(whole)), segment(3, 4, cut, 1, len(whole))
    t = p.get(Tcp)
    if t is None:
        assert s is None
        return
    assert s is not None
    assert (s.source, s.dest, s.seq, s.ack_seq, s.flags, s.window, s.urg_ptr) == (
        t.source,
        t.dest,
        t.seq,
        t.ack_seq,
        t.flags,
        t.window,
        t.urg_ptr,
    )
    assert (s.number, s.time, s.saddr, s.daddr, s.len) == (3, 4, net.saddr, net.daddr, len(payload))
    assert s.options == t.options
    ts, mss, wscale, sack = (t.option(k) for k in (Timestamp, Mss, Wscale, Sack))
    assert (s.tsval, s.tsecr) == ((ts.tsval, ts.tsecr) if ts else (None, None))
    assert s.mss == (mss.mss if mss else None)
    assert s.wscale == (wscale.shift if wscale else None)
    assert s.sack == (sack.blocks if sack else ())
    assert s.sack_perm == (t.option(SackPerm) is not None)
    assert s.packet() == p
    assert s.payload == p.payload
    ip = p.get(Ip)
    assert (s.ip_id, s.ttl, s.tos) == ((ip.id, ip.ttl, ip.tos) if ip else (None, net.hop_limit, net.tclass))


@given(st.binary(max_size=120), st.sampled_from(LINKTYPES))
def test_the_flat_segment_answers_exactly_where_the_layers_hold_tcp(data: bytes, linktype: int) -> None:
    assert (segment(1, 0, data, linktype) is not None) == (decode(data, linktype).get(Tcp) is not None)


@given(st.integers(0, 59), u8, st.sampled_from([ETH4, ETH6]))
def test_one_changed_header_byte_keeps_flat_and_layers_together(at: int, value: int, eth: Ether) -> None:
    net = IP_TCP if eth is ETH4 else IP6_TCP
    data = bytearray(frame(eth, net, tcp(TS), payload=b"payload"))
    data[at] = value
    s, p = segment(1, 0, bytes(data)), decode(bytes(data))
    assert (s is not None) == (p.get(Tcp) is not None)
    assert encode(p) == bytes(data)
    if s is not None:
        assert s.len == p.payload_len
        assert s.payload == p.payload


OTHERS: list[tuple[Layer, ...]] = [
    (Ether(b"\xff" * 6, MAC1, 0x0806), Arp(1, 0x0800, 6, 4, 1, MAC1, A4, bytes(6), B4)),
    (ETH4, replace(IP_TCP, protocol=17), Udp(5000, 53, 0, 0)),
    (ETH6, replace(IP6_TCP, nexthdr=17), Udp(5000, 53, 0, 0)),
    (ETH4, replace(IP_TCP, protocol=1), Icmp(8, 0, 0, 7 << 16 | 1)),
    (ETH6, replace(IP6_TCP, nexthdr=58), Icmp6(128, 0, 0), Icmp6Word(7 << 16 | 1)),
    (ETH4, replace(IP_TCP, options=(IpOption(7, bytes(5)), IpOption(1))), tcp()),
    (ETH6, replace(IP6_TCP, nexthdr=0), Ip6Opts(0, 60, 0, (Ip6Option(5, b"\0\0"), Ip6Option(1, b""))),
     Ip6Opts(60, 6, 0, (Ip6Option(1, bytes(4)),)), tcp(TS)),
    (ETH6, replace(IP6_TCP, nexthdr=43), Ip6Rt(6, 2, 2, 1, bytes(4) + A6), tcp()),
    (ETH6, replace(IP6_TCP, nexthdr=44), Ip6Frag(6, 0, 0, 99), tcp()),
    (ETH6, replace(IP6_TCP, nexthdr=51), Ah(6, 1, bytes(10)), tcp()),
]  # fmt: skip


@pytest.mark.parametrize("layers", OTHERS, ids=lambda x: "-".join(y.NAME for y in x))
def test_every_protocol_decodes_to_what_was_built(layers: tuple[Layer, ...]) -> None:
    built = seal(layers, b"" if isinstance(layers[-1], Arp) else b"data")
    p = decode(encode(built))
    assert p == built
    assert all(verdict is Checksum.OK for _, verdict in checksums(p))


LLADDR = NdOption(1, MAC1)
ND: list[tuple[int, Layer]] = [
    (133, NdRs(0, (LLADDR,))),
    (134, NdRa(64, 0x80, 1800, 30000, 1000, (NdOption(5, bytes(2) + struct.pack("!I", 1400)), LLADDR))),
    (135, NdNs(B6, 0, (LLADDR,))),
    (136, NdNa(B6, 0x60000000, (NdOption(2, MAC2),))),
    (137, NdRedirect(B6, A6, 0, (NdOption(2, MAC2),))),
]


@pytest.mark.parametrize(("kind", "body"), ND, ids=lambda x: getattr(x, "NAME", str(x)))
def test_neighbour_discovery_decodes_to_what_was_built(kind: int, body: Layer) -> None:
    built = seal((ETH6, replace(IP6_TCP, nexthdr=58, hop_limit=255), Icmp6(kind, 0, 0), body))
    p = decode(encode(built))
    assert p == built
    assert checksums(p) == (("icmpv6", Checksum.OK),)


def test_neighbour_discovery_options_have_names() -> None:
    na = NdNa(B6, 0x60000000)
    assert (na.router, na.solicited, na.override) == (False, True, True)
    assert LLADDR.lladdr == MAC1
    assert NdOption(5, bytes(2) + struct.pack("!I", 1400)).mtu == 1400
    prefix = NdOption(3, bytes([64, 0xC0]) + struct.pack("!III", 86400, 14400, 0) + A6)
    assert prefix.prefix == (A6, 64, 0xC0, 86400, 14400)


@pytest.mark.parametrize(
    ("linktype", "link"),
    [
        (113, Sll(4, 1, 6, MAC1 + bytes(2), 0x0800)),
        (276, Sll2(0x0800, 0, 3, 1, 0, 6, MAC1 + bytes(2))),
        (0, Null(2, "little")),
        (0, Null(2, "big")),
        (108, Null(2, "big")),
    ],
)
def test_every_link_type_carries_tcp(linktype: int, link: Layer) -> None:
    data = frame(link, IP_TCP, tcp(TS), payload=b"abc")
    p = decode(data, linktype)
    assert p.layers[0] == link
    s = segment(1, 2, data, linktype)
    assert s is not None
    assert (s.len, s.tsval) == (3, 100)


@pytest.mark.parametrize("linktype", [12, 14, 101, 228])
def test_raw_ip_needs_no_link_header(linktype: int) -> None:
    data = frame(IP_TCP, tcp())
    assert isinstance(decode(data, linktype).layers[0], Ip)
    assert segment(1, 2, data, linktype) is not None


# TCP options


def test_a_linux_syn_has_its_options_in_order() -> None:
    p = decode(frame(ETH4, IP_TCP, tcp(SYN_OPTIONS, SYN)))
    t = p.get(Tcp)
    assert t is not None
    assert t.options == SYN_OPTIONS
    s = segment(1, 0, encode(p))
    assert s is not None
    assert (s.mss, s.wscale, s.sack_perm, s.seg_len) == (1460, 7, True, 1)


def test_the_last_option_of_a_kind_counts() -> None:
    s = segment(1, 0, frame(ETH4, IP_TCP, tcp((Mss(1), Mss(2)), SYN)))
    assert s is not None
    assert s.mss == 2


def test_both_fast_open_kinds_are_told_apart() -> None:
    cookie = bytes(range(8))
    for option in (Fastopen(cookie), Fastopen(cookie, exp=True), Fastopen()):
        t = decode(frame(ETH4, IP_TCP, tcp(padded([option]), SYN))).get(Tcp)
        assert t is not None
        assert t.option(Fastopen) == option


def test_an_experimental_option_without_the_magic_is_unknown() -> None:
    t = decode(frame(ETH4, IP_TCP, tcp((Unknown(254, b"\xe2\xd4\xc3\xd9"), Nop(), Nop())))).get(Tcp)
    assert t is not None
    assert t.options[0] == Unknown(254, b"\xe2\xd4\xc3\xd9")


def test_options_stop_at_an_impossible_length() -> None:
    data = bytearray(frame(ETH4, IP_TCP, tcp((Mss(9), Nop(), Nop(), Unknown(77)))))
    data[-1] = 1
    t = decode(bytes(data)).get(Tcp)
    assert t is not None
    assert t.options == (Mss(9), Nop(), Nop(), Rest(b"\x4d\x01"))


def test_the_accurate_ecn_flag_is_the_ninth() -> None:
    t = decode(frame(ETH4, IP_TCP, tcp(flags=AE | SYN))).get(Tcp)
    assert t is not None
    assert (t.flags, t.res1) == (AE | SYN, 0)


# Cut frames


@given(st.integers(0, 200), st.sampled_from([ETH4, ETH6]))
def test_a_cut_frame_decodes_as_far_as_it_goes(snaplen: int, eth: Ether) -> None:
    whole = frame(eth, IP_TCP if eth is ETH4 else IP6_TCP, tcp(SYN_OPTIONS, SYN), payload=bytes(100))
    cut = whole[:snaplen]
    p, full = decode(cut, 1, len(whole)), decode(whole)
    assert p.truncated == (snaplen < len(whole))
    assert p.malformed is None
    assert [type(x) for x in p.layers] == [type(x) for x in full.layers][: len(p.layers)]
    if p.get(Tcp) and snaplen >= len(whole) - 100:
        assert (p.layers, p.payload_len) == (full.layers, 100)


def test_a_snaplen_inside_the_options_keeps_those_before_it() -> None:
    whole = frame(ETH4, IP_TCP, tcp(SYN_OPTIONS, SYN))
    t = decode(whole[:62], 1, len(whole)).get(Tcp)
    assert t is not None
    assert t.options == (Mss(1460), SackPerm(), Rest(b"\x08\x0a"))
    s = segment(1, 0, whole[:62], 1, len(whole))
    assert s is not None
    assert (s.truncated, s.mss, s.tsval, s.len) == (True, 1460, None, 0)


# Malformed headers


@pytest.mark.parametrize(
    ("at", "value", "layer", "words"),
    [
        (14, 0x44, "ip", "header length 16"),
        (14, 0x55, "ip", "version 5"),
        (17, 0xFF, "ip", "tot_len 255 is more than the 44 bytes"),
        (17, 0x10, "ip", "tot_len 16 is less than the header's 20"),
        (46, 0x40, "tcp", "doff 4 is less than 5"),
        (46, 0xF0, "tcp", "header of 60 bytes, 24 left"),
    ],
)
def test_a_malformed_header_says_what_and_where(at: int, value: int, layer: str, words: str) -> None:
    data = bytearray(frame(ETH4, IP_TCP, tcp(), payload=b"data"))
    data[at] = value
    bad = decode(bytes(data)).malformed
    assert isinstance(bad, Malformed)
    assert (bad.layer, words in bad.reason) == (layer, True), bad
    assert bad.offset in (14, 34)
    assert segment(1, 0, bytes(data)) is None


def test_an_unknown_link_type_is_said() -> None:
    assert decode(b"x", 147).malformed == Malformed("link", "link type 147 is not known", 0)


def test_ethernet_padding_is_the_trailer() -> None:
    p = decode(frame(ETH4, IP_TCP, tcp(), trailer=bytes(6)))
    assert (p.payload, p.trailer, p.payload_len) == (b"", bytes(6), 0)


def test_a_later_fragment_has_no_transport_header() -> None:
    p = decode(frame(ETH4, replace(IP_TCP, frag_off=5), payload=bytes(40)))
    assert (p.get(Tcp), p.payload_len, p.malformed) == (None, 40, None)
    ip = p.get(Ip)
    assert ip is not None
    assert ip.offset == 40


def test_a_super_frame_without_a_length_takes_the_frames() -> None:
    data = bytearray(frame(ETH4, IP_TCP, tcp(TS), payload=bytes(30)))
    data[16:18] = b"\0\0"
    p = decode(bytes(data), 1, 14 + 70_052)
    assert (p.payload_len, p.truncated) == (70_000, True)
    s = segment(1, 0, bytes(data), 1, 14 + 70_052)
    assert s is not None
    assert s.len == 70_000


# Checksums


@given(st.binary(max_size=99))
def test_the_checksum_is_the_16_bit_ones_complement_sum(data: bytes) -> None:
    even = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert ones_sum(data) == total
    assert checksum(data) == total ^ 0xFFFF


@pytest.mark.parametrize(
    ("layers", "at"),
    [
        ((ETH4, IP_TCP, tcp()), 50),
        ((ETH6, IP6_TCP, tcp()), 70),
        ((ETH4, replace(IP_TCP, protocol=17), Udp(1, 2, 0, 0)), 40),
    ],
)
def test_an_offloaded_checksum_is_told_from_a_wrong_one(layers: tuple[Layer, ...], at: int) -> None:
    data = bytearray(frame(*layers, payload=b"data"))
    name = layers[-1].NAME
    assert checks(bytes(data))[name] is Checksum.OK
    net = layers[1]
    assert isinstance(net, Ip | Ip6)
    length, protocol = len(data) - (34 if isinstance(net, Ip) else 54), 17 if name == "udp" else 6
    data[at : at + 2] = ones_sum(net.saddr + net.daddr + struct.pack("!II", length, protocol)).to_bytes(2, "big")
    assert checks(bytes(data))[name] is Checksum.OFFLOAD
    data[at] ^= 1
    assert checks(bytes(data))[name] is Checksum.WRONG


def test_a_wrong_ip_checksum_is_wrong() -> None:
    data = bytearray(frame(ETH4, IP_TCP, tcp()))
    data[22] ^= 1
    assert checks(bytes(data)) == {"ip": Checksum.WRONG, "tcp": Checksum.OK}


def test_udp_may_come_without_a_checksum_over_ipv4_only() -> None:
    p4 = seal((ETH4, replace(IP_TCP, protocol=17), Udp(1, 2, 0, 0)))
    p6 = seal((ETH6, replace(IP6_TCP, nexthdr=17), Udp(1, 2, 0, 0)))
    for p, verdict in ((p4, Checksum.ABSENT), (p6, Checksum.WRONG)):
        udp = p.get(Udp)
        assert udp is not None
        none = replace(p, layers=(*p.layers[:-1], replace(udp, check=0)))
        assert dict(checksums(none))["udp"] is verdict


def test_a_cut_frames_checksum_is_unknown() -> None:
    data = frame(ETH4, IP_TCP, tcp(), payload=bytes(50))
    assert checks(data[:80], 1, len(data)) == {"ip": Checksum.OK, "tcp": Checksum.UNKNOWN}


def test_seal_refuses_options_that_do_not_fill_words() -> None:
    with pytest.raises(ValueError, match="32-bit words"):
        seal((ETH4, IP_TCP, tcp((Nop(),))))


@pytest.mark.parametrize(("flags", "n"), [(ACK, 5), (SYN, 6), (FIN | ACK, 6), (SYN | FIN, 7)])
def test_syn_and_fin_take_sequence_space(flags: int, n: int) -> None:
    s = segment(1, 0, frame(ETH4, IP_TCP, tcp(flags=flags, seq=0xFFFFFFFE), payload=b"12345"))
    assert s is not None
    assert (s.seg_len, s.end_seq) == (n, n - 2)


def test_a_gratuitous_arp_reply_needs_its_own_target_address() -> None:
    request = Arp(1, 0x0800, 6, 4, 1, MAC1, A4, bytes(6), A4)
    assert request.gratuitous
    assert not replace(request, ar_op=2).gratuitous
    assert replace(request, ar_op=2, ar_tha=MAC1).gratuitous
