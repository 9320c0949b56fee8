"""Real programs: what each server needs, how it starts, and what its clients ask of it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PORT: Final = 8080
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
        f"user root root; daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
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
