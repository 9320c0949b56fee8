"""Guests: the image that is built, what is refused with which words, and (with QEMU and root's time) a boot."""

import io
import lzma
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from conformance.live import guest, guest_image, guest_load, guest_nic, guest_record
from conformance.live.guest import GuestError, Kernel, Machine
from conformance.live.guest_image import Image, ImageError


def archived(image: Image) -> dict[str, tuple[int, bytes]]:
    """The (mode, body) of each path in a newc archive, read by its definition."""
    out = io.BytesIO()
    image.write(out)
    data, at = out.getvalue(), 0
    found: dict[str, tuple[int, bytes]] = {}
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        body = at + (110 + name_size + 3) // 4 * 4
        at = body + (size + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert at == len(data)
            return found
        found[name] = (mode, data[body : body + size])


def module(folder: Path, name: str, depends: str, compressed: bool = False) -> None:
    body = b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=" + name.encode() + b"\0"
    path = folder / f"kernel/{name}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    if compressed:
        path.with_suffix(".ko.xz").write_bytes(lzma.compress(body))
    else:
        path.write_bytes(body)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "6.1.0-test"
    module(folder, "top", "middle,other")
    module(folder, "middle", "bottom", compressed=True)
    module(folder, "other-one", "")
    module(folder, "other", "builtin-one,other_one")
    module(folder, "bottom", "")
    (folder / "modules.builtin").write_text("kernel/lib/builtin-one.ko\n")
    return folder


def test_an_image_holds_files_links_and_the_directories_above_them() -> None:
    image = Image()
    image.text("etc/hosts", "localhost\n")
    image.text("init", "#!/bin/sh\n", executable=True)
    image.link("bin", "usr/bin")
    found = archived(image)
    assert found == {
        "etc": (0o040755, b""),
        "etc/hosts": (0o100644, b"localhost\n"),
        "init": (0o100755, b"#!/bin/sh\n"),
        "bin": (0o120777, b"usr/bin"),
    }


@pytest.mark.skipif(
    shutil.which("cpio") is None, reason="cpio is not installed: the archive is read by our own reader only"
)
def test_cpio_reads_the_archive(tmp_path: Path) -> None:
    image = Image()
    for n in range(5):
        image.text(f"d/{'x' * n}{n}", "y" * n)
    archive = io.BytesIO()
    image.write(archive)
    done = subprocess.run(["cpio", "-t"], input=archive.getvalue(), capture_output=True, check=True)
    assert done.stdout.decode().split() == ["d", "d/0", "d/x1", "d/xx2", "d/xxx3", "d/xxxx4"]


def test_modules_are_loaded_after_what_they_need_and_once(modules: Path) -> None:
    image = Image()
    order = guest_image.add_modules(image, modules, ["top", "bottom", "builtin-one"])
    assert [Path(p).stem for p in order] == ["bottom", "middle", "other_one", "other", "top"]
    assert archived(image)["usr/lib/modules/middle.ko"][1].startswith(b"\x7fELF")


def test_a_module_that_the_kernel_lacks_is_named(modules: Path) -> None:
    with pytest.raises(ImageError, match=r"the kernel in 6\.1\.0-test has no module igb"):
        guest_image.add_modules(Image(), modules, ["igb"])


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(ImageError, match="no_such_program is not installed"):
        Image().binary("no_such_program")


def test_a_program_comes_with_its_loader_and_libraries() -> None:
    image = Image()
    image.binary("ip")
    names = archived(image).keys()
    assert "usr/bin/ip" in names
    assert any("ld-linux" in n for n in names)
    assert any("libc.so" in n for n in names)


def test_an_unknown_kernel_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(GuestError, match=r"no guest kernel 5\.10: there are 6\.1, 6\.12"):
        guest.kernel("5.10")


def test_an_image_boots_into_its_command(modules: Path, tmp_path: Path) -> None:
    for name in ("virtio_pci", "virtio_blk"):
        module(modules, name, "")
    (tmp_path / "config-6.1.0-test").write_text("CONFIG_HZ=250\n")
    k = Kernel("6.1", "6.1.0-test", 250, tmp_path / "vmlinuz-6.1.0-test", modules)
    image = guest.build_image(k, Machine(modules={"top": "Speed=3"}, binaries=(), python=False), "echo done")
    found = archived(image)
    init = found["init"][1].decode()
    assert init.index("bottom.ko") < init.index("middle.ko") < init.index("insmod /lib/modules/top.ko Speed=3 ")
    assert found["guest/command.sh"][1] == b"echo done\n"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "left no results"),
        ({"status": "x"}, "left no results"),
        ({"not_loaded": "/lib/modules/a.ko"}, "could not load"),
    ],
)
def test_a_guest_that_left_nothing_useful_is_an_error_with_its_console(
    tmp_path: Path, files: dict[str, str], says: str
) -> None:
    disk = tmp_path / "disk"
    with tarfile.open(disk, "w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    with pytest.raises(GuestError) as e:
        guest._results(disk, tmp_path / "out", "Kernel panic")
    assert says in str(e.value)
    assert "Kernel panic" in str(e.value)


def test_the_cache_lies_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert guest.cache() == tmp_path / "refmodel/guests"
    assert guest.cache().is_dir()


def test_without_qemu_the_commands_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert guest_nic.main(["nic-ping"]) == 2
    assert guest_record.main(["tcp-active-open"]) == 2
    assert capsys.readouterr().err.count("qemu-system-x86_64 (apt-get install qemu-system-x86)") == 2


def test_unknown_cases_and_scenarios_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert guest_nic.main(["nic-nothing"]) == 2
    assert guest_record.main(["tcp-nothing"]) == 2
    assert "nic-nothing" in (err := capsys.readouterr().err)
    assert "tcp-nothing" in err


def test_every_case_names_a_load(capsys: pytest.CaptureFixture[str]) -> None:
    assert guest_nic.main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in guest_nic.CASES)
    assert {c.load for c in guest_nic.CASES.values()} == set(guest_load.LOADS)


