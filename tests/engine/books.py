"""Keeps the registries as they were, for tests that register rules of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from refmodel import rule


@contextmanager
def kept() -> Iterator[None]:
    books: list[dict[str, Any]] = [rule.RULES, rule.STEPS, rule.PROPERTIES, rule.MACHINES]
    saved = [dict(b) for b in books]
    try:
        yield
    finally:
        for book, old in zip(books, saved, strict=True):
            book.clear()
            book.update(old)
