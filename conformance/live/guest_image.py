"""The initramfs of a guest: Debian's kernel modules, busybox, this machine's binaries with their libraries, a Python.

Nothing here needs cpio, kmod or a compressor: the archive is written in the kernel's own `newc` format, uncompressed,
since an emulated CPU unpacks slower than it copies.
"""

import importlib.util
import json
import lzma
import os
import py_compile
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

PYTHON = "python3.11"
PYTHON_PACKAGES = ("libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal")
_UNUSED_PYTHON = ("ensurepip", "idlelib", "lib2to3", "distutils", "pydoc_data", "turtledemo", "tkinter", "unittest")
_SITE = ("site-packages", "dist-packages")
_UNUSED_OWN = (*_UNUSED_PYTHON, "test", "tests", *_SITE)
_LOADED = "import json, sys; print(json.dumps({n: getattr(m, '__file__', None) for n, m in list(sys.modules.items())}))"
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x[0-9a-f]+\)")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


class ImageError(Exception):
    """An initramfs cannot be built: a module, a binary or a library is missing. The text says which and what to do."""


class Image:
    """Collects files by their path inside the guest, then writes them as one initramfs."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, bytes | Path]] = {}

    def directory(self, path: str) -> None:
        """Adds an empty directory (and those above it)."""
        parts = path.strip("/").split("/")
        for n in range(1, len(parts) + 1):
            self._files.setdefault("/".join(parts[:n]), (stat.S_IFDIR | 0o755, b""))

    def link(self, path: str, target: str) -> None:
        """Adds a symbolic link at `path` that points to `target`."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def text(self, path: str, text: str, executable: bool = False) -> None:
        """Adds a file with this text."""
        self._add(path, stat.S_IFREG | (0o755 if executable else 0o644), text.encode())

    def data(self, path: str, data: bytes) -> None:
        """Adds a file with these bytes."""
        self._add(path, stat.S_IFREG | 0o644, data)

    def file(self, path: str, source: Path) -> None:
        """Adds a copy of `source`, with its permissions."""
        self._add(path, stat.S_IFREG | stat.S_IMODE(source.stat().st_mode), source)

    def tree(self, path: str, source: Path, unwanted: Iterable[str] = ()) -> None:
        """Adds every file below `source`, but byte code and whatever lies below a directory named in `unwanted`."""
        skip = {"__pycache__", *unwanted}
        for p in sorted(source.rglob("*")):
            relative = p.relative_to(source)
            if p.is_file() and not skip & set(relative.parts):
                self.file(f"{path}/{relative}", p)

    def binary(self, name: str) -> None:
        """Adds a program of this machine and every shared library that it loads; raises ImageError if it is missing."""
        found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if found is None:
            raise ImageError(f"{name} is not installed on this machine, and the guest needs it")
        self.file(f"usr/bin/{name}", Path(found).resolve())
        self.libraries(Path(found))

    def libraries(self, program: Path) -> None:
        """Adds the shared libraries and the loader of `program`, at the paths where its loader looks for them."""
        listing = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
        for found in _LIBRARY.findall(listing.stdout):
            path = "/usr" + found if found.startswith(("/lib/", "/lib64/")) else found
            self.file(path, Path(found).resolve())

    def write(self, out: BinaryIO) -> None:
        """Writes the archive in cpio's newc format."""
        for number, (path, (mode, body)) in enumerate(sorted(self._files.items()), start=1):
            _entry(out, number, path, mode, body.read_bytes() if isinstance(body, Path) else body)
        _entry(out, 0, "TRAILER!!!", 0, b"")

    def _add(self, path: str, mode: int, body: bytes | Path) -> None:
        path = path.strip("/")
        if "/" in path:
            self.directory(path.rsplit("/", 1)[0])
        self._files[path] = (mode, body)


def _entry(out: BinaryIO, number: int, path: str, mode: int, body: bytes) -> None:
    name = path.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name
    out.write(head + bytes(-len(head) % 4) + body + bytes(-len(body) % 4))


def base_image() -> Image:
    """An image with busybox, one /usr for everything, and the empty directories that a kernel mounts on."""
    image = Image()
    for name in ("bin", "sbin", "lib", "lib64"):
        image.link(name, f"usr/{name}")
        image.directory(f"usr/{name}")
    for name in ("dev", "etc", "proc", "run", "sys", "tmp", "var", "root", "usr/applets"):
        image.directory(name)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise ImageError("busybox is not installed: apt-get install busybox-static")
    image.file("usr/bin/busybox", Path(busybox).resolve())
    image.text("etc/hosts", "127.0.0.1 localhost\n")
    image.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    image.text("etc/group", "root:x:0:\n")
    return image


