"""Structures of system calls as bytes: message headers with their control messages, values of socket options."""

import ipaddress
import struct
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from conformance.pkt import printer
from conformance.pkt.ast import Address, Arg, Auto, Cmsg, ExtErr, Items, Linger, ScmTime, Stats, Text
from conformance.pkt.calls import number
from refmodel.types import M32

CMSG_HEADER: Final = 16


class Control(Struct, frozen=True):
    """A control message as recvmsg gave it."""

    level: int
    type: int
    data: bytes


def packed(cmsg: Cmsg) -> bytes:
    """A control message for sendmsg."""
    data = struct.pack("I", number(cmsg.data) & M32)
    header = struct.pack("QII", CMSG_HEADER + len(data), number(cmsg.level) & M32, number(cmsg.type) & M32)
    return header + data + bytes(-len(data) % 8)


def compare_control(
    expected: Sequence[Cmsg], got: Sequence[Control], to_script_ns: Callable[[int], int], tolerance_usecs: int
) -> str:
    """What differs between control messages, in order; '' where nothing does.

    `to_script_ns` turns ns since the epoch into ns since the script's start.
    """
    for n, cmsg in enumerate(expected, 1):
        if n > len(got):
            return f"control message {n} is missing: {printer.argument(cmsg)}"
        live = got[n - 1]
        if (number(cmsg.level), number(cmsg.type)) != (live.level, live.type):
            return f"control message {n} has level {live.level} and type {live.type}, expected {printer.argument(cmsg)}"
        wrong = _compare_data(cmsg.data, live.data, to_script_ns, tolerance_usecs)
        if wrong:
            return f"control message {n}: {wrong}"
    if len(got) > len(expected):
        extra = got[len(expected)]
        return f"one control message more than expected: level {extra.level}, type {extra.type}"
    return ""


def _compare_data(arg: Arg, data: bytes, to_script_ns: Callable[[int], int], tolerance_usecs: int) -> str:
    match arg:
        case ScmTime():
            wanted = number(arg.sec) * 1_000_000_000 + number(arg.nsec)
            sec, nsec = struct.unpack_from("qq", data)
            stamp = to_script_ns(sec * 1_000_000_000 + nsec)
            if wanted and abs(stamp - wanted) > tolerance_usecs * 1000:
                return f"the time stamp is {stamp / 1e9:.6f} s, expected {wanted / 1e9:.6f} s"
            return ""
        case ExtErr():
            names = ("errno", "origin", "type", "code", "info", "data")
            values = struct.unpack_from("IBBBxII", data)
            for name, value in zip(names, values, strict=True):
                if number(getattr(arg, name)) & 0xFFFFFFFF != value:
                    return f"ee_{name} is {value}, expected {printer.argument(getattr(arg, name))}"
            return ""
        case Stats():
            live = dict(_attributes(data))
            for symbol, value in arg.values:
                if live.get(number(symbol)) != number(value):
                    return f"{symbol.name} is {live.get(number(symbol))}, expected {number(value)}"
            return ""
        case _:
            got = int.from_bytes(data[: min(4, len(data))], "little", signed=len(data) >= 4)
            return "" if got == number(arg) else f"cmsg_data is {got}, expected {printer.argument(arg)}"


def _attributes(data: bytes) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("HH", data, at)
        if size < 4:
            break
        out.append((kind, int.from_bytes(data[at + 4 : at + size], "little")))
        at += size + 3 & ~3
    return out


def sockopt_bytes(arg: Arg) -> bytes:
    """A value for setsockopt."""
    match arg:
        case Items():
            return b"".join(struct.pack("I", number(x) & 0xFFFFFFFF) for x in arg.items)
        case Text():
            return arg.value
        case Linger():
            return struct.pack("II", number(arg.onoff) & M32, number(arg.linger) & M32)
        case Address():
            return ipaddress.ip_address(arg.addr).packed
        case Auto():
            return b""
        case _:
            return struct.pack("I", number(arg) & 0xFFFFFFFF)


def compare_sockopt(arg: Arg, got: bytes) -> str:
    """What differs between the value that getsockopt gave and the script's; '' where nothing does."""
    match arg:
        case Auto():
            return ""
        case Linger():
            values = struct.unpack("ii", got[:8].ljust(8, b"\0"))
            wanted = (number(arg.onoff), number(arg.linger))
            return "" if values == wanted else f"the value is onoff {values[0]}, linger {values[1]}"
        case Text():
            same = got.rstrip(b"\0") == arg.value.rstrip(b"\0")
            return "" if same else f"the value is {got!r}, expected {arg.value!r}"
        case Items():
            live = [int.from_bytes(got[i : i + 4], "little") for i in range(0, len(got), 4)]
            if [number(x) & 0xFFFFFFFF for x in arg.items if not isinstance(x, Auto)] == live:
                return ""
            signed = [v - (1 << 32) if v >> 31 else v for v in live]
            return f"the value is {signed}, expected {printer.argument(arg)}"
        case _:
            value = int.from_bytes(got[:4], "little")
            return "" if value == number(arg) & 0xFFFFFFFF else f"the value is {value}, expected {number(arg)}"
