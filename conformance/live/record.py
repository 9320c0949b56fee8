"""Runs scenarios and writes what they did: `<case>.pcapng` and `<case>.toml`.

`python -m conformance.live.record NAME... --out DIR [--suffix -6.1]` needs root, ip and tcpdump (nft for some), and
nothing but the standard library, so that it also runs inside a guest.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from conformance.live import classes, kernel, observe
from conformance.live.errors import CaptureLost, LabUnavailable, RecordError, ScenarioFailed, UnknownScenario
from conformance.live.lab import Lab, require_lab
from conformance.live.scenarios import registry
from conformance.live.scenarios.registry import Scenario
from conformance.live.sidecar import Expected, Kernel, Notification, Sidecar, Vantage, dump

PROFILES: Final = ("6.1", "6.12", "6.18")
ATTEMPTS: Final = 3


def scenarios() -> dict[str, str]:
    """The scenarios by name, each with its sentence."""
    return {name: s.says for name, s in registry.load().items()}


def record_case(name: str, outdir: Path, suffix: str = "") -> Path:
    """Runs the scenario `name` and writes its capture and sidecar into `outdir`; gives the capture's path.

    A run that was disturbed (a frame missed by the tap, an expectation not met) is repeated twice. Raises RecordError:
    LabUnavailable without root or a tool, UnknownScenario, ScenarioFailed or CaptureLost after the last attempt.
    """
    s = registry.find(name)
    require_lab(*s.tools)
    for _ in range(ATTEMPTS - 1):
        try:
            return _record(s, outdir, suffix)
        except (ScenarioFailed, CaptureLost):
            continue
    return _record(s, outdir, suffix)


def _record(s: Scenario, outdir: Path, suffix: str) -> Path:
    with Lab(s.hosts, s.family, s.raw, s.sysctls, mtu=s.mtu) as lab:
        lab.settle()
        tapped = lab[s.vantage]
        interface = s.interface or tapped.interface
        linux = [h for h in lab.hosts.values() if h.linux]
        monitors = {}
        capture = None
        try:
            for h in linux:
                with h.netns.inside():
                    monitors[h.name] = observe.NeighMonitor()
            with tapped.netns.inside():
                capture = observe.Capture(interface)
                offloads = kernel.features(interface)
            before = {h.name: h.mib() for h in linux}
            s.body(lab)
            after = {h.name: h.mib() for h in linux}
            ended = time.time()  # what is announced after this may belong to a frame that the tap no longer saw
            pcap = capture.stop()
        finally:
            if capture is not None:
                capture.close()
            seen = {name: m.stop() for name, m in monitors.items()}
        notifications = [Notification(host, **vars(n)) for host, ns in seen.items() for n in ns if n.time <= ended]
        notifications.sort(key=lambda n: n.time)
        _check(s, before, after, notifications)
        offloads.pop("rx-checksum")
        unread = classes.reasons(data for _, _, data in observe.pcap_records(pcap))
        empty: dict[str, dict[str, int]] = {h.name: {} for h in lab.hosts.values()}
        sidecar = Sidecar(
            case=s.case + suffix,
            scenario=s.name,
            layer=s.layer,
            says=s.says,
            kernel=Kernel(os.uname().release, _profile(os.uname().release), kernel.hz()),
            vantage=Vantage(s.vantage, interface),
            offloads=offloads,
            hosts=lab.info(empty | before, empty | after),
            calls=sorted((c for h in lab.hosts.values() for c in h.calls), key=lambda c: c.time),
            notifications=notifications,
            expected=Expected("conforms", [*s.not_modelled, *unread]),
        )
    outdir.mkdir(parents=True, exist_ok=True)
    path = outdir / f"{sidecar.case}.pcapng"
    observe.write_pcapng(path, pcap, interface, s.says)
    (outdir / f"{sidecar.case}.toml").write_text(dump(sidecar), encoding="utf-8")
    return path


def _profile(release: str) -> str:
    """The newest profile that is not newer than the kernel."""

    def number(v: str) -> tuple[int, ...]:
        return tuple(int(p) for p in v.split("-")[0].split(".")[:2])

    older = [p for p in PROFILES if number(p) <= number(release)]
    return older[-1] if older else PROFILES[0]


def _check(
    s: Scenario,
    before: Mapping[str, Mapping[str, int]],
    after: Mapping[str, Mapping[str, int]],
    notifications: Sequence[Notification],
) -> None:
    """Raises ScenarioFailed unless the counters and announcements are those that the scenario promises."""
    for key, rise in s.counts.items():
        host, counter = key.split(".", 1)
        got = after[host].get(counter, 0) - before[host].get(counter, 0)
        if got != rise:
            raise ScenarioFailed(f"{s.name}: {counter} of {host} rose by {got}, expected {rise}")
    for host in {w.split()[0] for w in s.announces}:  # hosts are listened to apart: only a host's own order is certain
        told = [n.state if n.event == "NEWNEIGH" else n.event for n in notifications if n.host == host]
        left = iter(told)
        for wanted in (w.split()[1] for w in s.announces if w.split()[0] == host):
            if wanted not in left:
                raise ScenarioFailed(
                    f"{s.name}: {host} did not announce {wanted} in its place; announced: {', '.join(told) or 'none'}"
                )


def _stop(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0 all recorded, 1 a scenario failed, 2 usage, or root or a tool is missing."""
    parser = argparse.ArgumentParser(prog="record", description="Record captures of this machine's kernel.")
    parser.add_argument("names", nargs="*", help="scenarios; without any, they are listed")
    parser.add_argument("--all", action="store_true", help="all scenarios")
    parser.add_argument("--out", type=Path, default=Path("captures"), help="where to write (default: captures)")
    parser.add_argument("--suffix", default="", help="appended to the case's name, for instance -6.1")
    args = parser.parse_args(argv)
    known = scenarios()
    names = sorted(known) if args.all else args.names
    if not names:
        for name, says in sorted(known.items()):
            print(f"{name:36} {says}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    failed = 0
    for name in names:
        try:
            print(record_case(name, args.out, args.suffix), flush=True)
        except (LabUnavailable, UnknownScenario) as e:
            print(f"record: {e}", file=sys.stderr)
            return 2
        except RecordError as e:
            print(f"record: {name}: {e}", file=sys.stderr, flush=True)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
