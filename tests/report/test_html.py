"""What the page holds: the run's verdicts, the frames that it draws, states and coverage."""

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

import refmodel.layers  # noqa: F401
from conformance.check.capture import check_capture
from conformance.check.verdict import Divergence, FileReport, FrameLabel, Outcome, Verdict
from conformance.report import drawing
from conformance.report.coverage import coverage
from conformance.report.drawing import drawings, room_for
from conformance.report.machine import MOVES, STATES, together, visits
from refmodel.rule import RULES, STEPS
from refmodel.tcp.state import St
from tests import cli
from tests.report.captures import connection, labels, many, write
from tests.report.samples import BAD, CONFORMING, REPORTS, RUN

pytest.importorskip("jinja2", reason="jinja2 is not installed (pip install 'refmodel[report]')")
from conformance.report.html import html

OPEN = cli.CAPTURES / "tcp-active-open.pcapng"


class Page(HTMLParser):
    """The page as a browser's parser takes it apart: its elements, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data

    @property
    def run(self) -> Any:
        return json.loads(self.scripts[0])

    @property
    def details(self) -> list[Any]:
        return [d for s in self.scripts[1:-1] for d in json.loads(zlib.decompress(base64.b64decode(s)))]


PLAIN = [t for t, _ in Page(html([])).tags]


# ---------------------------------------------------------------- the page itself


def test_the_page_loads_nothing() -> None:
    text = html(RUN)
    page = Page(text)
    assert not [a for _, a in page.tags if {"src", "href", "srcset", "action"} & set(a)]
    assert {t for t, _ in page.tags} & {"link", "img", "iframe", "object", "base"} == set()
    assert not re.search(r"@import|url\((?!#)", text)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_table_has_a_row_for_each_verdict() -> None:
    run = Page(html(RUN)).run
    verdicts = [(k, v) for k, r in enumerate(RUN) for v in r.verdicts]
    assert [(x[0], x[1], x[2], run["outcomes"][x[3]], x[4]) for x in run["rows"]] == [
        (k, v.layer, v.subject, v.outcome, v.reason) for k, v in verdicts
    ]
    assert [f[0] for f in run["files"]] == [r.path for r in RUN]


def test_a_subjects_details_hold_its_divergence_with_citations() -> None:
    detail = Page(html([BAD])).details[1]
    assert detail["divergence"]["what"] == "Linux does not send #7"
    assert detail["near"][0] == [
        "tcp.calls.connect",
        "net/ipv4/tcp_ipv4.c:tcp_v4_connect, RFC 9293 3.10.1",
        "ack 0 expected, 1 seen",
    ]


def test_a_capture_that_is_gone_is_shown_without_its_frames() -> None:
    detail = Page(html([BAD])).details[0]
    assert detail["drawing"]["frames"] == []
    assert [x[0] for x in detail["labels"]] == [1, 2]


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(REPORTS)
def test_no_text_of_a_capture_becomes_markup(reports: list[FileReport]) -> None:
    text = html(reports)
    text.encode("utf-8")
    page = Page(text)
    kinds = [t for t, a in page.tags if a.get("class") != "pack"]
    assert kinds == PLAIN
    assert len(page.run["rows"]) == sum(len(r.verdicts) for r in reports) == len(page.details)


# ---------------------------------------------------------------- frames


def test_a_connection_is_drawn_with_its_frames_in_order(tmp_path: Path) -> None:
    report = many(tmp_path / "x.pcapng", 3)
    found, _ = drawings(report)
    for k, d in enumerate(found):
        assert [f.number for f in d.frames] == list(range(8 * k + 1, 8 * k + 9))
        assert d.ends == report.verdicts[k].subject.split(" > ")
        assert (d.total, d.gaps) == (8, [])
        assert [f.source for f in d.frames] == [0, 1, 0, 0, 1, 0, 1, 0]
        assert d.frames[3].len == 100
        assert d.frames[0].wscale == 2


def test_two_connections_between_the_same_ports_are_told_apart(tmp_path: Path) -> None:
    ends = "10.0.0.1:5", "10.0.0.2:80"
    frames = connection(*ends, 1, isn=5) + connection(*ends, 2, isn=900_000)
    subject = " > ".join(ends)
    verdicts = [
        Verdict("tcp", subject, Outcome.CONFORMS, labels=labels(1, 1)),
        Verdict("tcp", subject, Outcome.DIVERGES, divergence=Divergence(15, 0.0, "a", "wrong")),
    ]
    path = write(tmp_path / "x.pcapng", frames)
    found, _ = drawings(FileReport(str(path), "6.12", len(frames), verdicts))
    assert [[f.number for f in d.frames] for d in found] == [list(range(1, 9)), list(range(9, 19))]


def test_of_a_long_connection_the_start_the_divergence_and_rare_steps_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "AROUND", 3)
    ends = "10.0.0.1:5", "10.0.0.2:80"
    frames = connection(*ends, 100)
    made = labels(1, 100, again=frozenset({154}))
    v = Verdict("tcp", " > ".join(ends), Outcome.DIVERGES, labels=made, divergence=Divergence(100, 0.0, "a", "wrong"))
    path = write(tmp_path / "x.pcapng", frames)
    ((d,), _) = drawings(FileReport(str(path), "6.12", len(frames), [v]), room=10)
    numbers = [f.number for f in d.frames]
    assert numbers[:10] == list(range(1, 11))
    assert set(range(97, 104)) <= set(numbers)
    assert 154 in numbers
    assert len(numbers) <= 2 * 10 + 2 * 3 + 1
    assert sum(n for _, n in d.gaps) == len(frames) - len(numbers)
    for at, left_out in d.gaps:
        before = numbers[at - 1] if at else 0
        after = numbers[at] if at < len(numbers) else len(frames) + 1
        assert after - before - 1 == left_out


def test_all_subjects_of_a_page_share_its_room() -> None:
    one = replace(CONFORMING, labels=tuple(FrameLabel(n, "a", "x") for n in range(1000)))
    few = [FileReport("x", frames=1000, verdicts=[one])]
    lots = [FileReport("x", frames=1000, verdicts=[one] * 10_000)]
    assert room_for(few) == drawing.PER_SUBJECT
    assert drawing.LEAST <= room_for(lots) < 40


def test_frames_that_are_no_tcp_say_who_asks_whom() -> None:
    report = check_capture(cli.CAPTURES / "tcp-refused.pcapng", labelled=True)
    found, _ = drawings(report)
    neighbours = [d for v, d in zip(report.verdicts, found, strict=True) if v.layer == "neigh"]
    said = {f.number: f.text for d in neighbours for f in d.frames}
    assert said == {1: "who has 10.9.0.2? tell 10.9.0.1", 2: "10.9.0.2 is at 02:00:00:00:00:02"}


# ---------------------------------------------------------------- states and coverage


def test_the_machine_has_the_kernels_states() -> None:
    assert set(STATES) == {s.name for s in St}
    assert len({m[:2] for m in MOVES}) == len(MOVES)


def test_moves_between_two_frames_and_those_passed_between_them_are_told_apart() -> None:
    seen = visits(labels(1, 2))
    made = ("SYN_SENT ESTABLISHED", "ESTABLISHED FIN_WAIT1", "FIN_WAIT1 TIME_WAIT", "SYN_RECV ESTABLISHED")
    assert seen.moves == dict.fromkeys(made, 1)
    assert seen.passed == {"ESTABLISHED CLOSE_WAIT": 1, "CLOSE_WAIT LAST_ACK": 1}
    assert seen.states["ESTABLISHED"] == 2
    assert together([seen, seen]).moves["SYN_SENT ESTABLISHED"] == 2


def test_labels_without_states_visit_none() -> None:
    assert visits((FrameLabel(1, "a", "x"), FrameLabel(2, "a", "x", state="REACHABLE"))).states == {}


def test_coverage_counts_rules_and_steps_and_names_those_that_never_fired() -> None:
    rows = {r.id: r for r in coverage([CONFORMING, CONFORMING])}
    assert (rows["tcp.calls.connect"].frames, rows["tcp.calls.connect"].subjects) == (2, 2)
    assert rows["neigh.output.first"].frames == 0
    assert set(RULES) | set(STEPS) <= set(rows)


def test_coverage_counts_a_kernel_functions_name_as_its_step() -> None:
    probe = FrameLabel(1, "a", "tcp_send_loss_probe", "tcp_send_loss_probe")
    v = Verdict("tcp", "x", Outcome.CONFORMS, labels=(probe,))
    (row,) = [r for r in coverage([v]) if r.frames]
    assert (row.id, row.frames, row.subjects) == ("tcp.whole.retransmit.tcp_send_loss_probe", 1, 1)


# ---------------------------------------------------------------- the command


def test_check_writes_the_page_into_the_report_and_prints_it(tmp_path: Path) -> None:
    cli.told("check", OPEN, "--report", tmp_path / "r")
    names = {p.name for p in (tmp_path / "r").iterdir()}
    assert names == {"annotated", "index.html", "junit.xml", "refmodel.sarif", "summary.txt", "verdicts.json"}
    printed = cli.refmodel("check", OPEN, "--format", "html").stdout
    assert Page(printed).run == Page((tmp_path / "r" / "index.html").read_text(encoding="utf-8")).run
