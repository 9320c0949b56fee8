"""The tree of the out-of-order queue: its order, its balance, and a shape that was worked out by hand."""

from random import Random

import pytest

from refmodel.tcp.whole.rbtree import Node
from refmodel.tcp.whole.skb import OfoQueue, Skb


def in_order(node: Node[Skb] | None) -> list[Skb]:
    return [] if node is None else [*in_order(node.left), node.item, *in_order(node.right)]


def black_height(node: Node[Skb] | None) -> int:
    """How many black nodes each way down passes; no red node has a red child, and children know their parent."""
    if node is None:
        return 1
    heights = set()
    for child in (node.left, node.right):
        heights.add(black_height(child))
        if child is not None:
            assert child.parent is node
            assert not (node.red and child.red)
    assert len(heights) == 1
    return heights.pop() + (not node.red)


def put(queue: OfoQueue, skb: Skb) -> None:
    at = None
    for other in queue:
        if other.seq <= skb.seq:
            at = other
    if at is None:
        queue.push(skb)
    else:
        queue.insert_after(at, skb)


@pytest.mark.parametrize("seed", range(20))
def test_the_tree_stays_balanced_and_in_the_order_of_the_queue(seed: int) -> None:
    random, queue = Random(seed), OfoQueue()
    for _ in range(80):
        held = list(queue)
        turn = random.random()
        if held and turn < 0.35:
            queue.unlink(random.choice(held))
        elif held and turn < 0.45:
            old = random.choice(held)
            queue.replace(old, Skb(old.seq, old.seq + 1, 1))
        else:
            put(queue, Skb(random.randrange(10_000), 0, 1))
        root = queue.tree.root
        assert root is None or not root.red
        black_height(root)
        assert in_order(root) == list(queue)


def test_three_in_a_row_turn_around_the_middle_one() -> None:
    queue = OfoQueue()
    for seq in (1, 2, 3):
        put(queue, Skb(seq, seq + 1, 1))
    root = queue.tree.root
    assert root is not None
    assert root.item.seq == 2
    assert [n.item.seq for n in (root.left, root.right) if n is not None] == [1, 3]


def test_an_emptied_queue_has_no_tree() -> None:
    queue = OfoQueue()
    put(queue, Skb(1, 2, 1))
    queue.clear()
    assert (queue.tree.root, queue.nodes, len(queue)) == (None, {}, 0)
