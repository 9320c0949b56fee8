"""Scripts on this machine's own kernel: the shipped ones pass, wrong ones are told apart; skipped without root."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance.live.pkt_kernel import KernelUnavailable, require_kernel, run_script
from conformance.pkt.outcome import Outcome
from conformance.pkt.variant import Variant, scripts_in

pytestmark = pytest.mark.live

FOLDER = Path(__file__).parent / "scripts" / "connection"
SCRIPTS = scripts_in((FOLDER,))
PATIENT = 50_000
"""us of tolerance: these tests are about what the kernel sends; a machine at work may be late."""

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


@pytest.fixture(scope="module", autouse=True)
def _kernel_or_skip() -> None:
    try:
        require_kernel()
    except KernelUnavailable as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def outcomes(_kernel_or_skip: None) -> dict[str, Outcome]:
    """Every shipped script on IPv4; they mostly wait, so several run at a time."""

    def run(path: Path) -> tuple[str, Outcome]:
        ((_, outcome),) = run_script(path, (Variant.IPV4,), tolerance_usecs=PATIENT)
        return path.stem, outcome

    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(run, SCRIPTS))


def outcome(tmp_path: Path, text: str, variant: Variant = Variant.IPV4) -> Outcome:
    """What a script's run gave."""
    path = tmp_path / "case.pkt"
    path.write_text(text)
    ((_, found),) = run_script(path, (variant,), tolerance_usecs=PATIENT)
    return found


@pytest.mark.parametrize("name", [p.stem for p in SCRIPTS])
def test_a_shipped_script_passes_on_this_kernel(outcomes: dict[str, Outcome], name: str) -> None:
    assert outcomes[name].status == "passed", outcomes[name].message


@pytest.mark.parametrize("variant", [Variant.IPV6, Variant.MAPPED])
def test_the_other_variants_run_the_same_script(tmp_path: Path, variant: Variant) -> None:
    found = outcome(tmp_path, OPEN + "+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 1\n", variant)
    assert found.status == "passed"


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
        ("+.5 > P. 1:101(100) ack 1", "time", "", ""),
    ],
)
def test_a_wrong_line_is_reported_with_its_field(
    tmp_path: Path, line: str, field: str, expected: str, got: str
) -> None:
    o = outcome(tmp_path, OPEN + "+0 write(4, ..., 100) = 100\n" + line + "\n")
    assert (o.status, o.line, o.field) == ("failed", 10, field)
    assert not expected or (o.expected, o.got) == (expected, got)
    assert o.sent.startswith("> P. 1:101(100) ack 1")
    assert line in o.message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("+0 read(4, ..., 10) = 5", "expected 5"),
        ("+0 read(3, ..., 10) = -1 EAGAIN (...)", "errno is ENOTCONN, expected EAGAIN"),
        ("+0 read(9, ..., 10) = 0", "the result is -1 EBADF"),
        ("+0 getsockopt(4, SOL_SOCKET, SO_ERROR, [5], [4]) = 0", "the value is [0]"),
        ("+0 %{ assert tcpi_state == TCP_CLOSE }%", "assert tcpi_state == TCP_CLOSE does not hold: tcpi_state = 1"),
        ("+0 `sysctl -q net.ipv4.no_such_thing=1`", "no_such_thing"),
        ("+0 > . 1:1(0) ack 1", "the kernel sent nothing"),
    ],
)
def test_a_wrong_result_is_reported_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    o = outcome(tmp_path, OPEN + "+0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0\n" + line + "\n")
    assert (o.status, o.line) == ("failed", 10)
    assert said in o.message


def test_a_call_that_goes_on_blocking_is_reported(tmp_path: Path) -> None:
    o = outcome(tmp_path, OPEN + "+0...0.1 read(4, ..., 10) = 10\n")
    assert (o.status, o.line) == ("failed", 9)
    assert "read still blocks" in o.message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('+0 open("/etc/hostname", O_RDONLY) = 5', "only files under /tmp"),
        ("+0 `touch /tmp/x`", "not interpreted"),
        ("+0 `sysctl -q kernel.core_pattern=x`", "belongs to the whole machine"),
        ("+0 `echo 1 > /sys/module/usbcore/parameters/quirks`", "no congestion control"),
        ("+0 read(4, ..., -1) = 5", "a buffer of -1 bytes"),
        ("+0 read(4, 94000000000, 10) = 5", "a buffer is ... or NULL"),
        ("+0 readv(4, [{..., 10}], 5) = 5", "a count of 5"),
        ("+0 fcntl(4, F_SETOWN, 1) = 0", "fcntl has"),
        ("+0 ioctl(4, FIOSETOWN, [1]) = 0", "ioctl has"),
        ("+0 socket(AF_UNIX, SOCK_STREAM, 0) = 5", "family 1"),
        ("+0 %{ import os }%", "import"),
        ("+0 > ipv4 1.2.3.4 > 5.6.7.8 : . 1:1(0) ack 1", "outer headers"),
        ("+0 < . 1:1(0) ack 1 win 9 <nop,nop,TS val 1 ecr 1", "expected"),
    ],
)
def test_what_cannot_run_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    o = outcome(tmp_path, OPEN + line + "\n")
    assert o.status == "refused"
    assert said in o.message


def test_files_and_sysctls_of_a_run_stay_in_it(tmp_path: Path) -> None:
    before = Path("/proc/sys/net/ipv4/tcp_retries2").read_text()
    text = (
        "`sysctl -q net.ipv4.tcp_retries2=3`\n"
        "0 `dd if=/dev/zero of=/tmp/refmodel_run_test bs=1 count=10 status=none`\n"
        '+0 open("/tmp/refmodel_run_test", O_RDONLY) = 5\n'
        "+0 read(5, ..., 100) = 10\n"
    )
    assert outcome(tmp_path, text).status == "passed"
    assert Path("/proc/sys/net/ipv4/tcp_retries2").read_text() == before
    assert not Path("/tmp/refmodel_run_test").exists()
    assert not Path("/sys/class/net/tun0").exists()
    assert os.path.samefile("/proc/self/ns/net", "/proc/thread-self/ns/net")
