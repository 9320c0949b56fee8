"""Two runs of one script held together: the first difference, whatever the script says."""

from conformance.pkt import ast, printer
from conformance.pkt.both import counters, difference
from conformance.pkt.outcome import Outcome, Sent
from conformance.pkt.variant import BASES, Variant
from conformance.pkt.wire import Wire
from refmodel.packet.codec import Packet as Frame
from refmodel.packet.ip import Ip
from refmodel.packet.transport import ACK, RST, Tcp

FLAG_SYN = 0x02
SYN = Sent(1000, "> S 0:0(0) win 64240 <mss 1460,sackOK,TS val 5 ecr 0,nop,wscale 7>", "tcp_connect")
DATA = Sent(50_000, "> P. 1:101(100) ack 1 win 500", "tcp_push")


def test_runs_that_send_the_same_do_not_differ() -> None:
    other = Sent(3000, SYN.text.replace("val 5", "val 99"))
    assert difference(Outcome("passed", packets=(SYN, DATA)), Outcome("passed", packets=(other, DATA))) == ""


def test_digests_are_random_and_are_not_compared() -> None:
    signed = Sent(1000, "> S 0:0(0) win 65535 <nop,nop,md5 f9ad5ce040534d038ead9ffc8ab69a4d>")
    other = Sent(1000, "> S 0:0(0) win 65535 <nop,nop,md5 fe2ccb75e140deb5fe22e97778c0d130>")
    unsigned = Sent(1000, "> S 0:0(0) win 65535")
    assert difference(Outcome("passed", packets=(signed,)), Outcome("passed", packets=(other,))) == ""
    assert difference(Outcome("passed", packets=(signed,)), Outcome("passed", packets=(unsigned,))) != ""


def sent(wire: Wire, flags: int, seq: int, ack: int = 0) -> str:
    ip = Ip(5, 0, 0, 0, 0, 64, 6, 0, wire.local, wire.remote)
    tcp = Tcp(8080, 32768, seq, ack, 5, flags, 1000)
    wire.learn(tcp, ast.Tcp(flags="", ack_flag=True, range=ast.Range(seq=0, end=0, length=0)))
    return printer.packet(wire.compared_view(Frame((ip, tcp))))


def test_a_second_incarnation_counts_from_its_own_syn() -> None:
    runs = []
    for isn, second in ((1000, 5_000_000), (77_000, 123)):
        wire = Wire(BASES[Variant.IPV4])
        wire.made(3, 3)
        runs.append([sent(wire, FLAG_SYN | ACK, isn), sent(wire, ACK, isn + 1), sent(wire, FLAG_SYN | ACK, second),
                     sent(wire, ACK, second + 101), sent(wire, RST | ACK, 0)])  # fmt: skip
    assert runs[0] == runs[1]
    assert "101:101(0)" in runs[0][3]


def test_the_first_other_packet_is_shown_with_who_sent_it() -> None:
    kernel = Sent(50_000, DATA.text.replace("500", "501"))
    said = difference(Outcome("passed", packets=(SYN, DATA)), Outcome("passed", packets=(SYN, kernel)))
    assert said.startswith("packet 2 is another one")
    assert "win 500" in said
    assert "win 501" in said
    assert "by tcp_push (net/ipv4/tcp.c:tcp_push" in said


def test_a_packet_more_and_another_time_are_differences() -> None:
    model = Outcome("passed", packets=(SYN, DATA))
    assert "only the model sends a packet 2" in difference(model, Outcome("passed", packets=(SYN,)))
    late = Outcome("passed", packets=(SYN, Sent(250_000, DATA.text)))
    assert "leaves at another time" in difference(model, late)


def test_another_end_is_a_difference() -> None:
    failed = Outcome("failed", 7, field="time", got="1")
    assert difference(failed, Outcome("passed")) == "the model failed at line 7, the kernel passed"
    assert difference(failed, Outcome("failed", 7, field="time", got="2")) == ""


def test_counters_of_tcp_are_compared() -> None:
    assert counters({"TcpInSegs": 3, "IpInDelivers": 3}, {"TcpInSegs": 4, "IpInDelivers": 9}) == [("TcpInSegs", 3, 4)]
