"""Register logs of the real e1000e driver conform, each write has its rule, and what it would not do is rejected."""

import gzip
from pathlib import Path

import pytest
from msgspec.structs import replace

from conformance.check.nic import check_beside, check_log
from conformance.check.nic_mutants import NEAR, judge, mutants, text_of, wire_of
from conformance.check.nic_replay import Sight
from conformance.check.setup import Setup, setup_for
from conformance.check.verdict import Outcome, Verdict
from conformance.live import nic_log
from conformance.live.nic_log import NicLogError, RegisterRead, RegisterWrite

CAPTURES = Path(__file__).parents[2] / "captures"
CASES = sorted(p.name.removesuffix(".log.gz") for p in CAPTURES.glob("nic-*.log.gz"))
HEAVY = ("nic-bulk-in", "nic-overload-in", "nic-receive-6.1")
PARAMS = [pytest.param(c, marks=pytest.mark.slow) if c.startswith(HEAVY) else c for c in CASES]
SURVIVORS = {
    "IMS left out": "the next interrupt may have come while its handler, or the poll, had not ended: one IMS for both",
}


def capture(case: str) -> Path:
    return CAPTURES / f"{case}.pcapng"


def log_of(case: str) -> Path:
    return CAPTURES / f"{case}.log.gz"


def subjects(verdicts: list[Verdict]) -> list[str]:
    return [v.subject for v in verdicts]


@pytest.fixture(scope="module", params=PARAMS)
def judged(request: pytest.FixtureRequest) -> tuple[str, list[Verdict]]:
    case: str = request.param
    setup = setup_for(capture(case))
    return case, check_log(log_of(case), setup, wire_of(capture(case), setup))


def test_every_ring_and_vector_of_a_shipped_log_conforms(judged: tuple[str, list[Verdict]]) -> None:
    case, verdicts = judged
    assert [(v.subject, v.reason, v.divergence) for v in verdicts if v.outcome is not Outcome.CONFORMS] == []
    vectors = ["receive ring", "vector 0 (receive)", "transmit ring", "vector 1 (transmit)", "vector 2 (other)"]
    shared = ["receive ring", "vector 0 (all)", "transmit ring"]
    one = case.startswith(("nic-msi", "nic-legacy"))
    rest = ["interrupt moderation", "interrupt mask", "other registers", "wire"]
    assert subjects(verdicts) == [*(shared if one else vectors), *rest]


def test_every_tail_and_mask_write_is_labelled_once_it_is_the_rings(judged: tuple[str, list[Verdict]]) -> None:
    case, verdicts = judged
    log = nic_log.read(log_of(case))
    _, events = nic_log.bring_up(log)
    writes = [e for e in events if isinstance(e, RegisterWrite) and e.register in ("TDT", "RDT")]
    filled = next(e.line for e in events if isinstance(e, RegisterWrite) and e.register == "RCTL")
    labels = [x for v in verdicts for x in v.labels]
    assert all(x.by.startswith("nic.") for x in labels)
    tails = {x.number for x in labels if x.by.startswith(("nic.tx.", "nic.rx."))}
    assert tails == {e.line for e in writes if e.line > filled}
    unmasks = [e.line for e in events if isinstance(e, RegisterWrite) and e.register == "IMS"]
    tests = int(case.startswith("nic-msi"))  # e1000_test_msi_interrupt unmasks once
    assert set(unmasks[tests:]) <= {x.number for x in labels}


def test_a_handler_of_the_one_vector_is_its_read_of_icr() -> None:
    verdicts = check_log(log_of("nic-legacy"), setup_for(capture("nic-legacy")))
    reads = [e.line for e in nic_log.read(log_of("nic-legacy")).events if isinstance(e, RegisterRead)]
    by = {x.by for v in verdicts for x in v.labels if x.number in reads}
    assert by == {"nic.napi.interrupt"}


def test_a_full_ring_and_its_two_restarts_are_the_driver_s_own_count() -> None:
    setup = setup_for(capture("nic-burst-out"))
    told = {**setup.extra["nic_statistics"], "tx_restart_queue": 1}
    verdicts = check_log(log_of("nic-burst-out"), replace(setup, extra={**setup.extra, "nic_statistics": told}))
    wrong = next(v for v in verdicts if v.outcome is Outcome.DIVERGES)
    assert wrong.subject == "transmit ring"
    assert wrong.divergence is not None
    assert wrong.divergence.allowed == ("(160, 2)",)


@pytest.mark.parametrize("case", ["nic-burst-out", "nic-legacy", "nic-ping", "nic-send"])
def test_mutants_are_rejected_near_the_line_that_was_changed(case: str, tmp_path: Path) -> None:
    setup = setup_for(capture(case))
    frames = wire_of(capture(case), setup)
    survivors, far, made = [], [], 0
    for m in mutants(text_of(log_of(case)), places=1):
        made += 1
        d = judge(m, setup, frames, tmp_path)
        if d is None:
            survivors.append(m.kind)
        elif abs(d.frame - m.at) > NEAR and "left out" not in m.kind:
            far.append((m.kind, m.at, d.frame))
    assert made >= 20
    assert set(survivors) <= set(SURVIVORS)
    assert far == []


def test_a_divergence_names_the_line_what_was_allowed_and_the_rule_that_came_near(tmp_path: Path) -> None:
    lines = text_of(log_of("nic-ping"))
    i = [i for i, line in enumerate(lines) if "register 0x2818" in line][-1]
    lines[i] = lines[i].replace("0x10", "0x20")
    path = tmp_path / "changed.log"
    path.write_text("\n".join(lines))
    verdict = next(v for v in check_log(path, setup_for(capture("nic-ping"))) if v.outcome is Outcome.DIVERGES)
    assert verdict.subject == "receive ring"
    d = verdict.divergence
    assert d is not None
    assert (d.frame, d.what) == (i + 1, "RDT = 0x20")
    assert "RDT = 0x10" in d.allowed
    assert any(m.rule.startswith("nic.rx.fill") for m in d.near)
    assert any(line.startswith(f"{i + 1}: ") for line in d.around)


def test_frames_that_the_wire_lacks_are_missed() -> None:
    setup = setup_for(capture("nic-ping"))
    frames = wire_of(capture("nic-ping"), setup)
    wire = check_log(log_of("nic-ping"), setup, frames[:-1])[-1]
    assert (wire.subject, wire.outcome) == ("wire", Outcome.DIVERGES)
    longer = [Sight(f.number, f.sent, f.length + 1) for f in frames]
    assert check_log(log_of("nic-ping"), setup, longer)[-1].outcome is Outcome.DIVERGES


def test_another_driver_s_log_is_not_modelled() -> None:
    setup = Setup(kernel="6.12", layer="nic", extra={"nic": {"driver": "igb"}})
    (verdict,) = check_log(log_of("nic-idle"), setup)
    assert verdict.outcome is Outcome.NOT_MODELLED
    assert "igb" in verdict.reason


def test_a_capture_without_its_log_is_inconclusive(tmp_path: Path) -> None:
    setup = setup_for(capture("nic-idle"))
    (verdict,) = check_beside(tmp_path / "nic-idle.pcapng", setup, None)
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_a_log_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    damaged = tmp_path / "nic-idle.log.gz"
    damaged.write_bytes(gzip.compress(b"0@1.000000:e1000e_core_write Write\n"))
    with pytest.raises(NicLogError, match=r"nic-idle\.log\.gz: line 1"):
        check_beside(tmp_path / "nic-idle.pcapng", setup_for(capture("nic-idle")), None)
