"""A wire that loses, delays, reorders, repeats, marks and damages frames: two packet sockets and a clock.

`python -m conformance.live.relay` runs in a process of its own inside the namespace of the wire (the lab starts it). It
exists since not every kernel has netem. Frames pass with their virtio-net header, so that super-frames and offloaded
checksums cross the relay as they cross a cable. Standard library only.
"""

import ctypes
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from conformance.live.errors import ScenarioFailed
from conformance.live.kernel import CLONE_NEWNET, NetNamespace

ETH_P_ALL: Final = 3
PACKET_OUTGOING: Final = 4
SOL_PACKET: Final = 263
PACKET_STATISTICS: Final = 6
PACKET_VNET_HDR: Final = 15
SO_RCVBUFFORCE: Final = 33
VNET_HDR: Final = 10  # bytes of struct virtio_net_hdr
BIGGEST: Final = 1 << 17


@dataclass(frozen=True)
class Fate:
    """What one direction of the wire does to IP frames; ARP always passes, after the delay.

    Probabilities are per frame. `loss` begins a loss, which goes on with probability `burst`. `delay` and `jitter` are
    ms; `ordered` keeps jitter from reordering. `reorder` lets a frame pass without its delay. `rate` is in kbit/s (0 is
    unlimited) with a queue of `limit` frames. `ce` marks ECT frames. `corrupt` flips one bit behind the network header.
    """

    loss: float = 0.0
    burst: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    ordered: bool = True
    reorder: float = 0.0
    duplicate: float = 0.0
    ce: float = 0.0
    corrupt: float = 0.0
    rate: int = 0
    limit: int = 100


def netem(fate: Fate) -> str:
    """The words after `tc qdisc add dev DEV root` for a qdisc that does what `fate` says; netem cannot mark a share."""
    words = [f"netem limit {fate.limit if fate.rate else 1000} delay {fate.delay:g}ms {fate.jitter:g}ms"]
    if fate.loss:
        words.append(f"loss gemodel {fate.loss:%} {1 - fate.burst:%}" if fate.burst else f"loss {fate.loss:%}")
    words += [f"{k} {v:%}" for k, v in (("duplicate", fate.duplicate), ("corrupt", fate.corrupt)) if v]
    if fate.reorder:
        words.append(f"reorder {fate.reorder:%}")
    if fate.rate:
        words.append(f"rate {fate.rate}kbit")
    return " ".join(words)


COUNTS: Final = ("passed", "lost", "queue", "duplicated", "reordered", "marked", "corrupted", "overflow")


