"""Records real programs: `<program>-<kernel>-<seed>.pcapng.gz` and sidecars, tapped at both ends.

`python -m conformance.live.programs --out DIR` runs those servers and clients of PROGRAMS that this machine has, in the
networks of the random workloads (their impairments, MTU, offloads, sysctls). For development; nothing of it is shipped.
What applications called is not known: the sidecars list no call of theirs, and `[workload] calls` is `none`.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Final

from conformance.live.corpus import index
from conformance.live.errors import CaptureLost, LabUnavailable, RecordError, ScenarioFailed
from conformance.live.lab import require_lab
from conformance.live.workload import Impairment, Plan, plan, without_netem
from conformance.live.workload_net import WorkloadNet, has_netem
from conformance.live.workload_run import ATTEMPTS, run_plan, set_congestion, write

PORT: Final = 8080
LIMIT: Final = 15.0  # s that the clients of a recording may take
SIZES: Final = (1, 700, 9000, 60_000, 400_000)
"""Bytes of the files that servers of files have, as `<size>.bin`."""


@dataclass(frozen=True)
class Program:
    """A server and what its clients do; `{host}`, `{url}`, `{port}`, `{dir}` and `{user}` are filled in.

    `prepare` puts what the server needs into its folder. `needs` are the programs without which it is left out. Clients
    run one after another; where that makes sense, `together`, in every second recording at once.
    """

    name: str
    needs: tuple[str, ...]
    server: tuple[str, ...]
    clients: tuple[tuple[str, ...], ...]
    prepare: Callable[[Path, str], None] | None = None
    together: bool = False


def _files(folder: Path, host: str) -> None:
    """The files of SIZES, readable by whoever serves them."""
    (folder / "files").mkdir()
    for size in SIZES:
        (folder / f"files/{size}.bin").write_bytes((b"the quick brown fox " * (size // 20 + 1))[:size])
    for path in (folder, folder / "files"):
        path.chmod(0o755)


def _nginx(folder: Path, host: str) -> None:
    _files(folder, host)
    listen = f"[{host}]:{PORT}" if ":" in host else f"{host}:{PORT}"
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        "events { worker_connections 64; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {folder}/body;\n"
        f"proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n"
        f"scgi_temp_path {folder}/scgi; keepalive_timeout 2; server {{ listen {listen}; root {folder}/files; }} }}\n"
    )


def _lighttpd(folder: Path, host: str) -> None:
    _files(folder, host)
    v6 = 'server.use-ipv6 = "enable"\n' if ":" in host else ""
    (folder / "lighttpd.conf").write_text(
        f'server.document-root = "{folder}/files"\nserver.port = {PORT}\n{v6}server.bind = "{host}"\n'
    )


def _sshd(folder: Path, host: str) -> None:
    _files(folder, host)
    for name in ("host_key", "client_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copyfile(folder / "client_key.pub", folder / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "sshd_config").write_text(
        f"Port {PORT}\nListenAddress {host}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized\n"
        "PermitRootLogin yes\nUsePAM no\nStrictModes no\nPidFile none\nSubsystem sftp internal-sftp\nUseDNS no\n"
    )
    (folder / "batch").write_text(
        f"get {folder}/files/60000.bin {folder}/got\nput {folder}/files/9000.bin {folder}/put\n"
    )


def _rsyncd(folder: Path, host: str) -> None:
    _files(folder, host)
    (folder / "rsyncd.conf").write_text(
        f"use chroot = no\nuid = root\ngid = root\n[files]\npath = {folder}/files\nread only = no\n"
    )


def _vsftpd(folder: Path, host: str) -> None:
    _files(folder, host)
    (folder / "empty").mkdir()
    listen = (
        f"listen=NO\nlisten_ipv6=YES\nlisten_address6={host}" if ":" in host else f"listen=YES\nlisten_address={host}"
    )
    (folder / "vsftpd.conf").write_text(
        f"{listen}\nlisten_port={PORT}\nbackground=NO\nanonymous_enable=YES\nanon_root={folder}/files\n"
        f"secure_chroot_dir={folder}/empty\nseccomp_sandbox=NO\nno_anon_password=YES\nisolate_network=NO\n"
    )


def _postgres(folder: Path, host: str) -> None:
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    as_user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    subprocess.run(
        [*as_user, "initdb", "-D", str(data), "-A", "trust", "-N", "-U", "postgres"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    (data / "pg_hba.conf").write_text("host all all all trust\n")


def _tls(folder: Path, host: str) -> None:
    _files(folder, host)
    subject = ["-subj", "/CN=b", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    out = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", *subject, *out], check=True, capture_output=True)


_SSH: Final = (
    *("-F", "none", "-i", "{dir}/client_key", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    *("-o", "LogLevel=ERROR", "-o", "BatchMode=yes"),
)
_POSTGRES: Final = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")
_PGBENCH: Final = ("pgbench", "-h", "{host}", "-p", "{port}", "-U", "postgres")
_CURL: Final = ("curl", "-sS", "-g", "-m", "12", "-o", "/dev/null")
_URLS: Final = tuple(f"{{url}}/{size}.bin" for size in SIZES)
_HTTP: Final = (
    (*_CURL, _URLS[4]),
    (*_CURL, "--next", *_CURL[1:], _URLS[1], "--next", *_CURL[1:], _URLS[2]),
    ("ab", "-q", "-n", "60", "-c", "6", "-k", _URLS[2]),
    ("ab", "-q", "-n", "40", "-c", "4", _URLS[1]),
    ("wget", "-q", "-T", "12", "-t", "1", "-O", "/dev/null", *_URLS),
)

PROGRAMS: Final = (
    Program(
        "nginx", ("nginx", "curl", "ab", "wget"), ("nginx", "-p", "{dir}", "-c", "{dir}/nginx.conf"), _HTTP, _nginx
    ),
    Program(
        "lighttpd",
        ("lighttpd", "curl", "ab", "wget"),
        ("lighttpd", "-D", "-f", "{dir}/lighttpd.conf"),
        _HTTP,
        _lighttpd,
        together=True,
    ),
    Program(
        "iperf3",
        ("iperf3",),
        ("iperf3", "-s", "-p", "{port}", "-B", "{host}"),
        (
            ("iperf3", "-c", "{host}", "-p", "{port}", "-n", "1M"),
            ("iperf3", "-c", "{host}", "-p", "{port}", "-n", "1M", "-R"),
            ("iperf3", "-c", "{host}", "-p", "{port}", "-n", "500K", "-P", "4"),
            ("iperf3", "-c", "{host}", "-p", "{port}", "-t", "1", "-b", "5M", "-C", "cubic"),
            ("iperf3", "-c", "{host}", "-p", "{port}", "-t", "1", "-u", "-b", "1M"),
            ("iperf3", "-c", "{host}", "-p", "{port}", "-n", "300K", "--bidir"),
        ),
    ),
    Program(
        "redis",
        ("redis-server", "redis-benchmark"),
        (
            "redis-server",
            "--port",
            "{port}",
            "--bind",
            "{host}",
            "--save",
            "",
            "--protected-mode",
            "no",
            "--dir",
            "{dir}",
        ),
        (
            (
                "redis-benchmark",
                "-h",
                "{host}",
                "-p",
                "{port}",
                "-n",
                "200",
                "-c",
                "5",
                "-q",
                "-t",
                "set,get,lpush,lrange_100",
            ),
            (
                "redis-benchmark",
                "-h",
                "{host}",
                "-p",
                "{port}",
                "-n",
                "500",
                "-c",
                "2",
                "-P",
                "16",
                "-q",
                "-t",
                "set,get",
            ),
            (
                "redis-benchmark",
                "-h",
                "{host}",
                "-p",
                "{port}",
                "-n",
                "50",
                "-c",
                "2",
                "-d",
                "30000",
                "-q",
                "-t",
                "set,get",
            ),
        ),
    ),
    Program(
        "postgres",
        ("postgres", "initdb", "pgbench", "setpriv"),
        (*_POSTGRES, "postgres", "-D", "{dir}/data", "-p", "{port}", "-h", "{host}", "-k", "", "-F"),
        ((*_PGBENCH, "-i", "-I", "dtGp", "-q", "postgres"), (*_PGBENCH, "-c", "2", "-t", "15", "-n", "postgres")),
        _postgres,
    ),
    Program(
        "sshd",
        ("/usr/sbin/sshd", "ssh", "scp", "sftp", "ssh-keygen"),
        ("/usr/sbin/sshd", "-D", "-f", "{dir}/sshd_config"),
        (
            ("ssh", *_SSH, "-p", "{port}", "root@{host}", "cat {dir}/files/400000.bin; sleep 0.2; echo done"),
            ("ssh", *_SSH, "-p", "{port}", "root@{host}", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.05; done"),
            ("scp", "-q", *_SSH, "-P", "{port}", "{dir}/files/60000.bin", "root@{bracketed}:{dir}/copied"),
            ("sftp", "-q", *_SSH, "-P", "{port}", "-b", "{dir}/batch", "root@{bracketed}"),
        ),
        _sshd,
        together=True,
    ),
    Program(
        "rsync",
        ("rsync",),
        ("rsync", "--daemon", "--no-detach", "--config={dir}/rsyncd.conf", "--port={port}", "--address={host}"),
        (
            ("rsync", "-a", "rsync://{bracketed}:{port}/files/", "{dir}/pulled/"),
            ("rsync", "-a", "-z", "{dir}/files/400000.bin", "rsync://{bracketed}:{port}/files/pushed"),
        ),
        _rsyncd,
        together=True,
    ),
    Program(
        "vsftpd",
        ("vsftpd", "curl"),
        ("vsftpd", "{dir}/vsftpd.conf"),
        (
            (*_CURL, "ftp://{bracketed}:{port}/60000.bin"),
            (*_CURL, "ftp://{bracketed}:{port}/", "ftp://{bracketed}:{port}/700.bin"),
        ),
        _vsftpd,
        together=True,
    ),
    Program(
        "tls",
        ("openssl", "curl"),
        ("openssl", "s_server", "-quiet", "-WWW", "-accept", "{port}", "-cert", "../cert.pem", "-key", "../key.pem"),
        ((*_CURL, "-k", "https://{bracketed}:{port}/60000.bin"), (*_CURL, "-k", "https://{bracketed}:{port}/700.bin")),
        _tls,
    ),
    Program(
        "http-server",
        ("python3", "curl", "wget"),
        (sys.executable, "-m", "http.server", "{port}", "--bind", "{host}", "--directory", "{dir}/files"),
        _HTTP[:2] + _HTTP[4:],
        _files,
    ),
    Program(
        "nc",
        ("nc", "sh"),
        ("sh", "-c", "nc -l -p {port} {host} </dev/null >/dev/null || nc -l {host} {port} </dev/null >/dev/null"),
        (("sh", "-c", "head -c 300000 /dev/zero | nc -w 5 {host} {port}"),),
    ),
)


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
                self.close()
                assert self._server.stderr is not None
                raise ScenarioFailed(
                    f"{self._server_command[0]} does not listen: {self._server.stderr.read()[-300:]!r}"
                )
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
    args = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
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
