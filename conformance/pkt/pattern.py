"""Patterns of grep, matched in a time that grows with pattern and line alone, whatever a stranger writes.

A pattern is alternatives of characters, each with or without a repetition. Groups and back references are refused:
without them the places a match may have reached are a set of numbers.
"""

from typing import Final

from msgspec import Struct

LONGEST: Final = 200
CLASSES: Final = {
    "digit": "0123456789",
    "alpha": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "alnum": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "space": " \t\n\r\f\v",
    "xdigit": "0123456789abcdefABCDEF",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "lower": "abcdefghijklmnopqrstuvwxyz",
}
ESCAPES: Final = {"s": (CLASSES["space"], False), "S": (CLASSES["space"], True), "d": (CLASSES["digit"], False),
                  "w": (CLASSES["alnum"] + "_", False), "W": (CLASSES["alnum"] + "_", True)}  # fmt: skip


class BadPattern(Exception):
    """A pattern that is not interpreted; the message says why."""


class Atom(Struct, frozen=True):
    """A character out of `chars` (None: any), or none of them where `negated`; it may be left out, or come again."""

    chars: str | None
    negated: bool = False
    optional: bool = False
    again: bool = False

    def takes(self, char: str, fold: bool) -> bool:
        """The character fits."""
        if self.chars is None:
            return True
        found = char in self.chars or (fold and (char.lower() in self.chars or char.upper() in self.chars))
        return found != self.negated


class Alternative(Struct, frozen=True):
    """Atoms in order, held to the line's begin or end."""

    atoms: tuple[Atom, ...]
    start: bool = False
    end: bool = False


class Pattern(Struct, frozen=True):
    """A whole pattern; `fold`: case counts for nothing; `word`: what matches stands between no letters and digits."""

    alternatives: tuple[Alternative, ...]
    fold: bool = False
    word: bool = False

    def matches(self, line: str) -> bool:
        """A part of the line fits."""
        return any(self._search(a, line) for a in self.alternatives)

    def _search(self, a: Alternative, line: str) -> bool:
        starts = (0,) if a.start else range(len(line) + 1)
        if self.word:
            return any(_bounded(line, s, e) for s in starts for e in self._ends(a, line, (s,)))
        return bool(self._ends(a, line, tuple(starts)))

    def _ends(self, a: Alternative, line: str, starts: tuple[int, ...]) -> set[int]:
        """Where matches that begin at one of `starts` may end."""
        reached = set(starts)
        for atom in a.atoms:
            reached = self._step(atom, line, reached)
        return {e for e in reached if not a.end or e == len(line)}

    def _step(self, atom: Atom, line: str, reached: set[int]) -> set[int]:
        out = set(reached) if atom.optional else set()
        todo = sorted(reached, reverse=True)
        seen = set(reached)
        while todo:
            at = todo.pop()
            if at < len(line) and atom.takes(line[at], self.fold):
                out.add(at + 1)
                if atom.again and at + 1 not in seen:
                    seen.add(at + 1)
                    todo.append(at + 1)
        return out


def _bounded(line: str, start: int, end: int) -> bool:
    before, behind = line[start - 1 : start] if start else "", line[end : end + 1]
    return not any(c.isalnum() or c == "_" for c in before + behind)


def compile_pattern(
    text: str, extended: bool = False, fixed: bool = False, fold: bool = False, word: bool = False
) -> Pattern:
    r"""A pattern of grep (basic), grep -E or grep -F; raises BadPattern.

    As GNU grep reads it: \| \+ \? in basic patterns, | + ? in extended ones.
    """
    if len(text) > LONGEST:
        raise BadPattern(f"a pattern of {len(text)} characters: at most {LONGEST}")
    if fixed:
        parts = text.split("\n")
        return Pattern(tuple(Alternative(tuple(Atom(c) for c in part)) for part in parts), fold, word)
    return Pattern(tuple(_alternative(part, extended) for part in _split(text, extended)), fold, word)


def _split(text: str, extended: bool) -> list[str]:
    parts, current, at, depth = [], "", 0, False
    while at < len(text):
        char = text[at]
        two = text[at : at + 2]
        if char == "[" and not depth:
            depth = True
        elif char == "]" and depth:
            depth = False
        if not depth and (char == "|" if extended else two == "\\|"):
            parts.append(current)
            current = ""
            at += 1 if extended else 2
            continue
        if char == "\\" and not depth:
            current += two
            at += 2
            continue
        current += char
        at += 1
    return [*parts, current]


def _alternative(text: str, extended: bool) -> Alternative:
    start = text.startswith("^")
    at = int(start)
    end = text.endswith("$") and not text.endswith("\\$")
    stop = len(text) - int(end)
    atoms: list[Atom] = []
    while at < stop:
        atom, at = _atom(text, at, stop, extended, not atoms)
        repeat = text[at : at + 1] if at < stop else ""
        if not extended and text[at : at + 2] in ("\\+", "\\?"):
            repeat, at = text[at + 1], at + 1
        elif repeat in ("+", "?") and not extended:
            repeat = ""
        if repeat and repeat in "*+?":
            atom = Atom(atom.chars, atom.negated, repeat in "*?", repeat in "*+")
            at += 1
        atoms.append(atom)
    return Alternative(tuple(atoms), start, end)


def _atom(text: str, at: int, stop: int, extended: bool, first: bool) -> tuple[Atom, int]:
    char = text[at]
    if char == "[":
        return _bracket(text, at, stop)
    if char == "\\":
        if at + 1 >= stop:
            raise BadPattern("a pattern that ends in a backslash")
        escaped = text[at + 1]
        if escaped in ESCAPES:
            chars, negated = ESCAPES[escaped]
            return Atom(chars, negated), at + 2
        if escaped.isalnum() or (not extended and escaped in "(){}"):
            raise BadPattern(f"\\{escaped} is not interpreted")
        return Atom(escaped), at + 2
    if char == ".":
        return Atom(None), at + 1
    if extended and char in "(){}":
        raise BadPattern("groups and counts are not interpreted")
    if char in "*+?" and (extended or char == "*") and not (first and not extended):
        raise BadPattern(f"{char} repeats nothing")
    return Atom(char), at + 1


def _bracket(text: str, at: int, stop: int) -> tuple[Atom, int]:
    begin = at
    at += 1
    negated = text[at : at + 1] == "^"
    at += int(negated)
    chars = ""
    while at < stop and (text[at] != "]" or not chars):
        if text[at : at + 2] == "[:":
            name = text[at + 2 : text.find(":]", at)]
            if name not in CLASSES:
                raise BadPattern(f"[:{name[:20]}:] is not interpreted")
            chars += CLASSES[name]
            at += len(name) + 4
        elif text[at + 1 : at + 2] == "-" and at + 2 < stop and text[at + 2] != "]":
            low, high = ord(text[at]), ord(text[at + 2])
            if not low <= high < 128:
                raise BadPattern(f"{text[at : at + 3]} is no range")
            chars += "".join(map(chr, range(low, high + 1)))
            at += 3
        else:
            chars += text[at]
            at += 1
    if at >= stop:
        raise BadPattern(f"{text[begin : begin + 20]!r} is not closed")
    return Atom(chars, negated), at + 1
