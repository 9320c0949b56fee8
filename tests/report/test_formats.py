"""JSON, JUnit, SARIF and GitHub annotations of a run, read back by other readers than those that wrote them."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

import refmodel.layers  # noqa: F401
from conformance.check.verdict import FileReport, FrameLabel, Outcome
from conformance.report import formats
from conformance.report.clean import printable, raw
from conformance.report.formats import ExtraMissing, rendered, require
from conformance.report.github import command
from conformance.report.sarif import fingerprint, uri
from conformance.report.source import citation, entry, told
from tests import cli
from tests.report.samples import BAD, CONNECT, DIVERGING, EMPTY, GOOD, REPORTS, RUN, TEXT, UNREADABLE

OPEN = cli.CAPTURES / "tcp-active-open.pcapng"


# ---------------------------------------------------------------- labels in words


def test_a_label_says_its_rule_its_sentence_where_it_stands_and_why() -> None:
    said = told(FrameLabel(1, "a", CONNECT, note="connect()"))
    assert said.startswith("tcp.calls.connect — ")
    assert "(net/ipv4/tcp_ipv4.c:tcp_v4_connect, RFC 9293 3.10.1); connect()" in said


def test_a_kernel_functions_bare_name_finds_its_step() -> None:
    step = entry("tcp_send_loss_probe")
    assert step is not None
    assert "net/ipv4/tcp_output.c:tcp_send_loss_probe" in step.kernel
    assert citation("tcp_send_loss_probe") == citation(step.id)


def test_a_label_that_nothing_is_known_of_is_its_own_name() -> None:
    assert told(FrameLabel(1, "a", "nobody.knows")) == "nobody.knows"


def test_a_label_of_no_rule_is_its_note() -> None:
    assert told(FrameLabel(1, "b", "", note="crafted, not judged")) == "crafted, not judged"


# ---------------------------------------------------------------- printable texts


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("é¼漢", "é¼漢"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb", "a\\nb"),
        ("\udcff", "\\udcff"),
        ("\ufffe", "\\ufffe"),
    ],
)
def test_what_cannot_be_printed_stands_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


# ---------------------------------------------------------------- JSON


def test_json_holds_every_verdict_and_reads_back() -> None:
    assert msgspec.json.decode(rendered("json", RUN), type=list[FileReport]) == RUN


# ---------------------------------------------------------------- JUnit


def cases(reports: list[FileReport]) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(rendered("junit", reports))
    return {f"{c.get('classname')}: {c.get('name')}": c for c in root.iter("testcase")}


def test_junit_has_a_suite_a_capture_and_a_case_a_subject() -> None:
    root = ElementTree.fromstring(rendered("junit", RUN))
    assert [s.get("name") for s in root.iter("testsuite")] == [r.path for r in RUN]
    totals = {k: root.get(k) for k in ("tests", "failures", "errors", "skipped")}
    assert totals == {"tests": "7", "failures": "1", "errors": "1", "skipped": "3"}


def test_junit_a_divergence_is_a_failure_with_the_whole_verdict() -> None:
    failure = cases([BAD])["captures/bad run.pcap: tcp 10.9.0.1:3 > 10.9.0.2:2"].find("failure")
    assert failure is not None
    assert failure.get("message") == "Linux does not send #7"
    assert "near miss tcp.calls.connect (net/ipv4/tcp_ipv4.c:tcp_v4_connect" in (failure.text or "")


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("captures/bad run.pcap: neigh a: 10.9.0.2", "more guesses than are followed"),
        ("captures/bad run.pcap: other frames of other layers", "3 frames of LLDP"),
        ("empty.pcap: capture", "nothing to judge"),
    ],
)
def test_junit_what_is_not_decided_is_skipped_with_its_reason(case: str, reason: str) -> None:
    skipped = cases(RUN)[case].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == reason


def test_junit_what_cannot_be_read_is_an_error() -> None:
    error = cases([UNREADABLE])["notes.pcap: reading"].find("error")
    assert error is not None
    assert error.get("message") == UNREADABLE.error


# ---------------------------------------------------------------- SARIF


def log(reports: list[FileReport]) -> Any:
    return json.loads(rendered("sarif", reports))["runs"][0]


def test_sarif_has_a_result_for_each_subject_that_does_not_conform() -> None:
    results = log(RUN)["results"]
    assert [(x["ruleId"], x["kind"], x["level"]) for x in results] == [
        (CONNECT, "fail", "error"),
        ("refmodel.inconclusive", "open", "none"),
        ("refmodel.not-modelled", "notApplicable", "none"),
    ]


def test_sarif_a_result_names_its_frame_file_and_subject() -> None:
    where = log([BAD])["results"][0]["locations"][0]
    assert where["physicalLocation"] == {
        "artifactLocation": {"uri": "captures/bad%20run.pcap"},
        "region": {"startLine": 7},
    }
    assert [x["name"] for x in where["logicalLocations"]] == ["10.9.0.1:3 > 10.9.0.2:2", "frame 7"]


def test_sarif_rules_carry_their_sentence_and_citations() -> None:
    run = log([BAD])
    rule = run["tool"]["driver"]["rules"][run["results"][0]["ruleIndex"]]
    known = entry(CONNECT)
    assert known is not None
    assert rule["id"] == CONNECT
    assert rule["shortDescription"]["text"] == known.says
    assert rule["properties"]["citations"] == ["net/ipv4/tcp_ipv4.c:tcp_v4_connect", "RFC 9293 3.10.1"]
    assert rule["help"]["text"] == "Source: net/ipv4/tcp_ipv4.c:tcp_v4_connect, RFC 9293 3.10.1."


def test_sarif_files_a_divergence_under_the_constraint_that_it_violates() -> None:
    d = DIVERGING.divergence
    assert d is not None
    verdict = replace(DIVERGING, divergence=replace(d, constraint="beyond-window"))
    run = log([FileReport("x.pcap", "6.12", 9, [verdict])])
    assert [x["ruleId"] for x in run["results"]] == ["beyond-window"]
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["id"] == "beyond-window"
    assert "net/ipv4/tcp_output.c:tcp_snd_wnd_test" in rule["properties"]["citations"]
    assert "violates beyond-window: " in run["results"][0]["message"]["text"]


def test_sarif_fingerprints_follow_the_fault_and_not_the_frame() -> None:
    d = DIVERGING.divergence
    assert d is not None
    moved = replace(DIVERGING, divergence=replace(d, frame=9, time=3.0))
    other = replace(DIVERGING, divergence=replace(d, host="b"))
    assert fingerprint("x/bad.pcap", DIVERGING) == fingerprint("y/bad.pcap", moved)
    assert fingerprint("x/bad.pcap", DIVERGING) != fingerprint("x/bad.pcap", other)


def test_sarif_says_what_could_not_be_read() -> None:
    (invocation,) = log([UNREADABLE])["invocations"]
    assert invocation["executionSuccessful"] is False
    assert [n["message"]["text"] for n in invocation["toolExecutionNotifications"]] == [UNREADABLE.error]


def check_sarif(text: str) -> None:
    """Holds a log against a model that was generated from the published schema."""
    model = pytest.importorskip("pydantic_sarif.model", reason="pydantic-sarif is not installed")
    model.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate_json(text)
    run = json.loads(text)["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert len({r["id"] for r in rules}) == len(rules)
    for x in run["results"]:
        assert rules[x["ruleIndex"]]["id"] == x["ruleId"]
        assert re.fullmatch("[0-9a-f]{64}", x["partialFingerprints"]["subjectAndRule/v1"])


def test_sarif_is_valid() -> None:
    check_sarif(rendered("sarif", RUN))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b.pcap", "a/b.pcap"),
        ("/tmp/a b", "file:///tmp/a%20b"),
        ("\udcff.pcap", "%FF.pcap"),
        ("c:x", "c%3Ax"),
        ("%41", "%2541"),
    ],
)
def test_sarif_paths_are_uri_references_of_their_bytes(path: str, expected: str) -> None:
    assert uri(path) == expected


# ---------------------------------------------------------------- GitHub


def test_github_annotates_what_does_not_conform() -> None:
    lines = rendered("github", RUN).splitlines()
    assert [x.split(" ")[0] for x in lines] == ["::warning", "::error", "::warning", "::notice", "::error"]
    assert lines[1].startswith(
        "::error file=captures/bad run.pcap,title=tcp 10.9.0.1%3A3 > 10.9.0.2%3A2%3A diverges::"
        "frame 7 at 1.500000 s from 10.9.0.1:3: Linux does not send #7%0Aallowed then: "
    )


def test_github_escapes_what_would_end_a_property_or_a_command() -> None:
    assert command("error", "a,b:c%", "t\r\n", "100%\nnext") == "::error file=a%2Cb%3Ac%25,title=t%0D%0A::100%25%0Anext"


# ---------------------------------------------------------------- whatever the capture says


def runner_reads(line: str) -> tuple[str, dict[str, str], str]:
    """What GitHub's runner makes of a line, after its documentation: command, properties, message."""
    found = re.fullmatch(r"::([a-z]+) ([^\n\r]*?)::([^\n\r]*)", line)
    assert found is not None, line
    pairs = dict(p.split("=", 1) for p in found[2].split(","))
    return found[1], pairs, found[3]


