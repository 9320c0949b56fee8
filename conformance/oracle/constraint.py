"""The form in which a half-model states what it holds frames against."""

from msgspec import Struct


class Constraint(Struct, frozen=True):
    """What no Linux does otherwise: `sentence` says it, `cites` name the kernel's function and the RFC's section.

    `rfc`: it binds every TCP, not only Linux's, so that a foreign stack is held to it too.
    """

    id: str
    sentence: str
    cites: tuple[str, ...]
    rfc: bool = False
