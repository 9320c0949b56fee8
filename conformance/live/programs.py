"""Records real programs: `<program>-<kernel>-<seed>.pcapng.gz` and sidecars, tapped at both ends.

`python -m conformance.live.programs --out DIR` runs those servers and clients of PROGRAMS that this machine has, in the
networks of the random workloads (their impairments, MTU, offloads, sysctls). For development; nothing of it is shipped.
What applications called is not known: the sidecars list no call of theirs, and `[workload] calls` is `none`.
"""

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

from conformance.live.corpus import index, record_in_guest
from conformance.live.errors import CaptureLost, LabUnavailable, RecordError, ScenarioFailed
from conformance.live.guest import GuestError
from conformance.live.lab import require_lab
from conformance.live.program_list import PORT, PROGRAMS, Program
from conformance.live.workload import Impairment, Plan, plan, without_netem
from conformance.live.workload_net import WorkloadNet, has_netem
from conformance.live.workload_run import ATTEMPTS, run_plan, set_congestion, write

LIMIT: Final = 15.0  # s that the clients of a recording may take
IN_GUESTS: Final = {
    "nginx": ("nginx", "curl", "ab", "wget"),
    "iperf3": ("iperf3",),
    "redis": ("redis-server", "redis-benchmark"),
    "http-server": ("curl", "wget"),
}
"""The programs that a guest's initramfs has room for, with their binaries."""


class Running:
    """A program's server and clients in the two hosts of a network; the clients run one after another, or at once."""

    def __init__(self, program: Program, net: WorkloadNet, folder: Path, at_once: bool) -> None:
        self.cut = False
        self.failed: list[str] = []
        self._net, self._folder, self._at_once = net, folder, at_once
        self._server: subprocess.Popen[bytes] | None = None
        self._clients: list[subprocess.Popen[bytes]] = []
        self._started: dict[int, str] = {}
        host = net.target
        bracketed = f"[{host}]" if ":" in host else host
        words = {
            **{"host": host, "bracketed": bracketed, "port": str(PORT), "dir": str(folder)},
            **{"url": f"http://{bracketed}:{PORT}"},
        }
        self._server_command = [w.format(**words) for w in program.server]
        self._commands = [[w.format(**words) for w in c] for c in program.clients]

    def serve(self) -> None:
        """Starts the server and waits until it listens; raises ScenarioFailed if it does not."""
        with self._net.server.netns.inside():
            files = self._folder / "files"
            self._server = subprocess.Popen(
                self._server_command,
                cwd=files if files.exists() else self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        until = time.monotonic() + 10
        while not self._listens():
            if time.monotonic() > until or self._server.poll() is not None:
                if self._server.poll() is None:
                    os.killpg(self._server.pid, signal.SIGTERM)
                _, said = self._server.communicate(timeout=5)
                raise ScenarioFailed(f"{self._server_command[0]} does not listen: {said[-300:]!r}")
            time.sleep(0.05)

    def _listens(self) -> bool:
        return bool(self._net.server.run("ss", "-Hltn", "sport", "=", f":{PORT}").strip())

    def start(self) -> None:
        """Starts the first client, or all."""
        for command in self._commands if self._at_once else self._commands[:1]:
            self._client(command)

    def _client(self, command: Sequence[str]) -> None:
        with self._net.client.netns.inside():
            p = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=self._folder,
                start_new_session=True,
            )
        self._clients.append(p)
        self._started[p.pid] = command[0]

    def join(self, seconds: float) -> None:
        """Waits for the clients; starts the others after the first."""
        until = time.monotonic() + seconds
        for command in [] if self._at_once else self._commands[1:]:
            if self._waits(self._clients[-1], until):
                self._client(command)
        for p in self._clients:
            self._waits(p, until)

    def _waits(self, p: subprocess.Popen[bytes], until: float) -> bool:
        command = self._started[p.pid]
        try:
            p.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.cut = True
            os.killpg(p.pid, signal.SIGTERM)
            p.wait(5)
        if p.returncode:
            assert p.stderr is not None
            self.failed.append(f"{command} {p.returncode} {p.stderr.read()[-120:]!r}")
        return not self.cut

    def close(self) -> None:
        """Ends what still runs."""
        for p in (*self._clients, *([self._server] if self._server else [])):
            if p.poll() is None:
                os.killpg(p.pid, signal.SIGTERM)
                try:
                    p.wait(5)
                except subprocess.TimeoutExpired:
                    os.killpg(p.pid, signal.SIGKILL)
                    p.wait()
            if p.stderr is not None:
                p.stderr.close()


