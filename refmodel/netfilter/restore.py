"""Reads what `iptables-save` writes: tables, chains with policies and counters, rules.

An error names the line, what stands there and what was expected. What the model doesn't have is refused, not skipped.
"""

import re
import shlex
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from refmodel.netfilter import restore_match, restore_target
from refmodel.netfilter.nat import Nat
from refmodel.netfilter.restore_words import PROTOCOLS, RestoreError, Words, address, number
from refmodel.netfilter.tables import ChainSpec, IptEntry, IptIp
from refmodel.netfilter.targets import Nothing, Target
from refmodel.netfilter.uapi import HOOKS

TABLES: Final = ("raw", "mangle", "nat", "filter")
CHAIN: Final = re.compile(r":(\S+)\s+(\S+)(?:\s+\[(\d+):(\d+)\])?$")
COUNTERS: Final = re.compile(r"\[(\d+):(\d+)\]\s+")


class TableSpec(Struct):
    """A table as userspace says it; `jumps` are the chains that rules go to, by the identity of the rule."""

    name: str
    chains: list[ChainSpec] = []
    jumps: dict[int, str] = {}


def parse(text: str, nat: Nat) -> list[TableSpec]:
    """The tables of an iptables-save text; raises RestoreError. `nat` is whom NAT's targets will ask."""
    tables: list[TableSpec] = []
    table: TableSpec | None = None
    for line, raw in enumerate(text.splitlines(), 1):
        row = raw.strip()
        if not row or row.startswith("#"):
            continue
        if row.startswith("*"):
            if row[1:] not in TABLES:
                raise RestoreError(line, row, f"one of the tables {', '.join(TABLES)}")
            table = TableSpec(row[1:], [], {})
            continue
        if table is None:
            raise RestoreError(line, row, "a table, as *filter, before anything else")
        if row == "COMMIT":
            tables.append(table)
            table = None
        elif row.startswith(":"):
            table.chains.append(_chain(line, row))
        else:
            _rule(line, row, table, nat)
    if table is not None:
        raise RestoreError(len(text.splitlines()), "end of text", f"COMMIT of table {table.name}")
    return tables


def _chain(line: int, row: str) -> ChainSpec:
    m = CHAIN.match(row)
    if m is None:
        raise RestoreError(line, row, "a chain, as :INPUT ACCEPT [0:0] or :mine - [0:0]")
    name, policy = m[1], m[2]
    allowed = ("ACCEPT", "DROP", "-") if name in HOOKS else ("-",)
    if policy not in allowed:
        raise RestoreError(line, policy, f"a policy of chain {name}: {', '.join(allowed)}")
    policy = "ACCEPT" if name in HOOKS and policy == "-" else policy
    return ChainSpec(name, "" if policy == "-" else policy, (int(m[3] or 0), int(m[4] or 0)), [])


def _rule(line: int, row: str, table: TableSpec, nat: Nat) -> None:
    counters = COUNTERS.match(row)
    pcnt, bcnt = (int(counters[1]), int(counters[2])) if counters else (0, 0)
    rest = row[counters.end() :] if counters else row
    try:
        tokens = shlex.split(rest)
    except ValueError as e:
        raise RestoreError(line, rest, f"a rule whose quotes are closed ({e})") from e
    words = Words(line, tokens)
    if words.next("-A CHAIN") not in ("-A", "--append"):
        raise RestoreError(line, tokens[0], "-A CHAIN")
    name = words.next("a chain's name")
    chain = next((c for c in table.chains if c.name == name), None)
    if chain is None:
        raise RestoreError(line, name, f"a chain that table {table.name} has declared with :{name}")
    entry, jump = _entry(words, nat)
    entry.pcnt, entry.bcnt, entry.text = pcnt, bcnt, " ".join(tokens[2:])
    chain.rules.append(entry)
    if jump:
        table.jumps[id(entry)] = jump


def _entry(words: Words, nat: Nat) -> tuple[IptEntry, str]:
    ip = IptIp()
    inv: set[str] = set()
    builders: list[restore_match.Builder] = []
    target: Callable[[], Target] | None = None
    jump, goto = "", False
    while words.left():
        invert = words.take("!")
        option = words.next("an option")
        if option in ("-s", "--source", "--src"):
            ip.src, ip.smsk = address(words, words.next("a source address"))
            inv |= {"s"} if invert else set()
        elif option in ("-d", "--destination", "--dst"):
            ip.dst, ip.dmsk = address(words, words.next("a destination address"))
            inv |= {"d"} if invert else set()
        elif option in ("-i", "--in-interface"):
            ip.iniface = words.next("a device's name")
            inv |= {"i"} if invert else set()
        elif option in ("-o", "--out-interface"):
            ip.outiface = words.next("a device's name")
            inv |= {"o"} if invert else set()
        elif option in ("-p", "--protocol"):
            ip.proto = protocol(words, words.next("a protocol"))
            inv |= {"p"} if invert else set()
        elif option in ("-f", "--fragment"):
            ip.frag = True
            inv |= {"f"} if invert else set()
        elif option in ("-m", "--match"):
            builders.append(restore_match.builder(words, words.next("a match's name"), ip.proto))
        elif option in ("-j", "--jump", "-g", "--goto"):
            name = words.next("a target's or a chain's name")
            goto = option in ("-g", "--goto")
            target = None if goto else restore_target.target(words, name, ip.proto, nat)
            jump = name if target is None else ""
        elif not any(b.option(words, option, invert) for b in reversed(builders)):
            implied = restore_match.implied(words, ip.proto, "p" in inv)
            if implied is None or not implied.option(words, option, invert):
                raise RestoreError(words.line, option, "an option of the rule, or of a match that was named with -m")
            builders.append(implied)
    ip.inv = frozenset(inv)
    return IptEntry(ip, tuple(b.build() for b in builders), target() if target else Nothing(), goto), jump


def protocol(words: Words, text: str) -> int:
    """A protocol by name or number; `all` is 0."""
    if text in PROTOCOLS:
        return PROTOCOLS[text]
    return number(words, text, 0, 255, "a protocol's name or number")
