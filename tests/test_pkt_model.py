"""Scripts on the model: right ones pass, wrong ones are told apart with the model's reason, endless ones end."""

import os
from pathlib import Path

import pytest

from conformance.pkt import model_run
from conformance.pkt.model_run import Setting, run_script, run_text
from conformance.pkt.model_wire import cut
from conformance.pkt.outcome import Outcome
from conformance.pkt.variant import Variant, scripts_in
from refmodel.tcp.whole import rcvbuf
from refmodel.tcp.whole.const import CWR, FIN, PSH
from refmodel.tcp.whole.skb import Packet

SCRIPTS = scripts_in((Path(__file__).parent / "scripts",))
SELFTESTS = os.environ.get("REFMODEL_SELFTESTS", "")

OPEN = """\
`sysctl -q net.ipv4.tcp_congestion_control=reno net.ipv4.tcp_timestamps=0`
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 bind(3, ..., ...) = 0
  +0 listen(3, 1) = 0
  +0 < S 0:0(0) win 65535 <mss 1460>
  +0 > S. 0:0(0) ack 1 <mss 1460>
+.01 < . 1:1(0) ack 1 win 65535
  +0 accept(3, ..., ...) = 4
"""
WRITE = OPEN + "+0 write(4, ..., 100) = 100\n"


def outcome(text: str, variant: Variant = Variant.IPV4, setting: Setting = model_run.DEFAULT) -> Outcome:
    """What a script's run gave."""
    return run_text("case.pkt", text, variant, setting)


@pytest.mark.parametrize("variant", Variant)
def test_data_that_is_written_leaves_at_once(variant: Variant) -> None:
    o = outcome(WRITE + "+0 > P. 1:101(100) ack 1\n", variant)
    assert o.status == "passed", o.message


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_shipped_script_passes_in_every_variant(path: Path) -> None:
    for variant, o in run_script(path):
        assert o.status == "passed", f"{variant}: {o.message}"


@pytest.mark.skipif(not SELFTESTS, reason="REFMODEL_SELFTESTS names no folder of the kernel's selftests")
@pytest.mark.parametrize("path", scripts_in((Path(SELFTESTS),)) if SELFTESTS else (), ids=lambda p: p.stem)
def test_a_selftest_of_the_kernel_passes_in_every_variant(path: Path) -> None:
    for variant, o in run_script(path):
        assert o.status == "passed", f"{variant}: {o.message}"


@pytest.mark.parametrize(
    ("line", "field", "expected", "got"),
    [
        ("+0 > . 1:101(100) ack 1", "flags", ".", "P."),
        ("+0 > P. 2:102(100) ack 1", "sequence number", "2", "1"),
        ("+0 > P. 1:51(50) ack 1", "length", "50", "100"),
        ("+0 > P. 1:101(100) ack 2", "ack", "2", "1"),
        ("+0 > P. 1:101(100) ack 1 win 5", "win", "5", "64240"),
        ("+0 > P. 1:101(100) ack 1 <nop,nop,sackOK>", "options", "nop, nop, sackOK", "none"),
        ("+0 > [tos 0x10] P. 1:101(100) ack 1", "tos", "0x10", "0x0"),
        ("+.5 > P. 1:101(100) ack 1", "time", "0.510401", "0.010351"),
    ],
)
def test_a_wrong_line_is_reported_with_its_field_and_the_models_reason(
    line: str, field: str, expected: str, got: str
) -> None:
    o = outcome(WRITE + line + "\n")
    assert (o.status, o.line, o.field, o.expected, o.got) == ("failed", 10, field, expected, got)
    assert o.sent.startswith("> P. 1:101(100) ack 1")
    assert line in o.message
    assert "sent at 0.010351 s by tcp_" in o.why
    assert "(net/ipv4/tcp_output.c:tcp_" in o.why
    assert "socket: ESTABLISHED, Open; cwnd 10" in o.why


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("+0 read(4, ..., 10) = 5", "expected 5"),
        ("+0 read(3, ..., 10) = -1 EAGAIN (...)", "errno is ENOTCONN, expected EAGAIN"),
        ("+0 read(9, ..., 10) = 0", "the result is -1 EBADF"),
        ("+0 getsockopt(4, SOL_SOCKET, SO_ERROR, [5], [4]) = 0", "the value is [0]"),
        ("+0 %{ assert tcpi_state == TCP_CLOSE }%", "assert tcpi_state == TCP_CLOSE does not hold: tcpi_state = 1"),
        ("+0 `sysctl -q net.ipv4.no_such_thing=1`", "no_such_thing"),
        ("+0 `nstat | grep TcpActiveOpens | grep -q ' 7 '`", "TcpActiveOpens is not 7"),
        ("+0 > . 1:1(0) ack 1", "the model sent nothing"),
    ],
)
def test_a_wrong_result_is_reported_with_its_line(line: str, said: str) -> None:
    o = outcome(OPEN + "+0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0\n" + line + "\n")
    assert (o.status, o.line) == ("failed", 10)
    assert said in o.message


def test_a_call_that_goes_on_blocking_is_reported() -> None:
    o = outcome(OPEN + "+0...0.1 read(4, ..., 10) = 10\n")
    assert (o.status, o.line) == ("failed", 9)
    assert "read still blocks" in o.message


