"""The compiled checker says what the interpreted one says."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench import bulk
from bench.traffic import write
from conformance.pcap import Reader, Writer

ROOT = Path(__file__).parents[1]
HEADER = Path(sysconfig.get_path("include"), "Python.h")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as a wheel installs it, its modules compiled."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    if not HEADER.exists():
        pytest.skip(f"no {HEADER}: the interpreter's headers are not installed")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("compiled")
    for name in ("refmodel", "conformance"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "tools").mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "tools/backend.py"):
        shutil.copy(ROOT / name, source / name)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(source)]
    subprocess.run(install, check=True, env={**os.environ, "REFMODEL_COMPILE": "1"}, timeout=1500)
    return folder


def checked(where: Path, *files: Path) -> tuple[int, Any]:
    """Exit status and report of `refmodel check` with the package in `where`."""
    command = [sys.executable, "-P", "-m", "conformance.cli", "check", "-j1", "--json", *map(str, files)]
    run = subprocess.run(
        command, cwd=where, env={**os.environ, "PYTHONPATH": str(where)}, capture_output=True, text=True, timeout=900
    )
    return run.returncode, json.loads(run.stdout)


def modules(where: Path, name: str) -> str:
    """The file from which a module is imported."""
    code = f"import sys, {name}; print(sys.modules['{name}'].__file__)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=where, env={**os.environ, "PYTHONPATH": str(where)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return run.stdout.strip()


@pytest.mark.parametrize("name", ["conformance.oracle.fast", "conformance.pcap", "refmodel.packet.segment"])
def test_the_wheel_holds_compiled_modules(compiled: Path, name: str) -> None:
    assert modules(compiled, name).startswith(str(compiled))
    assert modules(compiled, name).endswith(".so")
    assert modules(ROOT, name).endswith(".py")


def test_every_shipped_capture_is_judged_the_same(compiled: Path) -> None:
    """Verdicts, labels, counters, what was inferred."""
    assert checked(compiled, ROOT / "captures") == checked(ROOT, ROOT / "captures")


def test_flows_with_loss_are_judged_the_same(compiled: Path, tmp_path: Path) -> None:
    bulk.write(tmp_path / "bulk.pcapng", 20_000)
    write(tmp_path / "short.pcapng", 300)
    assert checked(compiled, tmp_path) == checked(ROOT, tmp_path)


def test_changed_captures_are_judged_the_same(compiled: Path, tmp_path: Path) -> None:
    """Frames that are missing, doubled or damaged: what is refused is refused with the same words."""
    for k, path in enumerate(sorted((ROOT / "captures" / "random").glob("*.pcapng.gz"))[:40]):
        with Reader(path) as reader:
            frames = list(reader)
        at = len(frames) * (k % 7 + 2) // 10
        f = frames[at]
        broken = replace(f, data=f.data[:40] + bytes([f.data[40] ^ 1]) + f.data[41:])
        frames[at : at + 1] = ([], [f, replace(f, time=f.time + 1000)], [broken])[k % 3]
        with Writer(tmp_path / path.name.removesuffix(".gz")) as out:
            for i in reader.interfaces:
                out.interface(i.linktype, like=i)
            for g in frames:
                out.frame(g)
    status, report = checked(compiled, tmp_path)
    assert (status, report) == checked(ROOT, tmp_path)
    assert status == 1


@pytest.mark.parametrize("text", ["x = [", '[kernel]\nprofile = "5.4"\n', '[kernel]\nprofile = "6.12"\nhz = "fast"\n'])
def test_a_wrong_sidecar_is_told_the_same(compiled: Path, tmp_path: Path, text: str) -> None:
    shutil.copy(ROOT / "captures" / "tcp-active-open.pcapng", tmp_path / "a.pcapng")
    (tmp_path / "a.toml").write_text(text)
    assert checked(compiled, tmp_path) == checked(ROOT, tmp_path)


def test_a_file_that_ends_early_is_told_the_same(compiled: Path, tmp_path: Path) -> None:
    whole = (ROOT / "captures" / "tcp-active-open.pcapng").read_bytes()
    for n in (0, 7, 100, len(whole) // 2, len(whole) - 3):
        (tmp_path / f"{n}.pcapng").write_bytes(whole[:n])
    assert checked(compiled, tmp_path) == checked(ROOT, tmp_path)
