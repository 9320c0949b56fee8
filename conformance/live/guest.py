"""Guests: Debian's own kernels in QEMU, for what the running kernel cannot show (another version, a real NIC driver).

A guest is a kernel package unpacked into a cache, an initramfs built for the one command that it is to run, and a disk
on which it leaves its results. It has no way to the network: its devices meet on hubs inside QEMU.

A guest runs under KVM where that boots it, else on an emulated CPU. Where its times matter, it has a steady clock: an
emulated CPU on which each instruction takes a nanosecond and idle time takes none, whatever else the machine does.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import conformance
from conformance.live.guest_image import (
    PYTHON_PACKAGES,
    Image,
    ImageError,
    add_modules,
    add_own_python,
    add_python,
    base_image,
)

QEMU = "qemu-system-x86_64"
RESULT_MB = 64
CPU = "max,-arch-capabilities"
"""Whatever the accelerator has; the MSR behind that bit cannot be set by every KVM that shows it."""
KVM_PATIENCE = 10.0
"""s that KVM may take to boot a kernel and end it: where it emulates instructions itself, it takes minutes or hangs."""
SETUP = 1 << 16
"""Bytes of a kernel's image that are not compressed; its version is among them (Documentation/arch/x86/boot.rst)."""
_STABLE = re.compile(rb"Debian (\d+\.\d+\.\d+)-")
_PACKAGES = {
    "6.1": r"linux-image-6\.1\.0-[0-9]+-amd64",
    "6.12": r"linux-image-6\.12\.[0-9.]+(\+deb12)?-amd64",
}
_INIT = """#!/usr/bin/busybox sh
/usr/bin/busybox --install -s /usr/applets
export PATH=/usr/sbin:/usr/bin:/usr/applets HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mkdir -p /dev/pts /run/netns /results
mount -t devpts pts /dev/pts
{modules}
{exports}/usr/bin/ip link set lo up
cd /guest
sh /guest/command.sh >/results/output.txt 2>&1
echo $? >/results/status
dmesg >/results/dmesg.txt
tar -C /results -cf /dev/vda .
sync
poweroff -f
"""


class GuestError(Exception):
    """A guest could not be had or did not finish. The text says what is missing or shows the end of its console."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel package. `release` is what `uname -r` says in the guest, `hz` its CONFIG_HZ.

    `stable` is the stable release that it is made from, such as 6.1.192, where Debian's `release` says 6.1.0-56.
    """

    version: str
    release: str
    hz: int
    image: Path
    modules: Path
    stable: str = ""


@dataclass(frozen=True)
class Machine:
    """What a guest consists of besides its kernel.

    `devices` are QEMU's arguments; `modules` are loaded in that order, after what they need, each with its parameters;
    `binaries` are this machine's programs; `files` are put below /guest. `seconds` is how long the guest may live.
    `python`: Debian's Python and the package conformance are in it; `imports`: modules for which it gets, instead, the
    Python that runs this, with what they need. `steady`: its clock counts instructions, 1 ns each, and jumps over idle
    time; one CPU, never under KVM. `append`: more for the kernel's command line.
    """

    modules: Mapping[str, str] = field(default_factory=dict)
    binaries: Sequence[str] = ("ip",)
    files: Mapping[str, Path] = field(default_factory=dict)
    devices: Sequence[str] = ()
    python: bool = True
    imports: Sequence[str] = ()
    cpus: int = 1
    memory: int = 512
    seconds: float = 300.0
    steady: bool = False
    append: str = ""


@dataclass(frozen=True)
class Result:
    """What a guest left: the exit status of its command, what that printed, and the folder /results as it was."""

    status: int
    output: str
    folder: Path
    console: str


