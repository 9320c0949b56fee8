"""How captures are checked."""

from typing import Final

from msgspec import Struct

ORACLE: Final = "oracle"
RULES: Final = "rules"


class Options(Struct, frozen=True):
    """How a capture is checked; see `capture.check_all`."""

    kernel: str = ""
    reader: str = "native"
    labelled: bool = False
    engine: str = ORACLE
