"""The second dissector: captures through pyshark and tshark, to cross-check the native reader and to replace it.

`PysharkReader` yields the same frames as `conformance.pcap.Reader`, for whatever file tshark reads. `same_fields`
dissects a capture both ways and lists every field in which the two differ. Fields are named as in Wireshark's display
filters, numbers are ints, addresses text. It needs the `pyshark` extra and tshark, and raises TsharkMissing without.
"""

import asyncio
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final

from msgspec import Struct

from conformance.fields import Value, dissect, one_or_many
from conformance.frames import Direction, Frame, Interface, Notice
from conformance.pcap import CaptureError, Reader
from refmodel.packet import (
    LINKTYPE_ETHERNET,
    LINKTYPE_IPV4,
    LINKTYPE_IPV6,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_LINUX_SLL2,
    LINKTYPE_LOOP,
    LINKTYPE_NULL,
    LINKTYPE_RAW,
    Packet,
    PacketType,
    decode,
)
from refmodel.packet.wire import LINKTYPES_RAW

# tshark's encapsulation numbers (WTAP_ENCAP_*) of the link types that Linux's taps give
_LINKTYPES: Final = {
    1: LINKTYPE_ETHERNET,
    7: LINKTYPE_RAW,
    15: LINKTYPE_NULL,
    25: LINKTYPE_LINUX_SLL,
    129: LINKTYPE_IPV4,
    130: LINKTYPE_IPV6,
    210: LINKTYPE_LINUX_SLL2,
    174: LINKTYPE_LOOP,
}

_PREFERENCES: Final = {
    "tcp.relative_sequence_numbers": "FALSE",
    "tcp.desegment_tcp_streams": "FALSE",
    "tcp.check_checksum": "TRUE",
    "udp.check_checksum": "TRUE",
    "ip.check_checksum": "TRUE",
    "ip.defragment": "FALSE",
    "ipv6.defragment": "FALSE",
}

# A capture without names resolved or conversations guessed: what stands on the wire and nothing else.
_PARAMETERS: Final = ["-n"]


class TsharkMissing(CaptureError):
    """pyshark or tshark is not installed."""


class TsharkFailed(CaptureError):
    """tshark gave up on the file; `found` holds what it said."""


class Difference(Struct, frozen=True):
    """One field that the two readers see differently; None stands for 'not there'."""

    number: int
    field: str
    native: Value | None
    tshark: Value | None

    def __str__(self) -> str:
        return f"frame {self.number}: {self.field}: native {self.native!r}, tshark {self.tshark!r}"


def missing() -> str:
    """What is missing for this reader, in words; '' if nothing is."""
    if shutil.which("tshark") is None:
        return "tshark is not installed (apt-get install tshark)"
    try:
        import pyshark  # noqa: F401
    except ImportError:
        return "pyshark is not installed (pip install 'refmodel[pyshark]')"
    return ""