def cache() -> Path:
    """The folder of unpacked packages: `refmodel/guests` under XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "refmodel" / "guests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def missing_tools() -> list[str]:
    """What this machine lacks for running guests, each with what would bring it; empty if it lacks nothing."""
    wanted = {
        QEMU: "qemu-system-x86",
        "busybox": "busybox-static",
        "dpkg-deb": "dpkg",
        "apt-get": "apt",
        "ldd": "libc-bin",
    }
    lacking = [f"{tool} (apt-get install {package})" for tool, package in wanted.items() if shutil.which(tool) is None]
    if platform.machine() != "x86_64":
        lacking.append("an x86_64 machine: the guest's programs are copied from this one")
    return lacking


def kernel(version: str) -> Kernel:
    """Debian's newest kernel of `version` ('6.1' or '6.12'), fetched and unpacked on first use; raises GuestError."""
    if version not in _PACKAGES:
        raise GuestError(f"no guest kernel {version}: there are {', '.join(_PACKAGES)}")
    for folder in sorted(cache().glob(f"kernel-{version}-*"), reverse=True):
        return _kernel(version, folder)
    names = _run("apt-cache", "pkgnames", "linux-image-").split()
    fitting = sorted((n for n in names if re.fullmatch(_PACKAGES[version], n)), key=_numbers)
    if not fitting:
        raise GuestError(
            f"apt knows no kernel package {_PACKAGES[version]}: run apt-get update, or use another version"
        )
    package = fitting[-1]
    return _kernel(version, _unpack(f"kernel-{version}-{package}", (package,)))


def boot(k: Kernel, machine: Machine, command: str, out: Path) -> Result:
    """Boots `k` on `machine`, runs the shell text `command` in /guest and unpacks what it left in /results into `out`.

    Raises GuestError if the guest does not power off within the machine's time or leaves no results; QEMU never
    outlives the call.
    """
    lacking = missing_tools()
    if lacking:
        raise GuestError("guests need " + "; ".join(lacking))
    with tempfile.TemporaryDirectory(prefix="refmodel-guest-") as scratch:
        initrd, disk, console = (Path(scratch) / name for name in ("initrd", "disk", "console"))
        with initrd.open("wb") as f:
            build_image(k, machine, command).write(f)
        with disk.open("wb") as f:
            f.truncate(RESULT_MB << 20)
        qemu = [
            *_machine(_accelerator(k, machine), machine.cpus, machine.memory, console),
            *("-kernel", str(k.image), "-initrd", str(initrd)),
            *("-append", f"console=ttyS0 loglevel=4 panic=-1 net.ifnames=0 {machine.append}".strip()),
            *("-drive", f"file={disk},format=raw,if=none,id=results", "-device", "virtio-blk-pci,drive=results"),
            *machine.devices,
        ]
        try:
            done = subprocess.run(qemu, capture_output=True, text=True, timeout=machine.seconds, check=False)
        except subprocess.TimeoutExpired as e:
            raise GuestError(f"the guest was still running after {machine.seconds} s\n{_tail(console)}") from e
        if done.returncode:
            raise GuestError(f"{QEMU} ended with status {done.returncode}\n{done.stderr}{_tail(console)}")
        text = console.read_text(errors="replace") if console.exists() else ""
        return _results(disk, out, text)


def kvm_boots(k: Kernel) -> bool:
    """Whether this machine's KVM boots `k` and ends it within KVM_PATIENCE s; asked once a start of the machine.

    A KVM that opens may still be of no use: one that runs without the processor's own virtualisation emulates what a
    kernel does before it has its page tables.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    known = cache() / f"kvm-{k.release}-{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    if not known.exists():
        for old in cache().glob(f"kvm-{k.release}-*"):
            old.unlink(missing_ok=True)
        known.write_text(str(int(_kvm_boots(k))))
    return known.read_text() == "1"


def _kvm_boots(k: Kernel) -> bool:
    with tempfile.TemporaryDirectory(prefix="refmodel-guest-") as scratch:
        initrd, console = Path(scratch) / "initrd", Path(scratch) / "console"
        image = base_image()
        image.text("init", "#!/usr/bin/busybox sh\n/usr/bin/busybox poweroff -f\n", executable=True)
        with initrd.open("wb") as f:
            image.write(f)
        qemu = [
            *_machine(("-accel", "kvm"), 1, 256, console),
            *("-kernel", str(k.image), "-initrd", str(initrd), "-append", "console=ttyS0 panic=-1"),
        ]
        try:
            done = subprocess.run(qemu, capture_output=True, text=True, timeout=KVM_PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and "Power down" in console.read_text(errors="replace")


def _accelerator(k: Kernel, machine: Machine) -> tuple[str, ...]:
    if machine.steady:
        return ("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off")
    return ("-accel", "kvm") if kvm_boots(k) else ("-accel", "tcg,thread=multi")


def _machine(accelerator: Sequence[str], cpus: int, memory: int, console: Path) -> list[str]:
    return [
        *(QEMU, *accelerator, "-machine", "pc", "-cpu", CPU, "-smp", str(cpus), "-m", str(memory)),
        *("-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot", "-serial", f"file:{console}"),
    ]


def build_image(k: Kernel, machine: Machine, command: str) -> Image:
    """The initramfs for one boot: /guest holds the machine's files, the package conformance and the command."""
    image = base_image()
    for name in machine.binaries:
        image.binary(name)
    environment: dict[str, str] = {}
    if machine.imports:
        environment = add_own_python(image, machine.imports)
    elif machine.python:
        add_python(image, _unpack("python", PYTHON_PACKAGES))
        image.tree("guest/conformance", Path(conformance.__file__).parent)
    for path, source in machine.files.items():
        image.file(f"guest/{path}", source)
    load = []
    try:
        for name, parameters in {"virtio_pci": "", "virtio_blk": "", **machine.modules}.items():
            for path in add_modules(image, k.modules, [name]):
                given = parameters if path.endswith(f"/{name}.ko") else ""
                load.append(f"insmod {path} {given} || echo {path} >>/results/not_loaded")
    except ImageError as e:
        raise GuestError(str(e)) from e
    image.file(f"boot/config-{k.release}", k.image.with_name(f"config-{k.release}"))
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    image.text("init", _INIT.format(modules="\n".join(dict.fromkeys(load)), exports=exports), executable=True)
    image.text("guest/command.sh", command + "\n")
    return image