class Direction:
    """One direction: when each of its frames leaves, and what was done to them.

    Times are in s of the monotonic clock. The choices are those of `seed`.
    """

    def __init__(self, fate: Fate, seed: str) -> None:
        self.fate = fate
        self.counts = dict.fromkeys(COUNTS, 0)
        self._random = random.Random(seed)
        self._losing = False
        self._last = 0.0
        self._free = 0.0
        self._queue: list[float] = []

    def leaves(self, frame: bytes, now: float) -> list[tuple[float, bytes]]:
        """When and as what `frame` (with its virtio-net header) leaves again: nothing where it is lost, or twice."""
        f, r = self.fate, self._random
        if frame[VNET_HDR + 12 : VNET_HDR + 14] not in (b"\x08\x00", b"\x86\xdd"):
            return [(now + f.delay / 1000, frame)]
        self._losing = r.random() < (f.burst if self._losing else f.loss)
        draws = [r.random() for _ in range(5)]
        if self._losing:
            self.counts["lost"] += 1
            return []
        when = now
        if f.rate:
            self._queue = [t for t in self._queue if t > now]
            if len(self._queue) >= f.limit:
                self.counts["queue"] += 1
                return []
            self._free = max(self._free, now) + (len(frame) - VNET_HDR) * 8 / (f.rate * 1000)
            self._queue.append(self._free)
            when = self._free
        if draws[0] < f.reorder:
            self.counts["reordered"] += 1
        else:
            when += (f.delay + draws[1] * f.jitter) / 1000
            if f.ordered:
                when = self._last = max(when, self._last)
        if draws[2] < f.ce:
            marked = mark(frame)
            self.counts["marked"] += marked != frame
            frame = marked
        if draws[3] < f.corrupt:
            at = r.randrange(8 * (VNET_HDR + 14 + 20), 8 * len(frame))
            frame = frame[: at // 8] + bytes([frame[at // 8] ^ 1 << at % 8]) + frame[at // 8 + 1 :]
            self.counts["corrupted"] += 1
        self.counts["passed"] += 1
        if draws[4] < f.duplicate:
            self.counts["duplicated"] += 1
            return [(when, frame), (when + 0.0002, frame)]
        return [(when, frame)]


def mark(frame: bytes) -> bytes:
    """The frame with CE in place of ECT(0) or ECT(1), and IPv4's checksum as it then is; others as they were."""
    at = VNET_HDR + 14
    if frame[at - 2 : at] == b"\x08\x00":
        if frame[at + 1] & 3 not in (1, 2):
            return frame
        head = bytearray(frame[at : at + (frame[at] & 15) * 4])
        head[1] |= 3
        head[10:12] = b"\0\0"
        total = sum(struct.unpack(f">{len(head) // 2}H", head))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        head[10:12] = (total ^ 0xFFFF).to_bytes(2, "big")
        return frame[:at] + bytes(head) + frame[at + len(head) :]
    ecn = frame[at + 1] >> 4 & 3
    if ecn not in (1, 2):
        return frame
    return frame[: at + 1] + bytes([frame[at + 1] | 0x30]) + frame[at + 2 :]


def _packet_socket(device: str) -> socket.socket:
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    s.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    s.bind((device, ETH_P_ALL))
    s.setblocking(False)
    return s


def run(left: str, right: str, there: Fate, back: Fate, seed: str) -> dict[str, dict[str, int]]:
    """Relays between two devices of this namespace until standard input ends; gives what was counted, by direction."""
    ends = (_packet_socket(left), _packet_socket(right))
    directions = (Direction(there, f"{seed} there"), Direction(back, f"{seed} back"))
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    print("ready", flush=True)
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select([*ends, sys.stdin], [], [], timeout)
        now = time.monotonic()
        if sys.stdin in readable:
            break
        for side in (0, 1):
            if ends[side] not in readable:
                continue
            for _ in range(64):
                try:
                    frame, sender = ends[side].recvfrom(BIGGEST)
                except BlockingIOError:
                    break
                if sender[2] == PACKET_OUTGOING:
                    continue
                for when, what in directions[side].leaves(frame, now):
                    number += 1
                    heapq.heappush(waiting, (when, number, 1 - side, what))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, side, frame = heapq.heappop(waiting)
            ends[side].send(frame)
    for side in (0, 1):
        _, dropped = struct.unpack("II", ends[side].getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        directions[side].counts["overflow"] = dropped
    return {"there": directions[0].counts, "back": directions[1].counts}


class Relay:
    """A running relay between two devices of a namespace; a call of `stop` ends it and says what it counted.

    Raises ScenarioFailed if it does not start, or ended by a fault of its own.
    """

    def __init__(self, netns: NetNamespace, left: str, right: str, there: Fate, back: Fate, seed: str) -> None:
        task = {
            **{"netns": netns.fd, "left": left, "right": right, "seed": seed},
            **{"there": asdict(there), "back": asdict(back)},
        }
        command = [sys.executable, "-m", "conformance.live.relay", json.dumps(task)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(netns.fd,)
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            self.close()
            raise ScenarioFailed("the relay did not start")

    def stop(self) -> Mapping[str, Mapping[str, int]]:
        """Ends the relay: the counts of COUNTS for the directions `there` (left to right) and `back`."""
        said, _ = self._process.communicate(timeout=10)
        if self._process.returncode:
            raise ScenarioFailed(f"the relay ended with status {self._process.returncode}")
        counts: dict[str, dict[str, int]] = json.loads(said)
        return counts

    def close(self) -> None:
        """Makes sure that the relay has ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _fate(data: Mapping[str, Any]) -> Fate:
    return Fate(**{f.name: data[f.name] for f in fields(Fate)})


def main() -> int:
    """The process of a Relay: its task is the one argument, its counts are its last line of output."""
    task = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(task["netns"], CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    print(json.dumps(run(task["left"], task["right"], _fate(task["there"]), _fate(task["back"]), task["seed"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