@settings(deadline=None, max_examples=60)
@given(REPORTS)
def test_no_text_of_a_capture_breaks_a_format(reports: list[FileReport]) -> None:
    for name in ("json", "junit", "sarif", "github"):
        rendered(name, reports).encode("utf-8")
    assert len(json.loads(rendered("json", reports))) == len(reports)
    root = ElementTree.fromstring(rendered("junit", reports))
    assert len(root.findall("testsuite")) == len(reports)
    assert len(list(root.iter("failure"))) == sum(v.outcome is Outcome.DIVERGES for r in reports for v in r.verdicts)
    check_sarif(rendered("sarif", reports))
    for line in rendered("github", reports).split("\n")[:-1]:
        level, properties, _ = runner_reads(line)
        assert level in ("error", "warning", "notice")
        assert set(properties) == {"file", "title"}


@given(TEXT)
def test_a_files_uri_gives_its_bytes_back(name: str) -> None:
    back = unquote(urlsplit(uri(name)).path, "latin-1").encode("latin-1")
    assert back.removeprefix(b"./") == raw(name).removeprefix(b"./")


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize("kind", ["json", "junit", "sarif", "github"])
def test_check_prints_one_document_in_the_format_that_is_asked_for(kind: str) -> None:
    result = cli.refmodel("check", "--format", kind, OPEN)
    assert result.exit_code == 0
    text = result.stdout
    if kind == "junit":
        assert ElementTree.fromstring(text).get("failures") == "0"
    elif kind == "github":
        assert text == ""
    else:
        assert json.loads(text)


def test_check_reports_a_capture_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    odd = Path(str(tmp_path) + "/\udcff\x1b.pcapng")
    odd.write_bytes(OPEN.read_bytes())
    assert "\\udcff\\x1b.pcapng" in cli.told("check", odd, "--report", tmp_path / "report")


def test_a_format_without_its_library_ends_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.FORMATS, "junit", ("conformance.report.junit", "junit", "no_such_library"))
    with pytest.raises(ExtraMissing, match=r"pip install 'refmodel\[report\]'"):
        require("text", "junit")
    assert "pip install" in cli.told("check", "--format", "junit", OPEN, status=2)


def test_an_empty_run_is_a_document_too() -> None:
    assert json.loads(rendered("json", [])) == []
    assert log([])["results"] == []
    assert cases([]) == {}
    assert rendered("github", [GOOD, EMPTY]) == ""
