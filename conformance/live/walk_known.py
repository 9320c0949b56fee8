"""Where the model's walk is known to be another than the kernel's, each with its reason.

A difference that stands here is named by the comparison and its reason shown; all others fail.
"""

from typing import Final

from msgspec import Struct


class Known(Struct, frozen=True):
    """A difference: the kernel calls `function` in `within` ("" for any), in the cases named (none: all)."""

    function: str
    within: str
    why: str
    cases: tuple[str, ...] = ()


KNOWN: Final[tuple[Known, ...]] = ()


def known(case: str, function: str, within: str) -> Known | None:
    """The entry that explains a difference; None if none does."""
    return next(
        (k for k in KNOWN if k.function == function and k.within in ("", within) and (not k.cases or case in k.cases)),
        None,
    )
