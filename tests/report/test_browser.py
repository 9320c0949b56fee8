"""The page in a browser: it opens without a network, and what is clicked and typed has its effect.

Needs Chromium and playwright. Nothing is asked about time: a page of 10,000 connections is usable because its document
stays small.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import refmodel.layers  # noqa: F401
from conformance.check.verdict import Divergence, FileReport, FrameLabel, NearMiss, Outcome, Verdict
from tests.report.captures import connection, labels, many, tcp, write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium is installed (apt-get install chromium)", allow_module_level=True)
pytest.importorskip("jinja2", reason="jinja2 is not installed (pip install 'refmodel[report]')")
sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install 'refmodel[test]')")
from conformance.report.html import html  # noqa: E402

ENDS = "10.0.0.1:5", "10.0.0.2:80"
HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"
LARGEST = 3_000  # elements that a document may have, whatever the run


class Opened:
    """A page that is open, and all that it asked for and complained of."""

    def __init__(self, context: Any, file: Path) -> None:
        self.page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("console", lambda m: self.complaints.append(m.text))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-ready]")

    def elements(self) -> int:
        return int(self.page.evaluate("document.querySelectorAll('*').length"))

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def texts(self, selector: str) -> list[str]:
        return [str(x) for x in self.page.locator(selector).all_inner_texts()]

    def tab(self, name: str) -> None:
        self.page.click(f"#tabs >> text='{name}'")

    def view(self, name: str) -> None:
        self.page.click(f".subtabs >> text='{name}'")

    def open(self, words: str) -> None:
        """Opens the first subject that has these words."""
        self.page.fill("#text", words)
        number = self.page.get_attribute("#rows .row >> nth=0", "data-subject")
        self.page.click("#rows .row >> nth=0")
        self.page.wait_for_selector(f"article[data-subject='{number}']")

    def range(self) -> dict[str, float]:
        self.page.wait_for_selector("canvas.plot[data-view]")
        found: dict[str, float] = json.loads(self.page.get_attribute("canvas.plot", "data-view"))
        return found


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    with sync.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(offline=True, viewport={"width": 1400, "height": 900})
        yield context
        context.close()
        browser.close()


def small_run(folder: Path) -> list[FileReport]:
    """A capture with a connection that probes, one that diverges and a hostile subject; a file that cannot be read."""
    again = tcp(*ENDS, 24, 4_294_967_000 + 1 + 400 & 0xFFFFFFFF, 8, 100)
    frames = connection(*ENDS, 5)
    frames.insert(13, again)
    probed = [x for x in labels(1, 5) if x.number < 14]
    probed.append(replace(probed[-1], number=14, host="a", by="tcp_send_loss_probe", note="2 srtt after the last"))
    probed += [replace(x, number=x.number + 1) for x in labels(1, 5) if x.number >= 14]
    other = "10.0.0.3:6", "10.0.0.2:80"
    first = len(frames) + 1
    frames += connection(*other, 150)
    d = Divergence(
        first + 260,
        1.5,
        "a",
        "Linux does not send this",
        ("nothing before 2.5 s",),
        (NearMiss("tcp_send_loss_probe", "the timer is due at 2.5 s"),),
        ("ESTABLISHED: una 1",),
        ("#259 before",),
        "timers.early",
    )
    counters = {"a": {"TCPLossProbes": (1, 2)}}
    verdicts = [
        Verdict("tcp", " > ".join(ENDS), Outcome.CONFORMS, labels=tuple(probed), counters=counters),
        Verdict("tcp", " > ".join(other), Outcome.DIVERGES, d.what, labels(first, 150), d),
        Verdict("neigh", HOSTILE, Outcome.NOT_MODELLED, HOSTILE, unmodelled={HOSTILE: 3}, inferred=(HOSTILE,)),
        Verdict("nic", "receive ring", Outcome.CONFORMS, labels=(FrameLabel(12, "a", "nic.rx.fill_batched"),)),
    ]
    path = write(folder / "run.pcapng", frames)
    report = FileReport(str(path), "6.12", len(frames), verdicts, [HOSTILE])
    return [report, FileReport("notes.txt", error=f"no capture {HOSTILE}")]


@pytest.fixture(scope="module")
def small(context: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    page = folder / "index.html"
    page.write_text(html(small_run(folder)), encoding="utf-8")
    return page


@pytest.fixture
def run(context: Any, small: Path) -> Iterator[Opened]:
    opened = Opened(context, small)
    yield opened
    assert opened.complaints == []
    assert [r for r in opened.requests if not r.startswith("file:")] == []
    assert opened.page.evaluate("window.broken") is None
    opened.page.close()


# ---------------------------------------------------------------- opening and filtering


def test_it_opens_at_the_first_divergence(run: Opened) -> None:
    run.page.wait_for_selector(".divergence")
    assert "Linux does not send this" in run.text(".divergence")
    said = run.text(".divergence")
    assert "net/ipv4/tcp_output.c:tcp_send_loss_probe" in said
    for part in ("nothing before 2.5 s", "due at 2.5 s", "una 1", "#259 before", "timers.early"):
        assert part in said


def test_outcomes_words_hosts_and_steps_filter_the_subjects(run: Opened) -> None:
    assert run.text("#count") == "4 of 4 subjects"
    run.page.click("#totals .badge.diverges")
    assert run.text("#count") == "3 of 4 subjects"
    run.page.click("#totals .badge.diverges")
    run.page.fill("#text", "10.0.0.3 run.pcapng")
    assert run.text("#count") == "1 of 4 subjects"
    run.page.fill("#text", "")
    run.page.select_option("#step", label="tcp.whole.retransmit.tcp_send_loss_probe")
    assert run.texts("#rows .name") == [" > ".join(ENDS)]
    run.page.select_option("#step", "")
    run.page.select_option("#host", label="b")
    assert run.text("#count") == "2 of 4 subjects"


def test_texts_of_a_capture_are_texts(run: Opened) -> None:
    run.open("neigh")
    run.view("Verdict")
    assert run.text("article h2") == HOSTILE
    assert run.text(".verdict").count(HOSTILE) >= 3
    run.tab("Captures")
    assert HOSTILE in run.text("#capture-rows")
    assert run.page.query_selector("img") is None


def test_the_address_names_the_subject(context: Any, small: Path) -> None:
    opened = Opened(context, small)
    opened.open("10.0.0.1:5")
    assert opened.page.evaluate("location.hash") == "#s0"
    opened.page.reload()
    opened.page.wait_for_selector("article[data-subject='0']")
    opened.page.close()


# ---------------------------------------------------------------- a subject


def test_the_ladder_shows_who_sent_what_and_a_click_why(run: Opened) -> None:
    run.open("10.0.0.1:5")
    assert run.texts(".rung.head b") == list(ENDS)
    assert run.texts(".rung:not(.head) .said")[:4] == [
        "SYN seq 0 win 1000",
        "SYN ACK seq 0 ack 1 win 1000",
        "ACK ack 1 win 4000",
        "PSH seq 1 len 100 ack 1 win 4000",
    ]
    run.page.click(".rung[data-frame='14']")
    said = run.text("aside.frame")
    assert "tcp_send_loss_probe" in said
    assert "net/ipv4/tcp_output.c:tcp_send_loss_probe, RFC 8985 7.3" in said
    assert "2 srtt after the last" in said
    assert "4294967401 (401)" in said or "105 (401)" in said
    assert "again" in str(run.page.get_attribute(".rung[data-frame='14']", "class"))


def test_a_long_ladder_has_pages_and_a_way_to_the_divergence(run: Opened) -> None:
    run.open("10.0.0.3")
    run.view("Ladder")
    assert run.page.locator(".rung:not(.head)").count() == 100
    assert "page 1 of 4" in run.text(".pager")
    run.page.click(".to-divergence")
    assert "page 3 of 4" in run.text(".pager")
    assert "DIVERGES" in run.text(".rung.diverging")
    assert "Linux does not send this" in run.text("aside.frame")
    run.page.click(".back")
    assert "page 2 of 4" in run.text(".pager")


def test_the_verdict_leads_into_the_ladder(run: Opened) -> None:
    run.page.wait_for_selector(".divergence")
    run.page.click(".divergence >> text='show in the ladder'")
    assert "DIVERGES" in run.text(".rung.diverging.chosen")


def test_counters_are_shown_with_their_bounds(run: Opened) -> None:
    run.open("10.0.0.1:5")
    run.view("Verdict")
    assert "1–2" in run.text(".counters")


def test_the_plot_zooms_by_wheel_and_drag_moves_and_returns(run: Opened) -> None:
    run.open("10.0.0.1:5")
    run.view("Time–sequence")
    run.page.wait_for_selector("canvas.plot[data-view]")
    whole = run.range()
    assert run.page.get_attribute("canvas.plot", "data-points") == "17"
    assert "tcp_send_loss_probe" in run.text(".legend")
    box = run.page.locator("canvas.plot").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    run.page.mouse.move(x, y)
    run.page.mouse.wheel(0, -100)
    run.page.wait_for_function(f"document.querySelector('canvas.plot').dataset.view !== '{json.dumps(whole)}'")
    near = run.range()
    assert whole["t0"] < near["t0"] < near["t1"] < whole["t1"]
    assert whole["y0"] < near["y0"] < near["y1"] < whole["y1"]
    run.page.click(".reset")
    assert run.range() == whole
    run.page.mouse.move(x - 100, y - 80)
    run.page.mouse.down()
    run.page.mouse.move(x + 100, y + 80, steps=3)
    run.page.mouse.up()
    part = run.range()
    assert whole["t0"] < part["t0"] < part["t1"] < whole["t1"]
    run.page.keyboard.down("Shift")
    run.page.mouse.down()
    run.page.mouse.move(x, y, steps=3)
    run.page.mouse.up()
    run.page.keyboard.up("Shift")
    moved = run.range()
    assert moved["t0"] > part["t0"]
    assert moved["t1"] - moved["t0"] == pytest.approx(part["t1"] - part["t0"])
    run.page.dblclick("canvas.plot")
    assert run.range() == whole


def test_the_plot_shows_the_other_direction_too(run: Opened) -> None:
    run.open("10.0.0.1:5")
    run.view("Time–sequence")
    there = run.range()
    run.page.click(f"text='from {ENDS[1]}'")
    assert run.range()["y1"] < there["y1"]


def test_a_click_in_the_plot_chooses_the_frame(run: Opened) -> None:
    run.open("10.0.0.1:5")
    run.view("Time–sequence")
    view, box = run.range(), run.page.locator("canvas.plot").bounding_box()
    # Frame 1, the SYN: at 0 us, from sequence number 0 to 1; the plot has margins of 78, 12, 10 and 34 pixels.
    x = 78 + (0 - view["t0"]) / (view["t1"] - view["t0"]) * (box["width"] - 90)
    y = 10 + (box["height"] - 44) * (1 - (0.5 - view["y0"]) / (view["y1"] - view["y0"]))
    run.page.mouse.click(box["x"] + x, box["y"] + y)
    assert run.page.get_attribute("aside.frame", "data-frame") == "1"


def test_the_states_of_a_subject_and_of_the_run_are_marked(run: Opened) -> None:
    run.open("10.0.0.1:5")
    run.view("States")
    on = {x.get_attribute("data-state") for x in run.page.query_selector_all(".state.on")}
    assert on == {"SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT1", "TIME_WAIT", "CLOSE_WAIT", "LAST_ACK"}
    assert run.page.get_attribute("[data-move='SYN_SENT ESTABLISHED']", "class") == "move on"
    assert run.page.get_attribute("[data-move='ESTABLISHED CLOSE_WAIT']", "class") == "move passed"
    run.tab("State machine")
    assert run.page.get_attribute("[data-state='ESTABLISHED']", "data-times") == "4"


def test_a_register_logs_labels_are_lines_with_their_host(run: Opened) -> None:
    run.open("receive ring")
    assert run.texts(".subtabs button") == ["Labels", "Verdict"]
    assert run.texts(".rung.head > *") == ["line", "host", "step"]
    assert run.texts(".rung:not(.head) > *") == ["12", "a", "nic.rx.fill_batched"]
    run.page.click(".rung[data-frame='12']")
    assert "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_alloc_rx_buffers" in run.text("aside.frame")


def test_the_arrow_keys_walk_through_the_subjects(run: Opened) -> None:
    run.open("10.0.0.1:5")
    run.page.fill("#text", "")
    run.page.focus("#rows")
    run.page.keyboard.press("ArrowDown")
    run.page.wait_for_selector("article[data-subject='1']")
    run.page.keyboard.press("ArrowUp")
    run.page.wait_for_selector("article[data-subject='0']")


# ---------------------------------------------------------------- coverage and captures


def test_coverage_tells_what_fired_and_a_click_where(run: Opened) -> None:
    run.tab("Coverage")
    run.page.fill("#coverage-text", "tcp_send_loss_probe")
    row = run.page.locator("#coverage-rows .row", has_text="tcp.whole.retransmit.tcp_send_loss_probe")
    assert "1 frame in 1 subject" in row.inner_text()
    row.click()
    assert run.texts("#rows .name") == [" > ".join(ENDS)]


def test_coverage_lists_what_never_fired(run: Opened) -> None:
    run.tab("Coverage")
    run.page.click("text='never'")
    run.page.fill("#coverage-text", "neigh.output.first")
    assert "never" in run.text("#coverage-rows .row")


def test_a_capture_leads_to_its_subjects(run: Opened) -> None:
    run.tab("Captures")
    assert "no capture" in run.text("#capture-rows .row >> nth=0")
    run.page.click("#capture-rows .row >> nth=1")
    assert run.text("#count") == "4 of 4 subjects"
    run.page.click("#file")
    assert not run.page.is_visible("#file")


def test_light_and_dark_change_places(run: Opened) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    before = run.page.evaluate(paper)
    run.page.click("#theme")
    assert run.page.evaluate(paper) != before


# ---------------------------------------------------------------- many


def test_ten_thousand_connections_stay_usable(context: Any, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text(html([many(tmp_path / "many.pcapng", 10_000)]), encoding="utf-8")
    opened = Opened(context, file)
    opened.page.wait_for_selector("article")
    assert opened.text("#count") == "10,000 of 10,000 subjects"
    assert opened.elements() < LARGEST
    opened.page.evaluate("document.getElementById('rows').scrollTop = 1e9")
    opened.page.wait_for_selector("[data-subject='9999']")
    opened.page.click("#rows [data-subject='9999']")
    opened.page.wait_for_selector("article[data-subject='9999']")
    assert opened.text("article h2") == "10.0.39.15:11023 > 10.200.0.1:80"
    opened.view("Ladder")
    assert opened.page.locator(".rung:not(.head)").count() == 8
    assert opened.elements() < LARGEST
    opened.page.click("#totals .badge.conforms")
    assert opened.text("#count") == "1,000 of 10,000 subjects"
    opened.page.fill("#text", "10.0.39.15:")
    assert opened.text("#count") == "1 of 10,000 subjects"
    opened.tab("Coverage")
    assert opened.elements() < LARGEST
    assert opened.complaints == []
    opened.page.close()


def test_an_empty_run_opens_too(context: Any, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text(html([]), encoding="utf-8")
    opened = Opened(context, file)
    assert opened.text("#count") == "0 of 0 subjects"
    assert opened.complaints == []
    opened.page.close()
