"""Events, messages and states in as few words as a ladder has room for."""

from typing import Any

from refmodel.engine.runs import brief
from refmodel.rule import Event
from refmodel.tcp.events import Call, Seg, Tx


def segment(x: Seg | Tx) -> str:
    """A segment as a reader of captures knows it: flags, sequence numbers, acknowledgment, window."""
    flags = [n for n, on in (("SYN", x.syn), ("FIN", x.fin), ("RST", x.rst), ("ACK", x.ack)) if on]
    size = f" len {x.len}" if x.len else ""
    ack = f" ack {x.ack_seq}" if x.ack else ""
    return f"{'+'.join(flags) or 'no flags'} seq {x.seq}{size}{ack} win {x.win}"


def event(e: Any) -> str:
    """What happens, in a line: a segment, a system call with its arguments, a timer, anything else by its fields."""
    if isinstance(e, Seg):
        return segment(e)
    if isinstance(e, Call):
        said = {n: getattr(e, n) for n in ("n", "rd", "wr", "backlog", "on", "time") if hasattr(e, n)}
        return f"{type(e).__name__.lower()}({', '.join(f'{n}={brief(v)}' for n, v in said.items())})"
    if isinstance(e, Event):
        text = brief(type(e)(**{n: getattr(e, n) for n in e.__struct_fields__ if n not in ("now", "space")}))
        return text.removesuffix("()")
    return brief(e)


def effect(x: Any) -> str:
    """What was done or sent, in a line."""
    return segment(x) if isinstance(x, Seg | Tx) else brief(x)