def test_a_call_that_would_block_for_ever_is_reported() -> None:
    o = outcome(OPEN + "+0 read(4, ..., 10) = 10\n")
    assert (o.status, o.line) == ("failed", 9)
    assert "read blocks" in o.message


def test_a_packet_that_never_comes_is_reported_however_long_the_script_would_wait() -> None:
    o = outcome(OPEN + "* > . 1:1(0) ack 1\n")
    assert (o.status, o.line) == ("failed", 9)
    assert "the model sent nothing" in o.message


def test_a_blocking_call_returns_when_its_data_comes() -> None:
    text = OPEN + "+0...0.1 read(4, ..., 10) = 10\n+.1 < P. 1:11(10) ack 1 win 65535\n+0 > . 1:1(0) ack 11\n"
    assert outcome(text).status == "passed"
    late = outcome(text.replace("0...0.1", "0...0.05"))
    assert late.field == "time"
    assert "read returned at 0.110402 s, expected at 0.060351 s" in late.message


def test_time_passes_only_in_the_script() -> None:
    o = outcome(OPEN + "+86400 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 1\n")
    assert o.status == "passed", o.message


def test_the_same_script_gives_the_same_run() -> None:
    setting = Setting(remember=True)
    first, second = (outcome(WRITE + "+0 > P. 1:101(100) ack 1\n", setting=setting) for _ in range(2))
    assert first == second
    assert [p.text for p in first.packets][-1].startswith("> P. 1:101(100) ack 1")
    assert first.counters["TcpPassiveOpens"] == 1


def test_differences_that_are_not_fatal_are_noted() -> None:
    o = outcome("--non_fatal=packet\n--non_fatal=syscall\n" + WRITE + "+0 > P. 1:101(100) ack 7\n+0 close(4) = 5\n")
    assert o.status == "passed"
    assert "ack is 1, expected 7" in o.message
    assert "expected 5" in o.message


def test_a_dry_run_runs_nothing() -> None:
    assert outcome("--dry_run\n" + OPEN + "+0 > P. 1:101(100) ack 7\n").status == "passed"


def test_commands_after_the_end_run_even_where_the_script_fails() -> None:
    set_one = OPEN.replace("`sysctl", "`./set_sysctls.py /proc/sys/net/ipv4/tcp_retries2=3\nsysctl")
    restore = "`/tmp/sysctl_restore_${PPID}.sh\nsysctl net.ipv4.no_such_thing`\n"
    assert outcome(set_one + "+0 close(4) = 0\n" + restore).line == 11
    assert outcome(set_one + "+0 close(4) = 1\n" + restore).line in (10, 11)


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("+0 `touch /tmp/x`", "refused", "not interpreted"),
        ("+0 %{ import os }%", "refused", "import"),
        ("+0 > ipv4 1.2.3.4 > 5.6.7.8 : . 1:1(0) ack 1", "refused", "tunnel device"),
        ("+0 < gre : . 1:1(0) ack 1 win 9", "refused", "the outermost header"),
        ("+0 < ipv4 1.2.3.4 > 5.6.7.8 : mpls (label 1, tc 0, [S], ttl 9) : . 1:1(0) ack 1 win 9", "refused", "MPLS"),
        ("+0 < encap psp spi 7 . 1:1(0) ack 1 win 9", "refused", "keys"),
        ("+0 socket(..., SOCK_RAW, IPPROTO_UDP) = 5", "unmodelled", "sockets of type 3"),
        ("+0 cap_set(CAP_EFFECTIVE, 99, CAP_CLEAR) = 0", "failed", "EINVAL"),
        ("+0 `echo 1 > /sys/module/tcp_bbr/parameters/x`", "unmodelled", "tcp_bbr"),
        ("+0 < . 1:1(0) ack 1 win 9 <nop,nop,TS val 1 ecr 1", "refused", "expected"),
    ],
)
def test_what_cannot_run_says_so_with_its_line(line: str, status: str, said: str) -> None:
    o = outcome(OPEN + line + "\n")
    assert (o.status, said in o.message) == (status, True), o.message


def test_a_sysctl_that_came_later_is_missing_in_an_older_kernel() -> None:
    text = "0 `sysctl -q net.ipv4.tcp_rto_min_us=5000`\n"
    assert outcome(text).status == "passed"
    assert "6.1 has none" in outcome(text, setting=Setting("6.1")).message


@pytest.mark.parametrize(
    ("length", "kernel", "size"),
    [
        (40, 612, 704 + 256),  # the small head cache
        (1500, 612, 2048 + 256),
        (10040, 612, 4096 + 256 + 8192),  # a page of head, an order-1 page behind it
        (40, 601, 512 + 256),
        (10040, 601, 16384 + 256),  # all in one head
    ],
)
def test_the_memory_of_a_packet_from_a_tun_device(length: int, kernel: int, size: int) -> None:
    assert rcvbuf.tun_layout(length, kernel)[0] == size


def test_a_device_without_tso_cuts_super_segments() -> None:
    whole = Packet(b"", b"", 1, 2, 100, 0, FIN | PSH | CWR, 5, 250, gso_size=100, gso_segs=3)
    parts = [(p.seq, p.len, p.flags) for p in cut(whole)]
    assert parts == [(100, 100, CWR), (200, 100, 0), (300, 50, FIN | PSH)]