class PysharkReader:
    """Reads a capture through tshark; a context manager and an iterator of Frames like the native Reader.

    Raises TsharkMissing when it is made, TsharkFailed when tshark cannot read the file at all; damage after the first
    frame becomes a Notice.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.notices: list[Notice] = []
        self.interfaces: list[Interface] = []
        self.comments: list[str] = []
        self.format = "tshark"
        self.frames = 0
        lacking = missing()
        if lacking:
            raise TsharkMissing(self.path, 0, lacking, "pyshark and tshark", "The native reader needs neither.")

    def __enter__(self) -> "PysharkReader":
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between iterations."""

    def __iter__(self) -> Iterator[Frame]:
        for layers in self._layers():
            yield self._frame(layers)

    def fields(self) -> Iterator[tuple[Frame, Mapping[str, Any]]]:
        """Each frame, with tshark's layers as it gave them: name to fields, or a list of those."""
        for layers in self._layers():
            yield self._frame(layers), layers

    def _layers(self) -> Iterator[dict[str, Any]]:
        self.frames = 0
        loop = asyncio.new_event_loop()
        try:
            capture = opened(self.path, loop)
            try:
                packets = iter(capture)
                with warnings.catch_warnings():
                    # Before the first packet pyshark leaves its cache file to the garbage collector.
                    warnings.simplefilter("ignore", ResourceWarning)
                    packet = next(packets, None)
                while packet is not None:
                    self.frames += 1
                    # The layers' own dictionaries: pyshark's accessors would ask tshark for a type of each field.
                    yield {x.layer_name: x._fields_dict for x in (packet.frame_info, *packet.layers)}
                    packet = next(packets, None)
            finally:
                capture.close()
        except FileNotFoundError as e:
            raise TsharkFailed(self.path, 0, str(e), "a readable file", "Check the path.") from e
        finally:
            loop.close()
        if capture.failed:
            said = capture._last_error_line or "tshark failed"
            if not self.frames:
                raise TsharkFailed(self.path, 0, said, "a file that tshark reads", f"Try: tshark -r {self.path}")
            self.notices.append(Notice(self.path, 0, said, "the rest of the file", self.frames))

    def _frame(self, layers: Mapping[str, Any]) -> Frame:
        info = layers["frame"]
        encapsulation = int(info["frame_frame_encap_type"])
        linktype = _LINKTYPES.get(encapsulation, 0xFFFF)
        seconds, _, fraction = info["frame_frame_time_epoch"].partition(".")
        data = bytes.fromhex(layers["frame_raw"])
        interface = int(info.get("frame_frame_interface_id", "0"))
        comment = layers.get("pkt_comment", {})
        text = comment.get("frame_frame_comment", "") if isinstance(comment, Mapping) else ""
        return Frame(
            int(info["frame_frame_number"]),
            int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0"),
            linktype,
            interface,
            data,
            int(info["frame_frame_len"]),
            _direction(info, data, linktype),
            "\n".join(text) if isinstance(text, list) else text,
        )


def opened(path: str, loop: asyncio.AbstractEventLoop, display_filter: str | None = None, tree: bool = False) -> Any:
    """pyshark's capture of a file, with the end of tshark put right; `failed` tells afterwards whether tshark did.

    With `tree` its fields have the texts of Wireshark's tree, without it bare values and each frame's bytes.
    """
    import pyshark
    from pyshark.capture.capture import TSharkCrashException

    class Capture(pyshark.FileCapture):  # type: ignore[misc]
        failed = False

        async def _cleanup_subprocess(self, process: asyncio.subprocess.Process) -> None:
            # At the end of its output tshark is about to exit: to kill it then, as pyshark does, loses its exit status.
            if self._eof_reached:
                await process.wait()
            try:
                await super()._cleanup_subprocess(process)
            except TSharkCrashException:
                self.failed = True

    return Capture(
        path,
        keep_packets=False,
        display_filter=display_filter,
        use_ek=not tree,
        include_raw=not tree,
        eventloop=loop,
        override_prefs=_PREFERENCES,
        custom_parameters=_PARAMETERS,
    )


def _direction(info: Mapping[str, Any], data: bytes, linktype: int) -> Direction:
    flags = info.get("frame_frame_packet_flags_direction")
    if flags is not None:
        found: Direction = {1: "in", 2: "out"}.get(int(str(flags), 0), "")  # type: ignore[assignment]
        if found:
            return found
    at = {LINKTYPE_LINUX_SLL: 1, LINKTYPE_LINUX_SLL2: 10}.get(linktype)
    if at is None or len(data) <= at:
        return ""
    return "out" if data[at] == PacketType.PACKET_OUTGOING else "in"


def same_fields(path: str | os.PathLike[str]) -> list[Difference]:
    """Every field of every frame that the native reader and tshark see differently; an empty list is agreement.

    Raises CaptureError. Fields that only tshark knows are left out, but a protocol that only tshark sees is not.
    """
    out: list[Difference] = []
    with Reader(path) as native, PysharkReader(path) as other:
        theirs = other.fields()
        for frame in native:
            pair = next(theirs, None)
            if pair is None:
                out.append(Difference(frame.number, "frame", "present", None))
                return out
            out += compare(frame, *pair)
        out += [Difference(f.number, "frame", None, "present") for f, _ in theirs]
    return out


