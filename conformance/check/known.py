"""What is known of a host beside its frames: which calls its applications made, which counters moved.

A hidden event that a recorder would have seen is proposed only if the recorder saw it. Without a recording everything
that an application may do is possible.
"""

import re
from typing import Final

from conformance.check.setup import Host, Setup
from refmodel.types import NEVER

SENDS: Final = ("send", "write", "sendto", "sendmsg", "writev", "sendfile", "splice")
CLOSES: Final = ("close", "shutdown", "exit", "kill")
WORD: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
GRACE: Final = 10_000  # us: a call is logged before it is made, on another clock reading


class Known:
    """The calls and counters of one host; `recorded` says whether there is a recording at all."""

    def __init__(self, setup: Setup, host: Host | None) -> None:
        calls = [c for c in setup.calls if host is not None and c.host == host.name]
        self.recorded = bool(setup.calls) and host is not None and host.linux
        self.mib = host.mib if host is not None else {}
        self.first: dict[str, int] = {}  # when each word of a call was used first (us)
        for c in calls:
            for word in WORD.findall(c.call):
                self.first[word] = min(c.time, self.first.get(word, c.time))

    def called(self, *words: str, before: int) -> bool:
        """Whether one of the calls or socket options was used before `before` (us), or that cannot be known."""
        if not self.recorded:
            return True
        return any(self.first.get(w, NEVER) <= before + GRACE for w in words)

    def counted(self, *names: str) -> bool:
        """Whether one of the MIB counters moved during the recording, or that cannot be known."""
        return not self.recorded or any(self.mib.get(n, 0) > 0 for n in names)


NOTHING: Final = Known(Setup(kernel=""), None)


def known(setup: Setup, host: Host | None) -> Known:
    """What is known of `host`."""
    return Known(setup, host) if setup.calls else NOTHING