def _extract(tar: tarfile.TarFile, out: Path) -> None:
    """Writes the files and folders of `tar` below `out`; raises TarError for anything else, or what lies elsewhere.

    extractall's own filter came with Python 3.11.4.
    """
    for member in tar:
        target = (out / member.name).resolve()
        content = tar.extractfile(member) if member.isfile() else None
        if not target.is_relative_to(out.resolve()) or not (content or member.isdir()):
            raise tarfile.TarError(f"{member.name} is neither a file nor a folder of the results")
        (target.parent if content else target).mkdir(parents=True, exist_ok=True)
        if content is not None:
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)


def _results(disk: Path, out: Path, console: str) -> Result:
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(disk, "r:") as tar:
            _extract(tar, out)
        if (out / "not_loaded").exists():
            raise GuestError(f"the guest could not load {(out / 'not_loaded').read_text()}{console[-2000:]}")
        status = int((out / "status").read_text())
    except (tarfile.TarError, FileNotFoundError, ValueError) as e:
        raise GuestError(f"the guest left no results ({e})\n{console[-2000:]}") from e
    return Result(status, (out / "output.txt").read_text(errors="replace"), out, console)


def _kernel(version: str, folder: Path) -> Kernel:
    image = next((folder / "boot").glob("vmlinuz-*"), None)
    if image is None:
        raise GuestError(f"{folder} holds no kernel: remove it, it will be fetched again")
    release = image.name.removeprefix("vmlinuz-")
    config = (folder / f"boot/config-{release}").read_text()
    hz = re.search(r"^CONFIG_HZ=(\d+)$", config, re.MULTILINE)
    if hz is None:
        raise GuestError(f"the configuration of {release} says no CONFIG_HZ")
    stable = _STABLE.search(image.read_bytes()[:SETUP])
    if stable is None:
        raise GuestError(f"{image} does not say which stable release it is")
    modules = folder / f"lib/modules/{release}"
    return Kernel(version, release, int(hz.group(1)), image, modules, stable.group(1).decode())


def _unpack(name: str, packages: Sequence[str]) -> Path:
    """The folder `name` of the cache with `packages` unpacked into it; it appears in one step, never half done."""
    done = cache() / name
    if done.is_dir():
        return done
    with tempfile.TemporaryDirectory(dir=cache(), prefix="fetch-") as scratch:
        _run("apt-get", "-q", "download", *packages, cwd=scratch)
        tree = Path(scratch) / "tree"
        for package in sorted(Path(scratch).glob("*.deb")):
            _run("dpkg-deb", "-x", str(package), str(tree))
        tree.rename(done)
    return done


def _run(*command: str, cwd: str | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as e:
        raise GuestError(f"{command[0]}: {e}") from e
    if done.returncode:
        raise GuestError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", name))


def _tail(console: Path) -> str:
    return console.read_text(errors="replace")[-2000:] if console.exists() else "(its console is empty)"
