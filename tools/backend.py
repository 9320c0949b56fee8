"""The build backend: setuptools, and mypyc where a wheel is to be compiled (see setup.py)."""

import os
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

# mypyc looks at what the compiled modules import.
COMPILER = ["mypy>=1.20,<3", "msgspec>=0.18,<1"]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What a wheel needs beyond setuptools; an editable installation needs nothing."""
    needed: list[str] = build_meta.get_requires_for_build_wheel(config_settings)
    return needed if os.environ.get("REFMODEL_COMPILE") == "0" else needed + COMPILER
