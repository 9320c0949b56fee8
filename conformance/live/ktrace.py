"""Tracepoints as they happen: a trace instance of one's own whose lines are read while it runs."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from conformance.live.walk_trace import TraceError, tracefs

CHUNK: Final = 1 << 16
LINE: Final = re.compile(rb"^.*?\s(\d+\.\d+): (\w+): (.*)$")


class Pipe:
    """The lines of one trace instance since they were last read."""

    def __init__(self, folder: Path) -> None:
        self.fd = os.open(folder / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.rest = b""

    def new(self) -> list[tuple[str, str]]:
        """What has happened since: each event's name and its text, in order."""
        return [(name, text) for _, name, text in self.stamped()]

    def stamped(self) -> list[tuple[int, str, str]]:
        """The same with the trace clock's time of each event, in us."""
        data = self.rest
        while True:
            try:
                more = os.read(self.fd, CHUNK)
            except BlockingIOError:
                break
            if not more:
                break
            data += more
        *lines, self.rest = data.split(b"\n")
        if any(b"LOST" in line for line in lines):
            raise TraceError("the trace's buffer was too small: events were lost")
        found = (LINE.match(line) for line in lines)
        return [(int(m[1].replace(b".", b"")), m[2].decode(), m[3].decode()) for m in found if m is not None]

    def close(self) -> None:
        """Nothing more is read."""
        os.close(self.fd)


@contextmanager
def follow(events: Mapping[str, str], kilobytes: int = 2048) -> Iterator[Pipe]:
    """Follows events ("napi/napi_poll"), each with its filter ("" for all); the instance is gone afterwards.

    Raises TraceError where the kernel has no tracefs or refuses.
    """
    with tracefs() as root:
        folder = root / "instances" / f"refmodel-follow-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError as e:
            raise TraceError(f"no trace instance can be made: {e}") from e
        try:
            (folder / "buffer_size_kb").write_text(str(kilobytes))
            for event, wanted in events.items():
                if wanted:
                    (folder / "events" / event / "filter").write_text(wanted)
                (folder / "events" / event / "enable").write_text("1")
            pipe = Pipe(folder)
            try:
                yield pipe
            finally:
                pipe.close()
        finally:
            (folder / "events" / "enable").write_text("0")
            folder.rmdir()
