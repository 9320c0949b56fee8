"""What is always true of GRO: what it holds can be cut again into what came, and nothing is lost or late."""

from refmodel.receive.gro_flow import Deliver, GroFlow, GroFlush, GroParams, Held, Segment
from refmodel.rule import Effect, invariant, transition
from refmodel.types import add


@invariant(at=Held.YES)
def held_is_full(s: GroFlow) -> bool:
    """Every held segment has the first one's length: a shorter one would have sent them up."""
    return s.tail == s.mss


@invariant(at=Held.YES)
def held_has_data(s: GroFlow) -> bool:
    """What is held has payload: a pure ACK never waits."""
    return s.mss >= 1 and s.count >= 1


@invariant(at=Held.YES)
def lengths_add_up(s: GroFlow) -> bool:
    """The payload has at least one byte for each segment, and exactly the first one's while there is one."""
    return s.len >= s.count and (s.len == s.mss if s.count == 1 else s.len > s.mss)


@invariant(at=Held.YES)
def in_line(s: GroFlow) -> bool:
    """The held sequence numbers have no gap."""
    return s.end == add(s.start, s.len)


@invariant(at=Held.YES)
def below_limit(s: GroFlow, p: GroParams) -> bool:
    """What was merged stays below the device's limit."""
    return s.count == 1 or s.total < p.gro_max_size


@invariant(at=Held.YES)
def headers_once(s: GroFlow) -> bool:
    """The packet is one set of headers and all the payload."""
    return 40 <= s.total - s.len <= 140


@invariant(at=Held.NO)
def nothing_remembered(s: GroFlow) -> bool:
    """Where nothing is held nothing is remembered."""
    return s.len == 0 and s.count == 0 and s.mss == 0 and s.tail == 0 and s.total == 0 and not s.fixedid


@transition(Segment)
def no_byte_lost(s: GroFlow, e: Segment, t: GroFlow, effects: tuple[Effect, ...]) -> bool:
    """Every byte that came is held or goes up."""
    return s.len + e.len == t.len + sum(x.len for x in effects if isinstance(x, Deliver))


@transition(GroFlush)
def flush_keeps_all(s: GroFlow, e: GroFlush, t: GroFlow, effects: tuple[Effect, ...]) -> bool:
    """A flush sends up what was held, or leaves it held."""
    return s.len == t.len + sum(x.len for x in effects if isinstance(x, Deliver))


@transition(Segment)
def every_segment_counted(s: GroFlow, e: Segment, t: GroFlow, effects: tuple[Effect, ...]) -> bool:
    """Every segment that came is counted in what is held or goes up."""
    return s.count + 1 == t.count + sum(x.count for x in effects if isinstance(x, Deliver))


@transition(Segment)
def last_may_be_short(s: GroFlow, e: Segment, t: GroFlow, effects: tuple[Effect, ...]) -> bool:
    """In what goes up only the last segment may be shorter than the first; none is longer, none of several empty."""
    return all(x.tail <= x.mss and (x.tail >= 1 or x.count == 1) for x in effects if isinstance(x, Deliver))


@transition(Segment)
def flags_are_not_late(s: GroFlow, e: Segment, t: GroFlow, effects: tuple[Effect, ...]) -> bool:
    """A segment with PSH, FIN, URG, SYN or RST goes up at once."""
    hurry = e.psh or e.fin or e.urg or e.syn or e.rst
    return not hurry or e.bad or (t.held == Held.NO and any(isinstance(x, Deliver) for x in effects))


@transition(GroFlush)
def flush_empties(s: GroFlow, e: GroFlush, t: GroFlow) -> bool:
    """After the end of a poll nothing is held, but for what this jiffy held where old packets only are flushed."""
    return t.held == Held.NO or (e.old and not e.aged)


@transition(Segment, falsified="a segment with a wrong checksum goes up past what is held")
def in_order(s: GroFlow, e: Segment, t: GroFlow, effects: tuple[Effect, ...]) -> bool:
    """A segment goes up only behind what was held."""
    return s.held == Held.NO or not any(isinstance(x, Deliver) for x in effects) or t.count != s.count
