"""The lab and the recorder on this machine's own kernel; skipped where root or a tool is missing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.live import record
from conformance.live.errors import LabUnavailable, ScenarioFailed, UnknownScenario
from conformance.live.kernel import NetNamespace
from conformance.live.lab import Lab, require_lab
from conformance.live.scenarios.registry import SCENARIOS, Scenario, find, load
from conformance.live.sidecar import read
from conformance.pcap import Reader

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def _lab_or_skip() -> None:
    try:
        require_lab("nft")
    except LabUnavailable as e:
        pytest.skip(str(e))


@pytest.fixture
def odd() -> Iterator[dict[str, Scenario]]:
    """The registry, into which a test may put scenarios of its own."""
    before = dict(load())
    yield SCENARIOS
    SCENARIOS.clear()
    SCENARIOS.update(before)


def netns_of(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def tcpdumps_of(parent: int) -> set[str]:
    """The ids of the tcpdump processes that `parent` started."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        if status.startswith("Name:\ttcpdump\n") and f"\nPPid:\t{parent}\n" in status:
            found.add(pid)
    return found


def test_a_thread_comes_back_from_a_namespace() -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    ns = NetNamespace()
    with ns.inside():
        assert os.readlink("/proc/thread-self/ns/net") != before
    assert os.readlink("/proc/thread-self/ns/net") == before
    ns.close()
    ns.close()


def test_a_thread_comes_back_after_an_exception_too() -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    ns = NetNamespace()
    with pytest.raises(ZeroDivisionError), ns.inside():
        1 / 0  # noqa: B018
    assert os.readlink("/proc/thread-self/ns/net") == before
    ns.close()


def test_hosts_reach_each_other_and_log_what_they_did() -> None:
    with Lab() as lab:
        server = lab["b"].server()
        client = lab["a"].socket().connect(lab["b"], 8080)
        child = server.accept()
        client.send(5)
        child.recv_all(5)
        client.close()
        child.eof()
        port = client.host.calls[1].result.split(":")[-1]
    assert [c.call for c in lab["a"].calls] == [
        "socket(AF_INET, SOCK_STREAM)",
        "connect(3, 10.9.0.2:8080)",
        "send(3, 5)",
        "close(3)",
    ]
    assert [c.result for c in lab["b"].calls][-3:] == [f"4 10.9.0.1:{port}", "5", "0"]
    assert all(c.time <= c.returned for c in lab["a"].calls + lab["b"].calls)


def test_a_call_that_fails_unexpectedly_says_which_and_how() -> None:
    with (
        Lab() as lab,
        pytest.raises(ScenarioFailed, match=r"a: connect\(3, 10\.9\.0\.2:8080\) failed with ECONNREFUSED"),
    ):
        lab["a"].socket().connect(lab["b"], 8080)


def test_a_call_that_succeeds_unexpectedly_says_so() -> None:
    with Lab() as lab:
        lab["b"].server()
        with pytest.raises(ScenarioFailed, match="expected ECONNREFUSED"):
            lab["a"].socket().connect(lab["b"], 8080, fails="ECONNREFUSED")


def test_a_call_that_still_blocks_is_given_up() -> None:
    with Lab() as lab:
        server = lab["b"].server()
        with pytest.raises(ScenarioFailed, match="still blocks after"):
            lab.go(server.accept).wait(0.2)


def test_a_sysctl_that_the_kernel_lacks_is_named() -> None:
    with Lab() as lab, pytest.raises(ScenarioFailed, match=r"no sysctl net\.ipv4\.tcp_cleverness"):
        lab["a"].set_sysctl("net.ipv4.tcp_cleverness", 1)


def test_sysctls_of_the_lab_stay_in_the_lab() -> None:
    path = Path("/proc/sys/net/ipv4/tcp_syn_retries")
    before = path.read_text()
    with Lab(sysctls={"a": {"net.ipv4.tcp_syn_retries": 3}}) as lab:
        with lab["a"].netns.inside():
            assert path.read_text().strip() == "3"
        with lab["b"].netns.inside():
            assert path.read_text().strip() != "3"
    assert path.read_text() == before


def test_a_recorded_case_has_its_frames_its_calls_and_its_counters(tmp_path: Path) -> None:
    path = record.record_case("tcp-refused", tmp_path, "-here")
    assert path == tmp_path / "tcp-refused-here.pcapng"
    s = read(tmp_path / "tcp-refused-here.toml")
    assert (s.case, s.scenario, s.layer) == ("tcp-refused-here", "tcp_refused", "tcp")
    assert s.kernel.release == os.uname().release
    assert s.calls[-1].result == "-1 ECONNREFUSED"
    assert s.host("a").mib_after["Tcp.AttemptFails"] == s.host("a").mib_before["Tcp.AttemptFails"] + 1
    assert [(n.host, n.state) for n in s.notifications if n.host == "a"] == [("a", "REACHABLE")]
    assert s.offloads == {"tx-checksum": False, "tso": False, "gso": False, "gro": False}
    with Reader(path) as reader:
        times = [f.time / 1e9 for f in reader]
    assert len(times) == 4  # ARP both ways, SYN, RST
    assert s.calls[0].time < times[0] < times[-1] < s.calls[-1].returned + 0.1


def test_an_expectation_that_is_not_met_leaves_no_file(tmp_path: Path, odd: dict[str, Scenario]) -> None:
    s = find("tcp_refused")
    odd["odd"] = Scenario("odd", "tcp", "Odd.", s.body, counts={"a.Tcp.ActiveOpens": 7})
    with pytest.raises(ScenarioFailed, match=r"odd: Tcp\.ActiveOpens of a rose by 1, expected 7"):
        record.record_case("odd", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_announcement_that_does_not_come_is_told(tmp_path: Path, odd: dict[str, Scenario]) -> None:
    s = find("tcp_refused")
    odd["odd"] = Scenario("odd", "tcp", "Odd.", s.body, announces=("a FAILED",))
    with pytest.raises(ScenarioFailed, match=r"a did not announce FAILED in its place; announced: REACHABLE"):
        record.record_case("odd", tmp_path)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_recorder_that_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "conformance.live.record", "tcp_connect_timeout", "--out", str(tmp_path)]
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        taps: set[str] = set()
        for _ in range(200):
            taps = tcpdumps_of(p.pid)
            if taps:
                break
            time.sleep(0.05)
        assert taps
        lab = {netns_of(pid) for pid in taps}
        time.sleep(0.3)
    finally:
        p.send_signal(how)
        p.wait(10)
    for _ in range(100):
        left = {netns_of(pid) for pid in filter(str.isdigit, os.listdir("/proc"))} & lab
        if not left:
            break
        time.sleep(0.05)
    assert not left
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_answered_with_its_neighbours() -> None:
    with pytest.raises(UnknownScenario, match=r"did you mean .*tcp_refused"):
        find("tcp-refussed")


@pytest.mark.parametrize("missing", ["ip", "tcpdump"])
def test_a_missing_tool_is_named_and_the_exit_status_is_2(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else which(name))
    assert record.main(["tcp_refused", "--out", str(tmp_path)]) == 2
    assert f"recording needs {missing}" in capsys.readouterr().err


def test_an_unknown_scenario_on_the_command_line_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert record.main(["no_such_thing"]) == 2
    assert "no scenario is named 'no_such_thing'" in capsys.readouterr().err


def test_without_names_the_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert record.main([]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(load())
    assert any(line.startswith("tcp_refused ") for line in listed)
