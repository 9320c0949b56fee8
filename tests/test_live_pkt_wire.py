"""Script numbers and live ones, what is compared and what is free: without a kernel."""

from pathlib import Path

import pytest

from conformance.pkt import ast
from conformance.pkt.match import Difference, differences, joined
from conformance.pkt.parser import parse
from conformance.pkt.source import ScriptError
from conformance.pkt.tcpinfo import tcp_info
from conformance.pkt.variant import BASES, Config, Variant, configure, defines, variants
from conformance.pkt.wire import Conn, Impossible, State, Wire
from refmodel.packet.codec import Packet, decode, encode, seal
from refmodel.packet.ip import Ip
from refmodel.packet.transport import Nop, Tcp, TcpOption, Timestamp
from refmodel.packet.wire import LINKTYPE_RAW

ISN = 0xFFFFFFF0
PORT = 8080
PEER = 40000


def packet(line: str) -> ast.Packet:
    (event,) = parse(f"0 {line}\n").events
    assert isinstance(event.action, ast.Packet)
    return event.action


def wire(config: Config = BASES[Variant.IPV4]) -> Wire:
    """A connection whose numbers are known: ISN here, 0 there."""
    w = Wire(config)
    w.under_test = Conn(state=State.CHILD, local_port=PORT, remote_port=PEER, local_isn=ISN, remote_isn=0, ts={})
    w.conns.append(w.under_test)
    return w


def live(seq: int, ack: int, length: int = 0, flags: int = 0x10, options: tuple[TcpOption, ...] = ()) -> Packet:
    """What the kernel may have sent."""
    w = wire()
    ip = Ip(5, 0, 0, 0, 0, 64, 6, 0, w.local, w.remote)
    tcp = Tcp(PORT, PEER, seq & 0xFFFFFFFF, ack, 5, flags, 1000, 0, 0, options)
    return decode(encode(seal((ip, tcp), bytes(length))), LINKTYPE_RAW)


def fields(found: list[Difference]) -> list[str]:
    return [d.field for d in found]


def test_sequence_numbers_count_from_the_first_syn_across_the_wrap() -> None:
    assert differences(wire(), live(ISN + 21, 1, 100, 0x18), packet("> P. 21:121(100) ack 1")) == []


def test_each_field_that_differs_is_named() -> None:
    found = differences(wire(), live(ISN + 21, 1, 100, 0x18), packet("> . 1:51(50) ack 2 win 7 <nop,nop,sackOK>"))
    assert fields(found) == ["flags", "sequence number", "length", "ack", "win", "options"]


def test_values_of_time_stamps_are_labels_but_their_place_is_not() -> None:
    got = live(ISN + 1, 1, options=(Timestamp(123456, 7), Nop(), Nop()))
    assert differences(wire(), got, packet("> . 1:1(0) ack 1 <TS val 5 ecr 6,nop,nop>")) == []
    assert fields(differences(wire(), got, packet("> . 1:1(0) ack 1 <nop,nop,TS val 5 ecr 6>"))) == ["options"]


def test_options_are_free_where_dots_stand() -> None:
    assert differences(wire(), live(ISN + 1, 1), packet("> . 1:1(0) ack 1 <...>")) == []


def test_consecutive_segments_make_one_with_the_last_ones_flags() -> None:
    both = joined(live(ISN + 1, 1, 100), live(ISN + 101, 1, 100, 0x18), 100)
    assert isinstance(both, Packet)
    assert differences(wire(), both, packet("> P. 1:201(200) ack 1")) == []


@pytest.mark.parametrize(
    ("seq", "length", "flags", "field"),
    [(201, 100, 0x10, "sequence number"), (101, 200, 0x10, "payload"), (101, 100, 0x14, "flags")],
)
def test_segments_that_do_not_fit_together_are_told_apart(seq: int, length: int, flags: int, field: str) -> None:
    both = joined(live(ISN + 1, 1, 100), live(ISN + seq, 1, length, flags), 100)
    assert isinstance(both, Difference)
    assert both.field == field


def test_an_injected_segment_has_live_numbers_and_right_checksums() -> None:
    data = wire().inbound(packet("< P. 1:11(10) ack 21 win 500 <sack 31:41,nop,nop>"))
    tcp = decode(data, LINKTYPE_RAW).get(Tcp)
    assert tcp is not None
    assert (tcp.source, tcp.dest, tcp.seq, tcp.ack_seq, tcp.window) == (PEER, PORT, 1, (ISN + 21) & 0xFFFFFFFF, 500)
    assert encode(seal(decode(data, LINKTYPE_RAW).layers, bytes(10))) == data


