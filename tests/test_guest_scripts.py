"""Scripts in guests: what is planned, how outcomes come back, and (with QEMU) a script on each of Debian's kernels."""

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.cli import main
from conformance.live import guest, guest_scripts
from conformance.live.guest import GuestError, Kernel, Machine
from conformance.live.guest_image import Image, ImageError, add_own_python
from conformance.live.guest_play import play
from conformance.live.guest_scripts import Batch, run_scripts
from conformance.live.pkt_kernel import Planned, plan
from conformance.live.pkt_kernel_run import Job
from conformance.pkt.model_run import Setting, fitting
from conformance.pkt.outcome import FAILED, PASSED, REFUSED, UNAVAILABLE, Outcome
from conformance.pkt.variant import Variant, holds
from tests.test_guest import archived

SHORT = """\
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 connect(3, ..., ...) = -1 ECONNREFUSED (Connection refused)
  +0 > S 0:0(0) <...>
  +0 < R. 0:0(0) ack 1 win 0
"""
CONNECTED = """\
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0...0.1 connect(3, ..., ...) = 0
  +0 > S 0:0(0) <...>
 +.1 < S. 0:0(0) ack 1 win 1000
  +0 > . 1:1(0) ack 1
"""


def script(folder: Path, text: str, name: str = "case") -> Path:
    path = folder / f"{name}.pkt"
    path.write_text(text)
    return path


def fetched(version: str) -> bool:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refmodel/guests"
    return any(base.glob(f"kernel-{version}-*"))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    k = Kernel("6.1", "6.1.0-test", 250, tmp_path / "vmlinuz-6.1.0-test", tmp_path)
    monkeypatch.setattr(guest, "kernel", lambda _: k)
    return k


# ---------------------------------------------------------------- planning


def test_a_plan_has_a_run_for_each_variant(tmp_path: Path) -> None:
    planned, refused = plan(script(tmp_path, SHORT), "6.1.0", (Variant.IPV4, Variant.IPV6))
    assert [run.job.variant for run in planned] == [Variant.IPV4, Variant.IPV6]
    assert refused is None


def test_a_script_for_a_later_kernel_has_no_run(tmp_path: Path) -> None:
    assert plan(script(tmp_path, "// from Linux 6.12\n" + SHORT), "6.1.0-56-amd64") == ([], None)
    assert len(plan(script(tmp_path, "// from Linux 6.12\n" + SHORT), "6.12.117")[0]) == 3


def test_a_script_for_earlier_kernels_has_no_run(tmp_path: Path) -> None:
    path = script(tmp_path, "// before Linux 6.12\n" + SHORT)
    assert plan(path, "6.12.117+deb12-amd64") == ([], None)
    assert len(plan(path, "6.1.192")[0]) == 3


def test_a_stable_release_may_be_left_out(tmp_path: Path) -> None:
    path = script(tmp_path, "// not on Linux 6.12.117: a later kernel's change\n" + SHORT)
    assert plan(path, "6.12.117+deb12-amd64") == ([], None)
    assert len(plan(path, "6.12.116")[0]) == 3
    assert holds("6.12", path.read_text())


@pytest.mark.parametrize(
    ("wanted", "said", "profile"),
    [
        ("6.12", "", "6.12"),
        ("6.1", "// from Linux 6.12", "6.12"),
        ("6.12", "// before Linux 6.12", "6.1"),
        ("6.18", "// before Linux 6.18", "6.12"),
        ("6.12", "// from Linux 7.0", "6.18"),
    ],
)
def test_the_model_takes_a_profile_that_a_script_is_for(wanted: str, said: str, profile: str) -> None:
    assert fitting(Setting(kernel=wanted), said + "\n" + SHORT).kernel == profile


def test_a_plan_says_why_a_script_is_refused(tmp_path: Path) -> None:
    planned, refused = plan(script(tmp_path, "0 nonsense(3) = 0\n"), "6.1.0")
    assert planned == []
    assert refused is not None
    assert (refused.status, refused.line) == (REFUSED, 1)


def test_a_plan_names_the_parameters_that_a_run_changes(tmp_path: Path) -> None:
    text = "`echo 16 > /sys/module/tcp_cubic/parameters/hystart_low_window`\n" + SHORT
    (run, *_), _ = plan(script(tmp_path, text), "6.1.0")
    assert run.parameters == ("/sys/module/tcp_cubic/parameters/hystart_low_window",)


# ---------------------------------------------------------------- outcomes


def answering(monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, Outcome]) -> list[list[str]]:
    """Guests that answer by the script's name; gives which runs each got."""
    booted: list[list[str]] = []

    def boot(k: Kernel, runs: list[Planned], folder: Path) -> list[Outcome]:
        booted.append([f"{Path(run.job.name).stem} {run.job.variant}" for run in runs])
        return [outcomes[Path(run.job.name).stem] for run in runs]

    monkeypatch.setattr(guest_scripts, "_boot", boot)
    return booted


