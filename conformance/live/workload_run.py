"""Records random workloads: `random-<kernel>-<seed>.pcapng.gz` and its sidecar `random-<kernel>-<seed>.toml`.

`python -m conformance.live.workload_run SEED... --out DIR` needs root, ip, tcpdump, nft and tc, and nothing but the
standard library, so that it also runs inside a guest. docs/captures.md describes what the sidecar says besides.
"""

import argparse
import gzip
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from conformance.live import kernel, observe
from conformance.live.errors import CaptureLost, LabUnavailable, RecordError, ScenarioFailed
from conformance.live.lab import Host, require_lab
from conformance.live.sidecar import Call, Expected, HostInfo, Kernel, Notification, Sidecar, Vantage, dump
from conformance.live.workload import Plan, plan, without_netem
from conformance.live.workload_apps import Apps
from conformance.live.workload_net import GATEWAYS, LINKS, WorkloadNet, has_netem

PROFILES: Final = ("6.1", "6.12", "6.18")
ATTEMPTS: Final = 3
SECONDS: Final = 9.0  # for the applications, before they are ended
QUIET: Final = 0.06  # s without any change of a counter
PATIENCE: Final = 8.0  # s to wait for a quiet moment after the applications ended
ENOUGH: Final = 6  # segments after the start in mid-connection, else the capture begins before the first
MAX_CALLS: Final = 150  # data calls that a sidecar lists; of more it lists none
DATA_CALLS: Final = ("send(", "recv(")
LOOPBACK_MTU: Final = 65536
CONGESTION: Final = "net.ipv4.tcp_congestion_control"

Mib = dict[str, dict[str, int]]


@dataclass
class Recorded:
    """What came of a plan: raw captures by tap, cut to ns `begins` .. `ends`, and the counters at both moments."""

    pcaps: list[bytes]
    begins: int
    ends: int
    before: Mib
    after: Mib
    notifications: list[Notification] = field(default_factory=list)
    start: str = "whole"
    cut: bool = False


def counters(hosts: Mapping[str, Host]) -> Mib:
    """The MIB counters of all hosts now."""
    return {name: h.mib() for name, h in hosts.items()}


def quiet_moment(hosts: Mapping[str, Host], limit: float, still: float = QUIET) -> tuple[int, Mib]:
    """Waits for `still` s in which no counter of any host changes; gives the middle in ns since 1970, and the counters.

    Every frame stamped before that moment was counted, none stamped after it. Raises ScenarioFailed after `limit` s.
    """
    until = time.monotonic() + limit
    was = counters(hosts)
    while time.monotonic() < until:
        began = time.time_ns()
        time.sleep(still)
        ended = time.time_ns()
        now = counters(hosts)
        if now == was:
            return (began + ended) // 2, now
        was = now
    raise ScenarioFailed(f"the network did not become quiet within {limit} s")


class Start(threading.Thread):
    """Looks for a quiet moment in the midst of the connections, where a capture may begin."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        super().__init__(name="start", daemon=True)
        self.found: tuple[int, Mib] | None = None
        self._hosts = hosts
        self._ended = threading.Event()

    def run(self) -> None:
        """Polls until a connection stands and has carried segments, then until it pauses."""
        server = self._hosts.get("b", self._hosts["a"])
        while not self._ended.is_set():
            now = server.mib()
            if now["Tcp.CurrEstab"] and now["Tcp.InSegs"] > 5:
                try:
                    self.found = quiet_moment(self._hosts, 0.05, 0.02)
                    return
                except ScenarioFailed:
                    continue
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends the search."""
        self._ended.set()
        if self.is_alive():
            self.join()


def set_congestion(net: WorkloadNet) -> str:
    """Chooses the plan's congestion control by sysctl; gives its name where sockets have to choose it themselves."""
    p = net.plan
    for h in net.hosts.values():
        with h.netns.inside():
            path = Path("/proc/sys") / CONGESTION.replace(".", "/")
            if p.by_option and p.congestion != "reno":
                path.write_text("reno")
                h.sysctls[CONGESTION] = "reno"
                continue
            try:
                path.write_text(p.congestion)
            except PermissionError:  # a namespace may choose only what the machine allows to everybody
                path.write_text("reno")
            h.sysctls[CONGESTION] = path.read_text().strip()
    return p.congestion if net.client.sysctls[CONGESTION] != p.congestion else ""


class Applications(Protocol):
    """What runs in a network while it is captured."""

    cut: bool

    def start(self) -> None:
        """Makes the servers listen and starts the clients."""

    def join(self, seconds: float) -> None:
        """Waits until all have ended; ends those that have not after `seconds`, and says so in `cut`."""