def test_an_echo_is_the_live_value_of_the_label() -> None:
    w = wire()
    w.learn(
        Tcp(PORT, PEER, 0, 0, 8, 0x10, 0, 0, 0, (Timestamp(777000, 0),)),
        _tcp("> . 1:1(0) ack 1 <TS val 100 ecr 0,nop,nop>"),
    )
    tcp = decode(w.inbound(packet("< . 1:1(0) ack 1 win 1 <TS val 5 ecr 100,nop,nop>")), LINKTYPE_RAW).get(Tcp)
    assert tcp is not None
    assert tcp.option(Timestamp) == Timestamp(5, 777000)
    with pytest.raises(Impossible, match="ecr 101"):
        w.inbound(packet("< . 1:1(0) ack 1 win 1 <TS val 5 ecr 101,nop,nop>"))


def _tcp(line: str) -> ast.Tcp:
    body = packet(line).body
    assert isinstance(body, ast.Tcp)
    return body


def test_a_listener_hands_over_to_its_child() -> None:
    w = Wire(BASES[Variant.IPV4])
    w.made(3, 7)
    w.target().local_port, w.target().state = PORT, State.LISTENING
    w.inbound(packet("< S 5:5(0) win 1"))
    child = w.target()
    assert (child.state, child.remote_isn, child.live_fd) == (State.CHILD, 5, -1)
    assert child.remote_port is not None
    w.accepted(4, 8, child.remote_port)
    assert w.by_fd(4) is child


def test_a_packet_without_a_socket_is_impossible() -> None:
    with pytest.raises(Impossible, match="no socket"):
        Wire(BASES[Variant.IPV4]).inbound(packet("< S 0:0(0) win 1"))


def test_icmp_quotes_the_live_segment() -> None:
    data = wire().inbound(packet("< icmp unreachable frag_needed mtu 1200 [1:1461(1460)]"))
    quoted = data[28:]
    assert len(quoted) == 28
    assert int.from_bytes(quoted[24:28], "big") == (ISN + 1) & 0xFFFFFFFF
    assert int.from_bytes(data[26:28], "big") == 1200


@pytest.mark.parametrize("variant", Variant)
def test_addresses_of_a_variant(variant: Variant) -> None:
    address = Wire(BASES[variant]).sockaddr(remote=True)
    assert len(address) == (16 if variant is Variant.IPV4 else 28)
    assert int.from_bytes(address[2:4], "big") == 8080
    assert (b"\xff\xff\xc0\x00\x02\x01" in address) == (variant is Variant.MAPPED)


def test_a_scripts_options_go_before_its_variants() -> None:
    script = parse("--mtu=1400\n--tolerance_usecs=9000\n0 `true`\n")
    config = configure(script, Variant.IPV4)
    assert (config.mtu, config.tolerance_usecs) == (1400, 9000)
    assert configure(script, Variant.IPV4, 5).tolerance_usecs == 5


def test_an_option_that_cannot_be_honoured_is_refused() -> None:
    with pytest.raises(ScriptError, match="not honoured"):
        configure(parse("--wire_server\n0 `true`\n"), Variant.IPV4)


@pytest.mark.parametrize(
    ("name", "option", "left"),
    [("a", "", 3), ("a-v4", "", 1), ("a-v6", "", 1), ("a", "--ip_version=ipv6\n", 1), ("a", "--ip_version=ipv4\n", 1)],
)
def test_a_script_runs_in_the_variants_that_it_is_meant_for(name: str, option: str, left: int) -> None:
    assert len(variants(parse(f"{option}0 `true`\n"), name, tuple(Variant))) == left


def test_a_variant_defines_its_words() -> None:
    assert defines(Variant.IPV6)["CMSG_LEVEL_IP"] == "SOL_IPV6"
    assert defines(Variant.MAPPED)["TFO_COOKIE"] == defines(Variant.IPV4)["TFO_COOKIE"]


def test_tcp_info_ends_where_the_kernels_does() -> None:
    raw = bytearray(232)
    raw[0], raw[6], raw[80:84] = 1, 0x87, (10).to_bytes(4, "little")
    values = tcp_info(bytes(raw))
    assert (values["tcpi_state"], values["tcpi_snd_wscale"], values["tcpi_rcv_wscale"]) == (1, 7, 8)
    assert values["tcpi_snd_cwnd"] == 10
    assert "tcpi_rcv_wnd" not in values


def test_the_table_of_scripts_names_every_one() -> None:
    root = Path(__file__).parent.parent
    text = (root / "docs" / "pkt-kernel.md").read_text()
    stems = sorted(p.stem for p in (root / "tests" / "scripts" / "connection").glob("*.pkt"))
    assert [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")] == stems
