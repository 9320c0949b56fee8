"""Two runs of one script held together: the first difference, whatever the script says."""

from conformance.pkt.both import counters, difference
from conformance.pkt.outcome import Outcome, Sent

SYN = Sent(1000, "> S 0:0(0) win 64240 <mss 1460,sackOK,TS val 5 ecr 0,nop,wscale 7>", "tcp_connect")
DATA = Sent(50_000, "> P. 1:101(100) ack 1 win 500", "tcp_push")


def test_runs_that_send_the_same_do_not_differ() -> None:
    other = Sent(3000, SYN.text.replace("val 5", "val 99"))
    assert difference(Outcome("passed", packets=(SYN, DATA)), Outcome("passed", packets=(other, DATA))) == ""


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
