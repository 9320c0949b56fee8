"""Packet lines: every form reads as what it says; what cannot be a packet is refused with its place and a remedy."""

import pytest

from conformance.pkt.ast import Direction, Ecn, Gre, Icmp, IpLayer, Mpls, Packet, Ports, Tcp, Udp
from conformance.pkt.parser import parse
from conformance.pkt.source import ScriptError
from refmodel.packet.transport import (
    AccEcn,
    Eol,
    Fastopen,
    Md5,
    Mss,
    Nop,
    Sack,
    SackPerm,
    Timestamp,
    Wscale,
)


def packet(line: str, **defines: str) -> Packet:
    action = parse(f"0 close(3) = 0\n+0 {line}", defines=defines).events[1].action
    assert isinstance(action, Packet)
    return action


def tcp(line: str, **defines: str) -> Tcp:
    body = packet(line, **defines).body
    assert isinstance(body, Tcp)
    return body


def refused(line: str) -> ScriptError:
    with pytest.raises(ScriptError) as why:
        packet(line)
    return why.value


def test_a_segment() -> None:
    p = packet("< P. 1:1001(1000) ack 5 win 257 urg 3")
    assert p.direction is Direction.IN
    s = tcp("< P. 1:1001(1000) ack 5 win 257 urg 3")
    assert (s.flags, s.ack_flag, s.ace) == ("P", True, None)
    assert (s.range.seq, s.range.end, s.range.length) == (1, 1001, 1000)
    assert (s.ack, s.win, s.urg, s.options) == (5, 257, 3, ())


def test_what_is_not_written_of_an_expected_segment_is_not_compared() -> None:
    s = tcp("> . 1:1(0) ack 1")
    assert s.win is None
    assert s.options == ()
    assert tcp("> . 1:1(0) <...>").options is None
    assert tcp("> . 1:1(0)").ack is None


@pytest.mark.parametrize(
    ("written", "flags", "dot", "ace"),
    [
        ("S", "S", False, None), (".", "", True, None), ("-", "", False, None), ("SEWA", "SEWA", False, None),
        ("PF.", "FP", True, None), ("R.", "R", True, None), ("SEW.", "SEW", True, None), (".5", "", True, 5),
        ("P.0", "P", True, 0), ("S.7", "S", True, 7), ("SAE.", "SEA", True, None), ("U.", "U", True, None),
    ],
)  # fmt: skip
def test_flags(written: str, flags: str, dot: bool, ace: int | None) -> None:
    s = tcp(f"> {written} 0:0(0)")
    assert (s.flags, s.ack_flag, s.ace) == (flags, dot, ace)


def test_options_keep_their_order() -> None:
    assert tcp("> S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 8>").options == (
        Mss(1460), SackPerm(), Timestamp(100, 0), Nop(), Wscale(8),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("written", "option"),
    [
        ("nop,nop,sack 1:2 3:4", Sack(((1, 2), (3, 4)))),
        ("nop,nop,md5 000102030405060708090a0b0c0d0e0f", Md5(bytes(range(16)))),
        ("nop,nop,md5 00010203040506070809000102030405", Md5(bytes([*range(10), *range(6)]))),
        ("nop,nop,FO", Fastopen()),
        ("nop,nop,FO abcd1234abcd1234", Fastopen(bytes.fromhex("abcd1234abcd1234"))),
        ("nop,nop,FO 12345678", Fastopen(bytes.fromhex("12345678"))),
        ("FOEXP", Fastopen(exp=True)),
        ("FOEXP abcd1234", Fastopen(bytes.fromhex("abcd1234"), exp=True)),
        ("nop,nop,nop,ECN e0b 1", AccEcn(0, (1,))),
        ("ECN e0b 1 ceb 2,eol,eol,eol,eol", None),
        ("nop,ECN e1b 1 ceb 2 e0b 3", AccEcn(1, (1, 2, 3))),
        ("nop,nop,nop,eol", Eol()),
    ],
)  # fmt: skip
def test_each_kind_of_option(written: str, option: object) -> None:
    options = tcp(f"> . 1:1(0) <{written}>").options
    assert options is not None
    assert option is None or option in options