def program_plan(seed: int, netem: bool) -> Plan:
    """The network of a recording: that of the random workload `seed`, tapped at both ends, without its flows.

    Programs cannot choose a congestion control by socket option; regular drops would keep some from ever ending.
    """
    p = plan(seed) if netem else without_netem(plan(seed))
    r = random.Random(f"refmodel program {seed}")
    impairments = tuple(i for i in p.impairments if not i.rule.endswith("== 0"))
    if p.topology == "loopback":
        impairments = (Impairment("a.ingress", "meta l4proto tcp numgen random mod 1000 < 10"),)
    return replace(
        p,
        topology="pair" if p.topology == "loopback" else p.topology,
        nat="" if p.nat == "dnat" else p.nat,
        tap="both",
        device_any=False,
        snaplen=r.choice((0, 0, 128)),
        start="whole",
        congestion=r.choice(("reno", "bbr")),
        by_option=False,
        sysctls={k: {n: v for n, v in s.items() if "mem" not in n} for k, s in p.sysctls.items()},
        impairments=impairments,
        flows=(),
    )


def record_program(program: Program, seed: int, outdir: Path, netem: bool) -> Path:
    """Records one program in the network of `seed`; gives the capture's path. Raises RecordError."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _record(program, seed, outdir, netem)
        except (ScenarioFailed, CaptureLost):
            continue
    return _record(program, seed, outdir, netem)


def _record(program: Program, seed: int, outdir: Path, netem: bool) -> Path:
    p = program_plan(seed, netem)
    with tempfile.TemporaryDirectory(prefix="refmodel-program-") as scratch, WorkloadNet(p, netem) as net:
        folder = Path(scratch)
        if program.prepare is not None:
            program.prepare(folder, net.server.address)
        set_congestion(net)
        time.sleep(0.3)
        running = Running(program, net, folder, at_once=program.together and seed % 2 == 0)
        try:
            running.serve()
            r = run_plan(p, net, running, LIMIT)
        finally:
            running.close()
        calls = [c for h in net.hosts.values() for c in h.calls]
        held = ", ".join(f"{i.place} {i.rule}" for i in p.impairments) or "no nft drop"
        says = f"{program.name} and its clients over IPv{p.family} ({p.topology}); {held}; fates {p.fates}."
        more = {"program": program.name, "calls": "none", "clients_failed": "; ".join(running.failed)}
        return write(outdir, program.name, says, net, r, sorted(calls, key=lambda c: c.time), more)


def _stop(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0 all recorded, 1 a recording failed, 2 root or a tool is missing."""
    parser = argparse.ArgumentParser(prog="programs", description="Record real programs under this machine's kernel.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(p.name for p in PROGRAMS)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("build/corpus-programs"))
    parser.add_argument("--seeds", default="1000-1003", help="FIRST-LAST: the networks for each program")
    parser.add_argument("--kernel", choices=("6.1", "6.12"), help="in a guest with Debian's kernel, those that fit")
    args = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    if args.kernel:
        names = [n for n in IN_GUESTS if not args.names or n in args.names]
        words = shlex.join([*names, "--seeds", args.seeds])
        binaries = ["ss", *(b for n in names for b in IN_GUESTS[n])]
        try:
            record_in_guest(f"conformance.live.programs {words}", args.kernel, args.out, 1800.0, print, binaries)
        except GuestError as e:
            print(f"programs: {e}", file=sys.stderr)
            return 1
        index(args.out)
        return 0
    try:
        require_lab("nft", "tc", "ss")
    except LabUnavailable as e:
        print(f"programs: {e}", file=sys.stderr)
        return 2
    netem = has_netem()
    first, last = (int(n) for n in args.seeds.split("-"))
    failed = 0
    for place, program in enumerate(PROGRAMS):
        if args.names and program.name not in args.names:
            continue
        lacking = [n for n in program.needs if shutil.which(n) is None]
        if lacking:
            print(f"{program.name}: left out, this machine has no {', '.join(lacking)}", flush=True)
            continue
        for seed in range(first + 10 * place, last + 10 * place + 1):
            try:
                path = record_program(program, seed, args.out, netem)
                print(f"{path} {path.stat().st_size} bytes", flush=True)
            except RecordError as e:
                print(f"programs: {program.name} {seed}: {e}", file=sys.stderr, flush=True)
                failed += 1
    index(args.out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
