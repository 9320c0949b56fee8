"""Reads targets and their options."""

from collections.abc import Callable
from typing import Final

from refmodel.netfilter import targets as t
from refmodel.netfilter.nat import (
    NF_NAT_RANGE_MAP_IPS,
    NF_NAT_RANGE_PERSISTENT,
    NF_NAT_RANGE_PROTO_RANDOM,
    NF_NAT_RANGE_PROTO_RANDOM_FULLY,
    NF_NAT_RANGE_PROTO_SPECIFIED,
    Nat,
    NatRange,
)  # fmt: skip
from refmodel.netfilter.restore_words import M32, Words, ip_range, masked, number, port_pair
from refmodel.netfilter.tuples import PORTS
from refmodel.netfilter.uapi import IPPROTO_ICMP, IPPROTO_TCP

REJECT: Final = {
    "icmp-net-unreachable": 0, "net-unreach": 0, "icmp-host-unreachable": 1, "host-unreach": 1,
    "icmp-proto-unreachable": 2, "proto-unreach": 2, "icmp-port-unreachable": 3, "port-unreach": 3,
    "icmp-net-prohibited": 9, "net-prohib": 9, "icmp-host-prohibited": 10, "host-prohib": 10,
    "icmp-admin-prohibited": 13, "admin-prohib": 13, "tcp-reset": -1, "tcp-rst": -1,
}  # fmt: skip
LOG_OPTIONS: Final = ("--log-level", "--log-prefix")
LOG_FLAGS: Final = ("--log-tcp-sequence", "--log-tcp-options", "--log-ip-options", "--log-uid", "--log-macdecode")
TOS_NAMES: Final = {
    "Minimize-Delay": 0x10, "Maximize-Throughput": 0x08, "Maximize-Reliability": 0x04, "Minimize-Cost": 0x02,
    "Normal-Service": 0,
}  # fmt: skip


def target(words: Words, name: str, proto: int, nat: Nat) -> Callable[[], t.Target] | None:
    """What makes the target of that name, its options read; None if it is the name of a chain."""
    if name in ("ACCEPT", "DROP", "RETURN"):
        said = {"ACCEPT": t.ACCEPT, "DROP": t.DROP, "RETURN": t.RETURN}[name]
        return lambda: said
    if name in ("SNAT", "DNAT", "MASQUERADE", "REDIRECT"):
        span = _nat_range(words, name, proto)
        return lambda: t.NatTarget(kind=name, nat=nat, range=span)
    reader = READERS.get(name)
    if reader is None:
        return None
    made = reader(words, proto)
    return lambda: made


def _reject(words: Words, proto: int) -> t.Target:
    code = 3
    while words.take("--reject-with"):
        text = words.next("how to reject")
        if text not in REJECT:
            raise words.error(text, ", ".join(REJECT))
        code = REJECT[text]
    if code < 0 and proto != IPPROTO_TCP:
        raise words.error("tcp-reset", "-p tcp in a rule that answers with a reset")
    return t.Reject(code=code)


def _log(words: Words, proto: int) -> t.Target:
    prefix = ""
    while words.peek() in (*LOG_OPTIONS, *LOG_FLAGS):
        option = words.next("an option")
        if option in LOG_OPTIONS:
            value = words.next("its value")
            prefix = value if option == "--log-prefix" else prefix
    return t.Log(prefix=prefix)


def _mark(words: Words, proto: int) -> t.Target:
    option = words.next("--set-xmark VALUE/MASK")
    if option in ("--set-xmark", "--set-mark"):
        mark, mask = masked(words, words.next("a mark"), "a mark")
        return t.SetMark(mark=mark, mask=mask | mark if option == "--set-mark" else mask)
    bits = number(words, words.next("bits"), 0, M32, "bits")
    if option == "--and-mark":
        return t.SetMark(mark=0, mask=bits ^ M32)
    if option == "--or-mark":
        return t.SetMark(mark=bits, mask=bits)
    if option == "--xor-mark":
        return t.SetMark(mark=bits, mask=0)
    raise words.error(option, "--set-xmark, --set-mark, --and-mark, --or-mark or --xor-mark")