def test_a_cookie_may_be_defined() -> None:
    assert tcp("> S 0:0(0) <nop,nop,FO COOKIE>", COOKIE="3021b9d889017eeb").options == (
        Nop(), Nop(), Fastopen(bytes.fromhex("3021b9d889017eeb")),
    )  # fmt: skip


def test_ports_and_encapsulated_security() -> None:
    ports = tcp("< 1025 > 8080 S 0:0(0) win 0").ports
    assert isinstance(ports, Ports)
    assert (ports.source, ports.dest) == (1025, 8080)
    assert tcp("> encap psp spi 0x10 . 1:1(0)").spi == 16


@pytest.mark.parametrize("form", ["[{}]", "({})"])
@pytest.mark.parametrize(
    ("written", "ecn", "tos", "flowlabel", "ttl"),
    [
        ("ect0", Ecn.ECT0, None, None, None),
        ("ect01", Ecn.ECT01, None, None, None),
        ("ce", Ecn.CE, None, None, None),
        ("noecn", Ecn.NOECN, None, None, None),
        ("tos 0x1e", None, 0x1E, None, None),
        ("ttl 64", None, None, None, 64),
        ("flowlabel 0xabc", None, None, 0xABC, None),
        ("ect1, flowlabel 0x1", Ecn.ECT1, None, 1, None),
        ("tos 0x2, flowlabel 0x1", None, 2, 1, None),
    ],
)
def test_the_ip_header(
    form: str, written: str, ecn: Ecn | None, tos: int | None, flowlabel: int | None, ttl: int | None
) -> None:
    info = packet(f"> {form.format(written)} . 1:1(0)").info
    assert info is not None
    assert (info.ecn, info.tos, info.flowlabel, info.ttl) == (ecn, tos, flowlabel, ttl)


def test_outer_headers() -> None:
    p = packet("< ipv4 192.0.2.1 > 192.168.0.1: gre flags [key, seq present], key 0x5, seq=1: ipv6 [ce] ::1 > ::2: "
               "mpls (label 16, tc 3, ttl 64) (label 17, tc 0, [S], ttl 64): . 1:1(0) ack 1 win 1")  # fmt: skip
    outer, gre, inner, mpls = p.layers
    assert isinstance(outer, IpLayer)
    assert (outer.version, outer.source, outer.dest) == (4, "192.0.2.1", "192.168.0.1")
    assert isinstance(gre, Gre)
    assert (gre.flags, gre.key, gre.seq, gre.sum) == (("key", "seq"), 5, 1, None)
    assert isinstance(inner, IpLayer)
    assert inner.info is not None
    assert (inner.version, inner.info.ecn) == (6, Ecn.CE)
    assert isinstance(mpls, Mpls)
    assert [(x.label, x.tc, x.bottom, x.ttl) for x in mpls.labels] == [(16, 3, False, 64), (17, 0, True, 64)]


def test_udp() -> None:
    assert isinstance(packet("> udp (1000)").body, Udp)
    body = packet("< udp 53 > 1024 (12)").body
    assert isinstance(body, Udp)
    assert body.ports is not None
    assert (body.length, body.ports.source, body.ports.dest) == (12, 53, 1024)


def test_icmp() -> None:
    body = packet("< icmp unreachable frag_needed mtu 1200 [1:1461(1460)]").body
    assert isinstance(body, Icmp)
    assert (body.type, body.code, body.mtu) == ("unreachable", "frag_needed", 1200)
    assert body.quoted is not None
    assert body.quoted.range is not None
    assert (body.quoted.protocol, body.quoted.range.end) == ("tcp", 1461)
    for line, protocol in (("[udp (100)]", "udp"), ("[raw (8)]", "raw")):
        body = packet(f"< icmp packet_too_big mtu 1280 {line}").body
        assert isinstance(body, Icmp)
        assert body.quoted is not None
        assert (body.quoted.protocol, body.code) == (protocol, None)
    body = packet("< icmp echo_request id 7").body
    assert isinstance(body, Icmp)
    assert body.id == 7
    body = packet("< icmp unreachable code_13 [0:0(0)]").body
    assert isinstance(body, Icmp)
    assert body.code == "code_13"


