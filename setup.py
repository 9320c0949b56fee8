"""Builds the package. In a wheel the modules that follow a capture's frames are compiled by mypyc.

`REFMODEL_COMPILE=0` leaves them as they are, `REFMODEL_COMPILE=1` insists: without it a machine that has no C compiler
or no `Python.h` gets the interpreted modules, which say the same more slowly. An editable installation is never
compiled: what runs there is what the editor shows.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

# What follows frames; records of msgspec stay as they are, a compiled class would lose their options.
FOLDER = Path("conformance/oracle")
RECORDS = {"__init__", "__main__", "constraint", "coverage", "steps", "terms", "text"}
BESIDES = (
    "refmodel/packet/segment.py",
    "conformance/pcap.py",
    *(f"conformance/check/{name}.py" for name in ("capture", "flows", "infer", "neigh", "neigh_taps", "wire")),
)
WANTED = os.environ.get("REFMODEL_COMPILE", "")


def compiled() -> list[Extension]:
    """The extension modules of a wheel."""
    if "bdist_wheel" not in sys.argv or WANTED == "0":
        return []
    from mypyc.build import mypycify

    modules = [str(p) for p in sorted(FOLDER.glob("*.py")) if p.stem not in RECORDS]
    made = mypycify([*modules, *BESIDES], opt_level="1", debug_level="0")
    for extension in made:
        extension.optional = WANTED != "1"
    return made


setup(ext_modules=compiled())
