"""A red-black tree: what shape the kernel's out-of-order queue has.

The law: the way down from the root to a place decides which segments an arriving one is held against, and so which
overlaps are told by a DSACK. The shape follows from the order of insertions and removals. Source lib/rbtree.c.
"""

from typing import Generic, TypeVar

T = TypeVar("T")


class Node(Generic[T]):
    """A node with its item; `red` or black."""

    __slots__ = ("item", "left", "parent", "red", "right")

    def __init__(self, item: T) -> None:
        self.item = item
        self.left: Node[T] | None = None
        self.right: Node[T] | None = None
        self.parent: Node[T] | None = None
        self.red = True


class RbTree(Generic[T]):
    """The nodes in order; the caller knows where a node belongs."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root: Node[T] | None = None

    def insert(self, node: Node[T], before: Node[T] | None, after: Node[T] | None) -> None:
        """Links `node` between its neighbours `before` and `after` as a leaf, and balances the tree."""
        if before is not None and before.right is None:
            node.parent, before.right = before, node
        elif after is not None:
            node.parent, after.left = after, node
        else:
            self.root = node
        self._inserted(node)

    def _inserted(self, node: Node[T]) -> None:
        while (parent := node.parent) is not None and parent.red:
            above = parent.parent
            assert above is not None
            left = parent is above.left
            uncle = above.right if left else above.left
            if uncle is not None and uncle.red:
                parent.red = uncle.red = False
                above.red = True
                node = above
                continue
            if node is (parent.right if left else parent.left):
                self._rotate(parent, left)
                node, parent = parent, node
            parent.red = False
            above.red = True
            self._rotate(above, not left)
        assert self.root is not None
        self.root.red = False

    def _rotate(self, node: Node[T], left: bool) -> None:
        """Puts the right (or left) child of `node` above it."""
        child = node.right if left else node.left
        assert child is not None
        if left:
            node.right, inner, child.left = child.left, child.left, node
        else:
            node.left, inner, child.right = child.right, child.right, node
        if inner is not None:
            inner.parent = node
        self._put(node, child)
        node.parent = child

    def _put(self, old: Node[T], new: Node[T] | None) -> None:
        """Hangs `new` where `old` hung."""
        parent = old.parent
        if parent is None:
            self.root = new
        elif parent.left is old:
            parent.left = new
        else:
            parent.right = new
        if new is not None:
            new.parent = parent

    def erase(self, node: Node[T]) -> None:
        """Takes `node` out, and balances the tree."""
        black = not node.red
        if node.left is None or node.right is None:
            child = node.right if node.left is None else node.left
            parent = node.parent
            self._put(node, child)
        else:
            heir = node.right
            while heir.left is not None:
                heir = heir.left
            black = not heir.red
            child = heir.right
            parent = heir
            if heir.parent is not node:
                parent = heir.parent
                self._put(heir, child)
                heir.right = node.right
                heir.right.parent = heir
            self._put(node, heir)
            heir.left = node.left
            heir.left.parent = heir
            heir.red = node.red
        if black:
            self._erased(child, parent)

    def _erased(self, node: Node[T] | None, parent: Node[T] | None) -> None:
        while parent is not None and (node is None or not node.red):
            left = node is parent.left
            sibling = parent.right if left else parent.left
            assert sibling is not None
            if sibling.red:
                sibling.red, parent.red = False, True
                self._rotate(parent, left)
                sibling = parent.right if left else parent.left
                assert sibling is not None
            near, far = (sibling.left, sibling.right) if left else (sibling.right, sibling.left)
            if (near is None or not near.red) and (far is None or not far.red):
                sibling.red = True
                node, parent = parent, parent.parent
                continue
            if far is None or not far.red:
                assert near is not None
                near.red, sibling.red = False, True
                self._rotate(sibling, not left)
                sibling, far = near, sibling
            sibling.red, parent.red, far.red = parent.red, False, False
            self._rotate(parent, left)
            return
        if node is not None:
            node.red = False