def run_plan(p: Plan, net: WorkloadNet, apps: Applications, seconds: float = SECONDS) -> Recorded:
    """Runs applications in a plan's network and captures it; raises ScenarioFailed or CaptureLost."""
    options = ["-B", "16384", "-s", str(p.snaplen)]
    with ExitStack() as stack:
        monitors = []
        for h in net.hosts.values():
            with h.netns.inside():
                monitors.append((h.name, observe.NeighMonitor()))
        stack.callback(lambda: [m.stop() for _, m in monitors])
        time.sleep(0.3 if p.family == 6 else 0.05)
        captures = []
        for where, device in net.taps():
            with net.netns(where).inside():
                dll = ["-y", "LINUX_SLL2"] if device == "any" else []
                capture = observe.Capture(device, [*options, *dll], held=True)
            stack.callback(capture.close)
            captures.append(capture)
        begins, before = quiet_moment(net.hosts, PATIENCE)
        for number, i in enumerate(p.impairments):
            if not i.lasts:
                net.impair(number, i)
        search = Start(net.hosts) if p.start == "middle" else None
        apps.start()
        timers = []
        for number, i in enumerate(p.impairments):
            if i.lasts:
                timers += [threading.Timer(i.begins, net.impair, (number, i))]
                timers += [threading.Timer(i.begins + i.lasts, net.relieve, (number, i))]
        for t in timers:
            t.start()
        if search is not None:
            search.start()
            stack.callback(search.stop)
        apps.join(seconds)
        for t in timers:
            t.join()
        time.sleep(0.25)
        ends, after = quiet_moment(net.hosts, PATIENCE, QUIET + 3 * _delay(p))
        start = "whole"
        if search is not None:
            search.stop()
            if search.found is not None and _segments(after) - _segments(search.found[1]) > ENOUGH:
                begins, before = search.found
                start = "middle"
        net.stop()
        pcaps = [c.stop() for c in captures]
    told = [Notification(host, **vars(n)) for host, m in monitors for n in m.seen]
    told = sorted((n for n in told if begins <= n.time * 1e9 <= ends), key=lambda n: n.time)
    return Recorded(pcaps, begins, ends, before, after, told, start, apps.cut)


def _segments(mib: Mib) -> int:
    return sum(m["Tcp.InSegs"] for m in mib.values())


def _delay(p: Plan) -> float:
    return max(f.delay + f.jitter for f in p.fates) / 1000


# ---- writing ------------------------------------------------------------------------------------------------------


def pcapng(taps: Sequence[tuple[str, bytes]], begins: int, ends: int, snaplen: int, comment: str) -> tuple[bytes, int]:
    """One pcapng of several taps (name, tcpdump's pcap), in order of time, from `begins` to `ends`; and its frames."""

    def option(code: int, value: bytes) -> bytes:
        return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)

    def block(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    end = struct.pack("<HH", 0, 0)
    out = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + option(1, comment.encode()) + end)]
    frames: list[tuple[int, int, int, bytes]] = []
    for number, (name, pcap) in enumerate(taps):
        linktype = struct.unpack_from("=I", pcap, 20)[0] & 0xFFFF
        out.append(
            block(1, struct.pack("<HHI", linktype, 0, snaplen) + option(2, name.encode()) + option(9, b"\x09") + end)
        )
        frames += [(ns, number, orig, data) for ns, orig, data in observe.pcap_records(pcap) if begins <= ns <= ends]
    if len(taps) > 1:
        frames.sort(key=lambda f: f[0])
    for ns, number, orig, data in frames:
        body = struct.pack("<IIIII", number, ns >> 32, ns & 0xFFFFFFFF, len(data), orig) + data + bytes(-len(data) % 4)
        out.append(block(6, body))
    return b"".join(out), len(frames)


def _calls(net: WorkloadNet) -> tuple[list[Call], int]:
    """What the sidecar lists of the calls, and how many it leaves out."""
    calls = sorted((c for h in net.hosts.values() for c in h.calls), key=lambda c: c.time)
    data = [c for c in calls if c.call.startswith(DATA_CALLS)]
    if len(data) <= MAX_CALLS:
        return calls, 0
    return [c for c in calls if not c.call.startswith(DATA_CALLS)], len(data)


def _host(h: Host, p: Plan, r: Recorded) -> HostInfo:
    was, now = observe.changed(r.before[h.name], r.after[h.name])
    if p.topology == "loopback":
        addresses = ["127.0.0.1", *(["::1"] if p.family == 6 else [])]
    else:
        addresses = h.addresses
    return HostInfo(h.name, True, addresses, h.mac, dict(h.sysctls), was, now)


def _kind(where: str) -> str:
    return "near" if where in ("a", "b") else "wire"


def record_seed(seed: int, outdir: Path, netem: bool) -> Path:
    """Records the workload of `seed` into `outdir`; gives the capture's path. Raises RecordError.

    A run that was disturbed (the tap missed a frame, no quiet moment came) is repeated twice.
    """
    require_lab("nft", "tc")
    p = plan(seed) if netem else without_netem(plan(seed))
    for _ in range(ATTEMPTS - 1):
        try:
            return _record(p, outdir, netem)
        except (ScenarioFailed, CaptureLost):
            continue
    return _record(p, outdir, netem)


