"""The words of a rule's line, and what they are read as: numbers, addresses, ranges."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Final

from refmodel.netfilter.matches import Ports

M32: Final = 0xFFFFFFFF
PROTOCOLS: Final = {"all": 0, "icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "sctp": 132}
NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|\d+")


class RestoreError(ValueError):
    """A line of an iptables-save text that can't be read: its number, what stands there, what was expected."""

    def __init__(self, line: int, found: str, expected: str) -> None:
        super().__init__(f"line {line}: found {found!r}, expected {expected}")
        self.line = line
        self.found = found
        self.expected = expected


class Words:
    """The words of one line, one after the other."""

    def __init__(self, line: int, tokens: list[str]) -> None:
        self.line = line
        self._tokens = tokens
        self._at = 0

    def left(self) -> bool:
        """There are more."""
        return self._at < len(self._tokens)

    def peek(self) -> str:
        """The next one; empty at the end."""
        return self._tokens[self._at] if self.left() else ""

    def next(self, expected: str) -> str:
        """Takes the next one; raises RestoreError at the end."""
        if not self.left():
            raise RestoreError(self.line, "the end of the line", expected)
        self._at += 1
        return self._tokens[self._at - 1]

    def take(self, word: str) -> bool:
        """Takes the next one if it is that word."""
        if self.peek() != word:
            return False
        self._at += 1
        return True

    def error(self, found: str, expected: str) -> RestoreError:
        """An error on this line."""
        return RestoreError(self.line, found, expected)


def number(words: Words, text: str, low: int, high: int, what: str) -> int:
    """A number in [low, high], decimal or 0x."""
    if not NUMBER.fullmatch(text) or not low <= int(text, 0 if text[:2] in ("0x", "0X") else 10) <= high:
        raise words.error(text, f"{what}, {low} to {high}")
    return int(text, 0 if text[:2] in ("0x", "0X") else 10)


def masked(words: Words, text: str, what: str, high: int = M32) -> tuple[int, int]:
    """VALUE or VALUE/MASK."""
    value, _, mask = text.partition("/")
    return number(words, value, 0, high, what), number(words, mask, 0, high, "a mask") if mask else high


def address(words: Words, text: str) -> tuple[int, int]:
    """ADDRESS, ADDRESS/LENGTH or ADDRESS/MASK as (address, mask)."""
    try:
        net = IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError) as e:
        raise words.error(text, "an IPv4 address, with /LENGTH or /MASK if it is a network") from e
    return int(net.network_address), int(net.netmask)


def ip(words: Words, text: str) -> bytes:
    """One IPv4 address."""
    try:
        return IPv4Address(text).packed
    except AddressValueError as e:
        raise words.error(text, "an IPv4 address") from e


def ip_range(words: Words, text: str) -> tuple[bytes, bytes]:
    """ADDRESS or ADDRESS-ADDRESS."""
    low, _, high = text.partition("-")
    return ip(words, low), ip(words, high or low)


def port_pair(words: Words, text: str, sep: str) -> tuple[int, int]:
    """PORT, or two joined by `sep`, either of which may be left out."""
    low, joined, high = text.partition(sep)
    first = number(words, low, 0, 65_535, "a port") if low else 0
    if not joined:
        return first, first
    return first, number(words, high, 0, 65_535, "a port") if high else 65_535


def ports(words: Words, text: str, invert: bool) -> Ports:
    """PORT or LOW:HIGH."""
    low, high = port_pair(words, text, ":")
    if low > high:
        raise words.error(text, "a range of ports whose first is not above its last")
    return Ports(low, high, invert)