def accelerators(machine: Machine, kvm: bool, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(guest, "kvm_boots", lambda _: kvm)
    k = Kernel("6.1", "6.1.0-test", 250, Path("vmlinuz"), Path("modules"))
    words = guest._machine(guest._accelerator(k, machine), machine.cpus, machine.memory, Path("console"))
    return [words[n + 1] for n, word in enumerate(words) if word in ("-accel", "-icount")]


def test_a_guest_runs_under_kvm_where_that_boots_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert accelerators(Machine(), True, monkeypatch) == ["kvm"]
    assert accelerators(Machine(), False, monkeypatch) == ["tcg,thread=multi"]


def test_a_steady_clock_counts_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert accelerators(Machine(steady=True), True, monkeypatch) == ["tcg,thread=single", "shift=0,sleep=off"]


def test_whether_kvm_boots_a_kernel_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Kernel] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(guest.os, "access", lambda *_: True)
    monkeypatch.setattr(guest, "_kvm_boots", lambda k: asked.append(k) is None)
    k = Kernel("6.1", "6.1.0-test", 250, Path("vmlinuz"), Path("modules"))
    assert guest.kvm_boots(k)
    assert guest.kvm_boots(k)
    assert len(asked) == 1


def test_without_its_device_there_is_no_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest.os, "access", lambda *_: False)
    assert not guest.kvm_boots(Kernel("6.1", "6.1.0-test", 250, Path("vmlinuz"), Path("modules")))


def fetched() -> bool:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refmodel/guests"
    return any(base.glob("kernel-6.1-*")) and (base / "python").is_dir()


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.skipif(bool(guest.missing_tools()), reason=f"guests need {'; '.join(guest.missing_tools())}")
@pytest.mark.skipif(
    not fetched(), reason="no guest kernel was fetched yet: python -m conformance.live.guest_nic nic-ping"
)
def test_a_guest_runs_its_kernel_and_gives_back_what_it_left(tmp_path: Path) -> None:
    k = guest.kernel("6.1")
    command = "uname -r; python3 -c 'import socket, ctypes; print(6 * 7)'; echo kept >/results/kept; exit 3"
    result = guest.boot(k, Machine(seconds=120), command, tmp_path)
    assert result.status == 3
    assert result.output.split() == [k.release, "42"]
    assert (tmp_path / "kept").read_text() == "kept\n"


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.skipif(bool(guest.missing_tools()), reason=f"guests need {'; '.join(guest.missing_tools())}")
@pytest.mark.skipif(
    not fetched(), reason="no guest kernel was fetched yet: python -m conformance.live.guest_nic nic-ping"
)
def test_a_guest_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="still running after 2 s"):
        guest.boot(guest.kernel("6.1"), Machine(seconds=2), "sleep 1000", tmp_path)


def _archive(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarFile:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, "/etc/passwd", 2 if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(b"ok"))
    packed.seek(0)
    return tarfile.open(fileobj=packed, mode="r:")


def test_results_are_unpacked_where_they_belong(tmp_path: Path) -> None:
    guest._extract(_archive("./sub/file"), tmp_path)
    assert (tmp_path / "sub" / "file").read_bytes() == b"ok"


@pytest.mark.parametrize(("name", "kind"), [("../file", tarfile.REGTYPE), ("link", tarfile.SYMTYPE)])
def test_results_that_lie_elsewhere_are_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    with pytest.raises(tarfile.TarError, match="neither a file nor a folder"):
        guest._extract(_archive(name, kind), tmp_path / "out")
    assert list(tmp_path.rglob("file")) == []