@pytest.mark.usefixtures("kernel")
def test_outcomes_come_back_to_their_script_and_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = script(tmp_path, SHORT, "good"), script(tmp_path, CONNECTED, "bad")
    later, odd = script(tmp_path, "// from Linux 6.18\n" + SHORT, "later"), script(tmp_path, "0 x(3) = 0\n", "odd")
    booted = answering(monkeypatch, {"good": Outcome(PASSED), "bad": Outcome(FAILED, 3)})
    found = run_scripts([good, later, bad, odd], Batch("6.1", (Variant.IPV4, Variant.MAPPED)), guests=2)
    assert sorted(booted) == [["good ipv4", "bad ipv4"], ["good mapped", "bad mapped"]]
    assert found[good] == {Variant.IPV4: Outcome(PASSED), Variant.MAPPED: Outcome(PASSED)}
    assert {v: o.status for v, o in found[bad].items()} == {Variant.IPV4: FAILED, Variant.MAPPED: FAILED}
    assert found[later] == {}
    assert found[odd][Variant.IPV4].status == REFUSED


@pytest.mark.usefixtures("kernel")
def test_a_guest_that_ends_early_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def boot(k: Kernel, machine: Machine, command: str, out: Path) -> guest.Result:
        out.mkdir()
        return guest.Result(1, "Killed", out, "")

    monkeypatch.setattr(guest, "boot", boot)
    with pytest.raises(GuestError, match="played 0 of 3 runs: Killed"):
        run_scripts([script(tmp_path, SHORT)], Batch("6.1"))


# ---------------------------------------------------------------- the player


def test_a_run_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.live.guest_play.alone", lambda job: os.kill(os.getpid(), 19))
    got = play(Planned(Job("case.pkt", SHORT, Variant.IPV4), 0.1, ()))
    assert (got.status, "still running after 0 s" in got.message) == (FAILED, True)


def test_a_run_that_breaks_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.live.guest_play.alone", lambda job: os.kill(os.getpid(), 9))
    got = play(Planned(Job("case.pkt", SHORT, Variant.IPV4), 9.0, ()))
    assert (got.status, got.message) == (UNAVAILABLE, "case.pkt: the run ended without a result, with status 9")


# ---------------------------------------------------------------- this Python in an image


def test_an_image_has_this_python_and_what_a_module_needs() -> None:
    image = Image()
    environment = add_own_python(image, ("conformance.pkt.parser",))
    found = archived(image)
    assert str(Path(sys.executable).resolve()).strip("/") in found
    assert environment["PYTHONHOME"].startswith(sys.base_prefix)
    assert environment["PYTHONPATH"] == "/guest/packages"
    assert {"guest/packages/conformance/pkt/parser.py", "guest/packages/msgspec/__init__.py"} <= found.keys()
    codes = [body for name, (_, body) in found.items() if name.startswith("guest/") and name.endswith(".pyc")]
    assert codes
    assert all(body[4:8] == b"\x01\0\0\0" for body in codes)
    assert not any("/test/" in name for name in found)


def test_a_module_that_there_is_not_is_named() -> None:
    with pytest.raises(ImageError, match=r"no\.such\.module cannot be imported"):
        add_own_python(Image(), ("no.such.module",))


# ---------------------------------------------------------------- the command


def ended(*args: str, status: int) -> str:
    result = CliRunner().invoke(main, ["run", *args])
    assert result.exit_code == status, result.output
    return result.output


def test_guest_goes_with_kernel_or_both(tmp_path: Path) -> None:
    assert "--kernel or --both" in ended("--guest", "6.1", str(script(tmp_path, SHORT)), status=2)


@pytest.mark.usefixtures("kernel")
def test_the_command_shows_a_guests_outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, {"case": Outcome(FAILED, 3, "case.pkt:3:6: the kernel sent another packet")})
    monkeypatch.setattr(guest, "missing_tools", list)
    path = script(tmp_path, CONNECTED)
    (row,) = json.loads(ended("--kernel", "--guest", "6.1", "--variant", "ipv4", "--json", str(path), status=1))
    assert (row["on"], row["status"], row["line"]) == ("kernel", "failed", 3)
    said = ended("--both", "--guest", "6.1", "--variant", "ipv4", str(path), status=1)
    assert "model and kernel differ in 1" in said


def test_without_qemu_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "missing_tools", lambda: ["qemu-system-x86_64 (apt-get install qemu-system-x86)"])
    path = script(tmp_path, SHORT)
    assert "apt-get install qemu-system-x86" in ended("--kernel", "--guest", "6.1", str(path), status=2)


# ---------------------------------------------------------------- a real guest


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.skipif(bool(guest.missing_tools()), reason=f"guests need {'; '.join(guest.missing_tools())}")
@pytest.mark.parametrize("version", guest_scripts.KERNELS)
def test_a_script_on_debians_kernel(version: str, tmp_path: Path) -> None:
    if not fetched(version):
        pytest.skip(f"the kernel {version} was not fetched yet: refmodel run --kernel --guest {version} SCRIPT")
    right, wrong = script(tmp_path, CONNECTED, "right"), script(tmp_path, CONNECTED + "  +0 > P. 1:2(1)\n", "wrong")
    seen: list[tuple[int, int]] = []
    batch = Batch(version, (Variant.IPV4,), remember=True)
    found = run_scripts([right, wrong], batch, told=lambda done, of: seen.append((done, of)))
    assert found[right][Variant.IPV4].status == PASSED
    assert found[right][Variant.IPV4].counters["TcpActiveOpens"] == 1
    assert (found[wrong][Variant.IPV4].status, found[wrong][Variant.IPV4].line) == (FAILED, 6)
    assert seen[-1][1] == 2