@pytest.mark.parametrize(
    ("line", "what", "column", "expected", "help"),
    [
        ("< . 1:1(0) ack 1", "found end of the script", 20, "win", "a segment to inject needs its window field"),
        ("< . 1:2(0) win 1", "1:2(0) does not fit together", 8, "", "0 bytes from 1 end at 1"),
        ("< . 1:70001(70000) win 1", "length 70000 is out of range", 16, "0 to 65535", ""),
        ("< . 1:1(0) win 65536", "win 65536 is out of range", 19, "0 to 65535", ""),
        ("< . 1:1(0) win -1", "win -1 is out of range", 19, "0 to 65535", ""),
        ("< . 1:1(0) win 1 <...>", "<...> can only be expected, not sent", 22, "", "write the options out"),
        ("> .1:1(0)", "found ':'", 8, "a sequence number", "write a blank between the dot"),
        ("> .9 1:1(0)", "'.9' is no ACE field", 6, "0 to 7", "blank"),
        ("> SE.5 1:1(0)", "the ACE digit 5 and the flags SE name the same bits", 8, "", ""),
        ("> X. 1:1(0)", "'X' has no TCP flag 'X'", 6, "FSRPUEWA", ""),
        ("> tcp 1:1(0)", "'tcp' has no TCP flag 't'", 6, "FSRPUEWA", ""),
        ("> 1:1(0)", "found number '1'", 6, "TCP flags, udp or icmp", "- for none"),
        ("> . 1:1(0) <mss 1>,", "found ','", 22, "the time of an event", ""),
        ("> . 1:1(0) <mss 1,nop>", "the TCP options take 5 bytes", 15, "a multiple of 4", "add 3 nop or eol"),
        ("> . 1:1(0) <sack 1:2 1:2 1:2 1:2 1:2>", "the TCP options take 42 bytes", 15, "at most 40", ""),
        ("> . 1:1(0) <mms 1>", "'mms' is no TCP option", 16, "", "did you mean mss?"),
        ("> . 1:1(0) <md5 0102>", "an MD5 digest of 2 bytes", 20, "16 bytes", ""),
        ("> . 1:1(0) <nop,nop,FO abc>", "word 'abc' is no Fast Open cookie", 27, "hexadecimal", "two digits"),
        ("> . 1:1(0) <FO TFO_COOKIE>", "word 'TFO_COOKIE' is no Fast Open cookie", 19, "", "-D TFO_COOKIE=..."),
        ("> . 1:1(0) <FO 0xabcd>", "found hexadecimal number '0xabcd'", 19, "hexadecimal", "leave 0x out"),
        ("< [ect01] . 1:1(0) win 1", "ect01 can only be expected, not sent", 7, "", "ect0 or ect1"),
        ("> [ect0, ce] . 1:1(0)", "ce says again", 13, "", ""),
        ("> ipv4 ::1 > ::2: . 1:1(0)", "found IPv6 address '::1'", 11, "an IPv4 address", ""),
        ("> ipv4 1.2.3.400 > 1.2.3.4: . 1:1(0)", "'1.2.3.400' is no address", 11, "", ""),
        ("> mpls: . 1:1(0)", "found ':'", 10, "(label 16, tc 0, [S], ttl 64)", ""),
        ("> icmp unreachabel", "'unreachabel' is no ICMP type", 11, "", "did you mean unreachable?"),
        ("> icmp unreachable code_256", "'code_256' is no code of icmp unreachable", 23, "", "0 to 255"),
        ("> icmp echo_reply mtu 5", "only frag_needed and packet_too_big carry an mtu", 22, "", ""),
        ("> udp 5", "found number '5'", 10, "'(' before the length", ""),
        ("> ! 1:1(0)", "'!' has no meaning here", 6, "", ""),
    ],
)  # fmt: skip
def test_refusals(line: str, what: str, column: int, expected: str, help: str) -> None:
    why = refused(line)
    assert why.what.startswith(what)
    assert (why.at.line, why.at.column) == (2, column)
    assert expected in why.expected
    assert help in why.help