def record_random(seed: int, outdir: Path) -> Path:
    """Records the workload of `seed` under the running kernel, as `record_seed` does."""
    require_lab("nft", "tc")
    return record_seed(seed, outdir, has_netem())


def _record(p: Plan, outdir: Path, netem: bool) -> Path:
    with WorkloadNet(p, netem) as net:
        r = run_plan(p, net, Apps(net, set_congestion(net)))
        calls, left_out = _calls(net)
        return write(outdir, "random", p.says, net, r, calls, {"data_calls_left_out": left_out})


def write(
    outdir: Path,
    scenario: str,
    says: str,
    net: WorkloadNet,
    r: Recorded,
    calls: list[Call],
    more: Mapping[str, str | int],
) -> Path:
    """Writes the capture `<scenario>-<kernel>-<seed>.pcapng.gz` and its sidecar; `more` goes into [workload]."""
    p = net.plan
    taps = net.taps()
    where, device = taps[0]
    offloads = _offloads(net, where, device)
    release = os.uname().release
    profile = profile_of(release)
    data, frames = pcapng(
        [(d, pcap) for (_, d), pcap in zip(taps, r.pcaps, strict=True)], r.begins, r.ends, p.snaplen, says
    )
    extra: dict[str, dict[str, Any]] = {
        "taps": {
            "interfaces": [d for _, d in taps],
            "hosts": [w for w, _ in taps],
            "kinds": [_kind(w) for w, _ in taps],
            "frames": frames,
            "snaplen": p.snaplen,
            "start": r.start,
            "begins": r.begins / 1e9,
            "ends": r.ends / 1e9,
            "dropped": 0,
        },
        "drops": dict(net.dropped),
        **links(p),
        "workload": {
            "seed": p.seed,
            "kinds": [f.kind for f in p.flows],
            "family": p.family,
            "topology": p.topology,
            "congestion": p.congestion,
            "mtu": LOOPBACK_MTU if p.topology == "loopback" else p.mtu,
            "path_mtu": p.path_mtu,
            "nat": p.nat,
            "impairments": [f"{i.place} {i.rule}" for i in p.impairments],
            **more,
            "cut": r.cut,
        },
    }
    sidecar = Sidecar(
        case=f"{scenario}-{profile}-{p.seed}",
        scenario=scenario,
        layer="tcp",
        says=says,
        kernel=Kernel(release, profile, kernel.hz()),
        vantage=Vantage(where, device, _kind(where)),
        offloads=offloads,
        hosts=[_host(h, p, r) for h in net.hosts.values()],
        calls=calls,
        notifications=r.notifications,
        expected=Expected("conforms"),
        extra=extra,
    )
    outdir.mkdir(parents=True, exist_ok=True)
    path = outdir / f"{sidecar.case}.pcapng.gz"
    path.write_bytes(gzip.compress(data, mtime=0))
    (outdir / f"{sidecar.case}.toml").write_text(dump(sidecar), encoding="utf-8")
    return path


def links(p: Plan) -> dict[str, dict[str, Any]]:
    """The tables [links] and, behind a router, [gateways]."""
    gateways = {"gateways": GATEWAYS[p.family]} if p.topology == "router" else {}
    return {"links": LINKS[p.topology], **gateways}


def _offloads(net: WorkloadNet, where: str, device: str) -> dict[str, bool]:
    with net.netns(where).inside():
        found = kernel.features(net.hosts[where].interface if device == "any" else device)
    found.pop("rx-checksum")
    return found


def profile_of(release: str) -> str:
    """The newest profile that is not newer than the kernel."""

    def number(v: str) -> tuple[int, ...]:
        return tuple(int(n) for n in v.split("-")[0].split(".")[:2])

    older = [v for v in PROFILES if number(v) <= number(release)]
    return older[-1] if older else PROFILES[0]


def _stop(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0 all recorded, 1 a recording failed, 2 usage, or root or a tool is missing."""
    parser = argparse.ArgumentParser(
        prog="workload_run", description="Record random workloads of this machine's kernel."
    )
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--out", type=Path, default=Path("build/corpus"), help="where to write (default: build/corpus)")
    args = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    failed = 0
    try:
        require_lab("nft", "tc")
        netem = has_netem()
    except LabUnavailable as e:
        print(f"record: {e}", file=sys.stderr)
        return 2
    for seed in args.seeds:
        began = time.monotonic()
        try:
            path = record_seed(seed, args.out, netem)
            print(f"{path} {path.stat().st_size} bytes, {time.monotonic() - began:.1f} s", flush=True)
        except RecordError as e:
            print(f"record: {seed}: {e}", file=sys.stderr, flush=True)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