def _connmark(words: Words, proto: int) -> t.Target:
    option = words.next("--set-xmark, --save-mark or --restore-mark")
    if option in ("--set-xmark", "--set-mark"):
        mark, mask = masked(words, words.next("a mark"), "a mark")
        return t.SetConnmark(mode="set", ctmark=mark, ctmask=mask | mark if option == "--set-mark" else mask)
    if option not in ("--save-mark", "--restore-mark"):
        raise words.error(option, "--set-xmark, --set-mark, --save-mark or --restore-mark")
    nfmask = ctmask = M32
    while words.peek() in ("--nfmask", "--ctmask", "--mask"):
        which = words.next("an option")
        value = number(words, words.next("a mask"), 0, M32, "a mask")
        nfmask = value if which != "--ctmask" else nfmask
        ctmask = value if which != "--nfmask" else ctmask
    return t.SetConnmark(mode=option[2:].removesuffix("-mark"), ctmask=ctmask, nfmask=nfmask)


def _ct(words: Words, proto: int) -> t.Target:
    if not words.take("--notrack"):
        raise words.error(words.peek() or "the end of the line", "--notrack, the only use of CT that is modelled")
    return t.Notrack()


def _tos(words: Words, proto: int) -> t.Target:
    option = words.next("--set-tos VALUE/MASK")
    if option != "--set-tos":
        raise words.error(option, "--set-tos")
    text = words.next("a TOS")
    if text in TOS_NAMES:
        return t.SetTos(value=TOS_NAMES[text], mask=0x3F)
    value, mask = masked(words, text, "a TOS", 0xFF)
    return t.SetTos(value=value, mask=mask)


def _dscp(words: Words, proto: int) -> t.Target:
    option = words.next("--set-dscp VALUE")
    if option != "--set-dscp":
        raise words.error(option, "--set-dscp with a number")
    return t.SetTos(value=number(words, words.next("a DSCP"), 0, 63, "a DSCP") << 2, mask=0xFC)


def _ttl(words: Words, proto: int) -> t.Target:
    option = words.next("--ttl-set, --ttl-inc or --ttl-dec")
    if option not in ("--ttl-set", "--ttl-inc", "--ttl-dec"):
        raise words.error(option, "--ttl-set, --ttl-inc or --ttl-dec")
    return t.SetTtl(how=option[6:], ttl=number(words, words.next("a TTL"), 0, 255, "a TTL"))


READERS: Final = {
    "REJECT": _reject,
    "LOG": _log,
    "MARK": _mark,
    "CONNMARK": _connmark,
    "CT": _ct,
    "NOTRACK": lambda words, proto: t.Notrack(),
    "TOS": _tos,
    "DSCP": _dscp,
    "TTL": _ttl,
}


def _nat_range(words: Words, name: str, proto: int) -> NatRange:
    flags, low, high = 0, bytes(4), bytes(4)
    first = last = 0
    option = {"SNAT": "--to-source", "DNAT": "--to-destination"}.get(name, "--to-ports")
    while True:
        if words.take(option):
            text = words.next("where to")
            addresses, _, span = text.partition(":") if option != "--to-ports" else ("", ":", text)
            if addresses:
                low, high = ip_range(words, addresses)
                flags |= NF_NAT_RANGE_MAP_IPS
            if span:
                if proto not in (*PORTS, IPPROTO_ICMP):
                    raise words.error(text, "-p with a protocol that has ports")
                first, last = port_pair(words, span, "-")
                flags |= NF_NAT_RANGE_PROTO_SPECIFIED
        elif words.take("--random"):
            flags |= NF_NAT_RANGE_PROTO_RANDOM
        elif words.take("--random-fully"):
            flags |= NF_NAT_RANGE_PROTO_RANDOM_FULLY
        elif words.take("--persistent"):
            flags |= NF_NAT_RANGE_PERSISTENT
        else:
            break
    if option != "--to-ports" and not flags & (NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED):
        raise words.error(words.peek() or "the end of the line", f"{option} ADDRESS[-ADDRESS][:PORT[-PORT]]")
    return NatRange(flags, low, high, first, last)
