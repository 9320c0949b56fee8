"""What each command prints, writes and ends with."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import conformance.check.capture
import conformance.live.record
from conformance.live.errors import LabUnavailable, ScenarioFailed
from conformance.trace import load
from refmodel.engine.prove import prove
from tests.cli import CAPTURES, interrupting, said, told

COMMANDS = ("check", "record", "explore", "prove", "rules")
OPEN = CAPTURES / "tcp-active-open.pcapng"


def sigint() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def keyboard() -> None:
    raise KeyboardInterrupt


# ---------------------------------------------------------------- all commands


def test_the_bare_command_names_its_parts() -> None:
    text = told("--help")
    assert all(c in text for c in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_exit_statuses(command: str) -> None:
    text = told(command, "--help")
    assert f"  refmodel {command}" in text
    assert "Exit status: 0 all conform or hold" in text
    assert "--json" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_a_usage_error(command: str) -> None:
    assert "No such option" in told(command, "--nope", status=2)


def test_the_command_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "conformance.cli", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert re.fullmatch(r"refmodel, version \d+\.\d+\.\d+\n", done.stdout)


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    program = f"{sys.executable} -m conformance.cli rules --properties | head -n 1"
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


# ---------------------------------------------------------------- check


def test_check_tells_how_a_capture_was_judged() -> None:
    text = told("check", OPEN)
    assert "tcp-active-open.pcapng" in text
    assert "conforms" in text


def test_check_names_the_rule_behind_every_frame_when_asked() -> None:
    text = told("check", "--verbose", OPEN)
    assert "tcp_connect" in text
    assert "net/ipv4/" in text


def test_check_speaks_json() -> None:
    (report,) = said("check", OPEN)
    assert report["frames"] > 0
    assert {v["outcome"] for v in report["verdicts"]} == {"conforms"}
    assert all(label["by"] for v in report["verdicts"] for label in v["labels"])


def test_check_writes_a_report(tmp_path: Path) -> None:
    told("check", OPEN, "--report", tmp_path / "report")
    assert "conforms" in (tmp_path / "report" / "summary.txt").read_text()
    assert (tmp_path / "report" / "verdicts.json").read_bytes().startswith(b"[")


def test_check_counts_when_there_are_many() -> None:
    files = sorted(CAPTURES.glob("tcp-refused*.pcapng"))
    assert f"{len(files)} captures" in told("check", *files)


def test_check_interrupted_reports_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    real = conformance.check.capture.check_capture
    monkeypatch.setattr(conformance.check.capture, "check_capture", interrupting(real, 1, sigint))
    files = [CAPTURES / f"{n}.pcapng" for n in ("tcp-active-open", "tcp-refused", "tcp-urgent")]
    text = told("check", "--jobs", 1, *files, status=130)
    assert "tcp-active-open.pcapng" in text
    assert "tcp-urgent.pcapng" not in text
    assert "judged as far as frame 0" in text
    assert "interrupted: 2 of 3 captures were checked" in text


# ---------------------------------------------------------------- explore


def test_explore_lists_the_systems_with_their_bounds() -> None:
    text = told("explore", "--list")
    assert "tcp-pair: Two TCP machines" in text
    assert "bounds: writes=1" in text
    assert said("explore", "--list")["tcp-pair"]["bounds"]["capacity"] == 3


def test_explore_says_what_it_covered() -> None:
    text = told("explore", "tcp-pair", "--states", 3000)
    assert "not all: the limit was reached" in text
    assert "nothing wrong found" in text
    assert "a->b: at most 3 messages, loses, duplicates, reorders" in text


def test_explore_exhausts_a_small_bound_and_answers_its_goal() -> None:
    text = told("explore", "nic-vector")
    assert "all states within the bound" in text
    assert "liveness: not vector.pending and not vector.masked" in text


def test_a_goal_that_was_not_decided_is_said() -> None:
    text = told("explore", "tcp-transfer", "--states", 2000, status=3)
    assert "undecided: can every state still reach" in text


def test_a_counterexample_is_a_numbered_run_and_a_ladder(tmp_path: Path) -> None:
    wanted = "a.type != 'Sock' or a.state != FIN_WAIT1"
    text = told("explore", "tcp-pair", "--property", wanted, "--save", tmp_path, status=1)
    assert "property: not always: a.type != 'Sock' or a.state != FIN_WAIT1" in text
    assert "  1. a: connect()\n     rule tcp.calls.connect: connect() sends a SYN." in text
    assert "state CLOSE -> SYN_SENT" in text
    assert re.search(r"\|-+ SYN seq \d+ win \d+ -+>\|", text)
    assert re.search(r"\|<-+ SYN\+ACK seq \d+ ack \d+ win \d+ -+\|", text)


def test_a_counterexample_is_saved_as_a_trace_and_a_script(tmp_path: Path) -> None:
    told("explore", "tcp-pair", "--property", "b.type != 'Tw'", "--save", tmp_path, status=1)
    trace = load(tmp_path / "tcp-pair-b-type-tw.json")
    assert trace.parts == ("a", "b")
    assert trace.labels[0].rule == "tcp.calls.connect"
    script = (tmp_path / "tcp-pair-b-type-tw.pkt").read_text()
    assert "+0 listen(3, 1) = 0" in script


def test_the_json_of_a_counterexample_carries_the_trace(tmp_path: Path) -> None:
    result = said("explore", "tcp-pair", "--property", "a.type != 'Sock' or a.err == 0", "--save", tmp_path, status=1)
    (finding,) = result["findings"]
    assert finding["kind"] == "property"
    assert finding["trace"]["labels"][0]["event"] == "connect()"
    assert [Path(p).suffix for p in result["saved"]] == [".json", ".pkt"]
    assert "tcp.calls.connect" in result["rules"]


def test_the_fin_that_is_consumed_twice_is_found_from_the_start_of_a_connection(tmp_path: Path) -> None:
    text = told("explore", "tcp-any-peer", "--property", "tcp.transitions.fin_once", "--save", tmp_path, status=1)
    assert "After the peer's FIN rcv_nxt never moves again." in text
    assert "rcv_nxt 302 -> 303" in text
    script = (tmp_path / "tcp-any-peer-transitions-fin-once.pkt").read_text().splitlines()
    assert script[-4:] == [
        "+.01 < F. 1:1(0) ack 1 win 4096",
        "* > . 1:1(0) ack 2",
        "+.01 < F. 1:2(1) ack 1 win 4096",
        "* > . 1:1(0) ack 3",
    ]


def test_two_kernels_are_told_apart(tmp_path: Path) -> None:
    text = told("explore", "tcp-pair", "--difference", "6.1", "6.18", "--save", tmp_path, status=1)
    assert "left.state SYN_SENT -> CLOSE" in text
    assert "6.1 against 6.18" in text


def test_several_findings_are_told_when_asked(tmp_path: Path) -> None:
    args = ("--property", "a.type != 'Tw'", "--property", "b.type != 'Tw'", "--findings", 2, "--states", 60_000)
    result = said("explore", "tcp-pair", *args, "--save", tmp_path, status=1)
    assert len(result["findings"]) == 2


def test_a_system_without_tcp_saves_no_script(tmp_path: Path) -> None:
    told("explore", "nic-vector", "--property", "not vector.masked", "--save", tmp_path, status=1)
    assert [p.suffix for p in tmp_path.iterdir()] == [".json"]


ASKED: list[object] = []


def ends_it(a: object) -> bool:
    """Ctrl-C comes when this is asked for the first time."""
    if not ASKED:
        ASKED.append(a)
        sigint()
    return True


def test_an_interrupted_search_is_kept_and_goes_on(tmp_path: Path) -> None:
    kept = tmp_path / "search"
    search = ("explore", "tcp-pair", "--states", 3000, "--property", "tests.test_cli:ends_it")
    ASKED.clear()
    text = told(*search, "--checkpoint", kept, status=130)
    assert f"interrupted; go on with --resume --checkpoint {kept}" in text
    assert "interrupted after 0 whole levels" in text
    assert said(*search, "--checkpoint", kept, "--resume")["states"] == said(*search)["states"]


def test_a_search_that_was_stopped_by_its_limit_goes_on(tmp_path: Path) -> None:
    kept = tmp_path / "search"
    told("explore", "nic-napi", "--depth", 3, "--checkpoint", kept)
    assert "all states within the bound" in told("explore", "nic-napi", "--checkpoint", kept, "--resume")


# ---------------------------------------------------------------- prove


def test_prove_says_what_was_asked_and_that_it_holds() -> None:
    text = told("prove", "nic_vector")
    assert re.search(r"nic_vector: \d+ rules in \d+ cells, \d+ paths, \d+ obligations", text)
    assert "total, pairwise disjoint, all ranges kept" in text
    assert "\n  proved\n" in text


def test_prove_shows_each_property_when_asked() -> None:
    text = told("prove", "--verbose", "nic_vector")
    assert "invariant nic." in text
    assert "by induction" in text


def test_prove_speaks_json() -> None:
    (report,) = said("prove", "nic_vector")
    assert report["ok"] is True
    assert report["failures"] == []


def test_prove_lists_the_machines() -> None:
    assert "tcp" in told("prove", "--list")
    assert "tcp" in said("prove", "--list")


def test_prove_takes_a_part() -> None:
    report = said("prove", "tcp", "--only", "Listener+ReqAdded")[0]
    assert report["cells"] == 1


def test_prove_interrupted_reports_what_was_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["refmodel.engine.prove"]
    monkeypatch.setattr(module, "prove", interrupting(prove, 1, keyboard))
    text = told("prove", "nic_vector", "tcp", status=130)
    assert "nic_vector" in text
    assert "interrupted: 1 of 2 machines were decided" in text


# ---------------------------------------------------------------- rules


def test_rules_are_sentences_with_their_source() -> None:
    text = told("rules", "tcp.calls.connect")
    assert "connect() sends a SYN." in text
    assert "net/ipv4/tcp_ipv4.c:tcp_v4_connect" in text or "net/ipv4/" in text


def test_rules_tell_properties_too_when_asked() -> None:
    kinds = {r["kind"] for r in said("rules", "tcp", "--properties")}
    assert kinds == {"rule", "step", "invariant", "transition", "assumption"}


# ---------------------------------------------------------------- record


def test_record_lists_the_scenarios() -> None:
    assert "tcp_active_open" in told("record", "--list")
    assert "tcp_active_open" in said("record", "--list")


def recorded(name: str, folder: Path, suffix: str) -> Path:
    return folder / f"{name}{suffix}.pcapng"


def test_record_names_what_it_wrote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(conformance.live.record, "record_case", recorded)
    assert f"recorded {tmp_path}/tcp_refused-x.pcapng" in told(
        "record", "tcp_refused", "--out", tmp_path, "--suffix", "-x"
    )


def test_record_says_what_would_help_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_root(name: str, folder: Path, suffix: str) -> Path:
        raise LabUnavailable("recording needs root: it makes network namespaces and taps interfaces")

    monkeypatch.setattr(conformance.live.record, "record_case", no_root)
    assert "recording needs root" in told("record", "tcp_refused", "--out", tmp_path, status=2)


def test_a_scenario_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def first_fails(name: str, folder: Path, suffix: str) -> Path:
        if name == "tcp_refused":
            raise ScenarioFailed("tcp_refused: a segment SA came, expected RA")
        return recorded(name, folder, suffix)

    monkeypatch.setattr(conformance.live.record, "record_case", first_fails)
    result = said("record", "tcp_refused", "tcp_active_open", "--out", tmp_path, status=1)
    assert list(result["recorded"]) == ["tcp_active_open"]


def test_record_interrupted_says_what_was_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(conformance.live.record, "record_case", interrupting(recorded, 1, keyboard))
    text = told("record", "tcp_refused", "tcp_active_open", "--out", tmp_path, status=130)
    assert "recorded" in text
    assert "interrupted: 1 of 2 scenarios were recorded" in text