def compare(frame: Frame, other: Frame, layers: Mapping[str, Any]) -> list[Difference]:
    """The differences in one frame: as files hold it, and as dissected."""
    number = frame.number
    names = ["number", "time", "data", "orig_len", "direction", "comment"]
    if not (other.linktype == LINKTYPE_RAW and frame.linktype in LINKTYPES_RAW):  # tshark knows one raw IP
        names.append("linktype")
    if layers["frame"].get("frame_frame_section_number", "1") == "1":
        names.append("interface")  # tshark counts interfaces anew in each section
    out = [
        Difference(number, f"frame.{name}", _plain(getattr(frame, name)), _plain(getattr(other, name)))
        for name in names
        if getattr(frame, name) != getattr(other, name)
    ]
    packet = decode(frame.data, frame.linktype, frame.orig_len)
    ours = dissect(packet)
    for name, value in ours.items():
        theirs = tshark_value(layers, name)
        if theirs != value:
            out.append(Difference(number, name, value, theirs))
    out += _unseen(number, packet, layers)
    return out


def _unseen(number: int, packet: Packet, layers: Mapping[str, Any]) -> list[Difference]:
    """Protocols that tshark sees in a whole and well-formed frame and the native decoder does not."""
    if packet.truncated or packet.malformed is not None or isinstance(layers.get("ip"), list):
        return []
    if isinstance(layers.get("ipv6"), list) or ("ip" in layers and "ipv6" in layers):
        return []  # a tunnel: the native decoder stops at its outer header
    names = {x.NAME for x in packet.layers}
    known = ("arp", "ip", "ipv6", "icmp", "icmpv6", "udp", "tcp")
    return [Difference(number, x, None, "present") for x in known if x in layers and x not in names]


def _plain(value: object) -> Value:
    return value.hex() if isinstance(value, bytes) else value if isinstance(value, int) else str(value)


# tshark's side


def tshark_value(layers: Mapping[str, Any], name: str) -> Value | None:
    """The value of a display-filter field in tshark's layers, at the top level or in the part it is nested in."""
    protocol = name.split(".")[0]
    found = layers.get(protocol)
    if found is None:
        # An authentication header stands inside the IP layer.
        found = next((x[protocol] for x in layers.values() if isinstance(x, Mapping) and protocol in x), None)
    parts = found if isinstance(found, list) else [found]
    values = [v for v in (_lookup(x, name) for x in parts if isinstance(x, Mapping)) if v is not None]
    if not values:
        return None
    # Each VLAN tag is a layer of its own; of other repeated layers the outermost is the frame's.
    return one_or_many([v for v in values if not isinstance(v, tuple)]) if protocol == "vlan" else values[0]


def _lookup(part: Mapping[str, Any], name: str) -> Value | None:
    """A field of one layer, or of one of its named parts (IPv6 extension headers); not of a quoted packet."""
    protocol, flat = name.split(".")[0], name.replace(".", "_")
    for key in (f"{protocol}_{flat}", flat):
        if key in part:
            return _normal(part[key])
    for nested, inner in part.items():
        if isinstance(inner, Mapping) and nested.startswith(protocol + "_") and flat.startswith(nested):
            for key in (f"{nested}_{flat}", flat):
                if key in inner:
                    return _normal(inner[key])
    return None


def _normal(value: object) -> Value:
    """tshark's text as a number where it is one; a list as a tuple."""
    if isinstance(value, list):
        return tuple(v for v in map(_normal, value) if not isinstance(v, tuple))
    if isinstance(value, bool):
        return int(value)
    text = str(value)
    try:
        return int(text, 0)
    except ValueError:
        return text