def add_python(image: Image, unpacked: Path) -> None:
    """Adds Debian's Python and its standard library from the folder where its packages were unpacked."""
    program = unpacked / "usr/bin" / PYTHON
    if not program.is_file():
        raise ImageError(f"no {PYTHON} among the unpacked packages in {unpacked}")
    image.file(f"usr/bin/{PYTHON}", program)
    image.link("usr/bin/python3", PYTHON)
    image.libraries(program)
    library = unpacked / "usr/lib" / PYTHON
    image.tree(f"usr/lib/{PYTHON}", library, _UNUSED_PYTHON)
    for extension in ("_ctypes", "_ssl", "_bz2", "_lzma", "_uuid"):
        for built in library.glob(f"lib-dynload/{extension}.*.so"):
            image.libraries(built)


def add_own_python(image: Image, modules: Sequence[str]) -> dict[str, str]:
    """Adds the Python that runs this, its standard library, and what importing `modules` loads; gives its environment.

    The library keeps its place; other packages come together in guest/packages. What is loaded has its byte code, which
    is not held against the source (PEP 552): a guest compiles slowly. `python3` starts this Python.
    """
    program = Path(sys.executable).resolve()
    image.file(str(program), program)
    image.link("usr/bin/python3", str(program))
    image.libraries(program)
    folders = sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
    for folder in folders:
        image.tree(folder, Path(folder), _UNUSED_OWN)
    with tempfile.TemporaryDirectory(prefix="refmodel-guest-") as scratch:
        for name, path in _loaded(modules):
            own = [f for f in folders if path.is_relative_to(f) and not {*_SITE} & {*path.relative_to(f).parts}]
            target = path if own else Path("/guest/packages", *name.split("."))
            if not own:
                target = target / path.name if path.stem == "__init__" else target.with_name(path.name)
            image.file(str(target), path)
            if path.suffix == ".py":
                compiled = Path(scratch) / "code.pyc"
                mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
                py_compile.compile(str(path), str(compiled), str(target), doraise=True, invalidation_mode=mode)
                image.data(importlib.util.cache_from_source(str(target)), compiled.read_bytes())
            else:
                image.libraries(path)
    return {"PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}", "PYTHONPATH": "/guest/packages"}


def _loaded(modules: Sequence[str]) -> list[tuple[str, Path]]:
    """The name and the file of each module that has been loaded when `modules` are, here and with these packages."""
    imports = "".join(f"import {m}\n" for m in modules)
    environment = os.environ | {"PYTHONPATH": ":".join(os.path.abspath(p) for p in sys.path)}
    done = subprocess.run(
        (sys.executable, "-c", imports + _LOADED),
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ImageError(f"{', '.join(modules)} cannot be imported: {done.stderr.strip()[-500:]}")
    found = {name: Path(file) for name, file in json.loads(done.stdout).items() if file and name != "__main__"}
    return sorted((name, path) for name, path in found.items() if path.suffix in (".py", ".so"))


def add_modules(image: Image, modules: Path, names: Sequence[str]) -> list[str]:
    """Adds the kernel modules `names` and what they depend on; gives their paths in the guest in loading order.

    `modules` is the folder lib/modules/<release> of an unpacked kernel package. A module that is built into this kernel
    counts as loaded. Raises ImageError for one that this kernel does not have.
    """
    stored = {p.name.split(".ko")[0].replace("-", "_"): p for p in modules.rglob("*.ko*")}
    builtin = {
        Path(line).name.split(".ko")[0].replace("-", "_")
        for line in (modules / "modules.builtin").read_text().splitlines()
    }
    order: list[str] = []

    def visit(name: str) -> None:
        name = name.replace("-", "_")
        path = f"/lib/modules/{name}.ko"
        if path in order or name in builtin:
            return
        if name not in stored:
            raise ImageError(f"the kernel in {modules.name} has no module {name}")
        body = _module(stored[name])
        found = _DEPENDS.search(body)
        for needed in found.group(1).decode().split(",") if found else []:
            if needed:
                visit(needed)
        image.data(f"usr{path}", body)
        order.append(path)

    for name in names:
        visit(name)
    return order


def _module(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
