"""The retransmit queue finds what a walk along its links would find, however it was changed."""

from hypothesis import given
from hypothesis import strategies as st

from refmodel.tcp.whole.const import FEW
from refmodel.tcp.whole.skb import RtxQueue, Skb
from refmodel.types import add, before

Change = tuple[str, int, int]
CHANGES = st.tuples(
    st.sampled_from(("append", "split", "unlink", "trim", "empty", "seek", "seek", "pop")),
    st.integers(0, 1 << 20),
    st.integers(1, 3000),
)


def linear(queue: RtxQueue, seq: int) -> Skb | None:
    found = None
    for skb in queue:
        if before(seq, skb.seq):
            break
        found = skb
    return found


def change(queue: RtxQueue, what: str, at: int, n: int, end: int) -> int:
    """One change of the queue; where it ends."""
    skbs = list(queue)
    skb = skbs[at % len(skbs)] if skbs else None
    if what == "append" or skb is None:
        queue.append(Skb(end, add(end, n), n))
        return add(end, n)
    if what == "split" and skb.len > 1:
        size = 1 + n % (skb.len - 1)
        rest = Skb(add(skb.seq, size), skb.end_seq, skb.len - size)
        skb.end_seq, skb.len = rest.seq, size
        queue.insert_after(skb, rest)
    elif what == "unlink":
        queue.unlink(skb)
    elif what == "pop":
        queue.pop()
    elif what == "trim" and skb is queue.head and skb.len > 1:
        skb.seq, skb.len = add(skb.seq, 1), skb.len - 1
    elif what == "empty" and skb.prev is not None:
        skb.prev.end_seq = skb.seq = skb.end_seq
        queue.unlink(skb)
    return end


@given(st.integers(0, (1 << 32) - 1), st.integers(1, 3 * FEW), st.lists(CHANGES, max_size=60))
def test_a_search_finds_the_last_skb_that_does_not_begin_behind(start: int, many: int, changes: list[Change]) -> None:
    queue, end = RtxQueue(), start
    for _ in range(many):
        end = change(queue, "append", 0, 100, end)
    for what, at, n in changes:
        end = change(queue, what, at, n, end)
        seq = add(start, at % (((end - start) & 0xFFFFFFFF) + 1))
        if what == "seek":
            assert queue.at_or_before(seq) is linear(queue, seq)
    assert len(queue) == len(list(queue))
    for skb in queue:
        assert queue.at_or_before(skb.seq) is linear(queue, skb.seq)
