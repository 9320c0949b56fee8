"""The lab: hosts in network namespaces of their own, joined by veth pairs, and the calls their applications make.

Every host `x` has one interface `x0`, the address 10.9.0.N (fd09::N in an IPv6 lab) and the MAC 02:00:00:00:00:0N. Two
hosts share a veth pair; more are ports of a bridge in a namespace without addresses. The namespaces have no names: when
the process ends, however it ends, the kernel takes them and their devices away. Standard library and `ip` only.
"""

import errno
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from conformance.live import observe
from conformance.live.errors import LabUnavailable, ScenarioFailed
from conformance.live.kernel import NetNamespace, features, set_features
from conformance.live.sidecar import Call, HostInfo, Notification, Value

T = TypeVar("T")

LIMIT: Final = 60.0  # s that a call may block before the run is given up

OFFLOADS: Final = {"tso": False, "gso": False, "gro": False, "tx-checksum": False, "rx-checksum": True}

# Reno is the one congestion control that every namespace may choose; it is pinned since defaults differ by build.
PINNED: Final[Mapping[str, Value]] = {"net.ipv4.tcp_congestion_control": "reno"}

# IPv6 hosts that speak when the scenario says so: no duplicate address detection, no router solicitations, and the
# multicast listener reports of start-up sent at once instead of within a second.
QUIET_V6: Final[Mapping[str, Value]] = {
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.dad_transmits": 0,
    "net.ipv6.conf.default.router_solicitations": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv6.conf.default.mldv2_unsolicited_report_interval": 20,
}


def require_lab(*tools: str) -> None:
    """Raises LabUnavailable with the reason unless this is root on Linux with `ip`, `tcpdump` and `tools`."""
    if os.geteuid() != 0:
        raise LabUnavailable("recording needs root: it makes network namespaces and taps interfaces")
    missing = [t for t in ("ip", "tcpdump", *tools) if shutil.which(t) is None]
    if missing:
        raise LabUnavailable(f"recording needs {', '.join(missing)}: install the packages iproute2, tcpdump, nftables")


def run(*command: str, stdin: str = "") -> str:
    """Runs a tool to its end and gives its output; raises ScenarioFailed with what it said if it fails."""
    p = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=LIMIT)
    if p.returncode != 0:
        raise ScenarioFailed(f"{' '.join(command)} failed: {p.stderr.strip() or p.stdout.strip()} {stdin}".strip())
    return p.stdout


class Pending(Generic[T]):
    """A call that runs in a thread of its own, since it may block."""

    def __init__(self, f: Callable[[], T]) -> None:
        self._value: list[T] = []
        self._error: BaseException | None = None

        def body() -> None:
            try:
                self._value.append(f())
            except BaseException as e:
                self._error = e

        self._thread = threading.Thread(target=body, daemon=True, name="call")
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether the call has returned."""
        return not self._thread.is_alive()

    def wait(self, limit: float = LIMIT) -> T:
        """What the call returned; raises what it raised, or ScenarioFailed if it still blocks after `limit` s."""
        self._thread.join(limit)
        if self._thread.is_alive():
            raise ScenarioFailed(f"a call still blocks after {limit} s")
        if self._error is not None:
            raise self._error
        return self._value[0]


class Sock:
    """A socket of a host's application; each method is one system call, logged with its time and result.

    `fails` names the error that the scenario expects; without it the call has to succeed. Both are checked.
    """

    def __init__(self, host: "Host", real: socket.socket, fd: int) -> None:
        self.host, self.real, self.fd = host, real, fd

    def _call(
        self, text: str, f: Callable[[], T], fails: str | None = None, shown: Callable[[T], str] = str
    ) -> T | None:
        began = time.time()
        try:
            value = Pending(f).wait()
        except OSError as e:
            name = errno.errorcode.get(e.errno or 0, str(e.errno))
            self.host.log(text, f"-1 {name}", began)
            if name != fails:
                raise ScenarioFailed(
                    f"{self.host.name}: {text} failed with {name}, expected {fails or 'success'}"
                ) from e
            return None
        self.host.log(text, shown(value), began)
        if fails is not None:
            raise ScenarioFailed(f"{self.host.name}: {text} gave {shown(value)}, expected {fails}")
        return value

    def bind(self, port: int, address: str | None = None) -> "Sock":
        """bind(2) to the host's address, or to `address`."""
        where = address if address is not None else self.host.address
        self._call(f"bind({self.fd}, {endpoint(where, port)})", lambda: self.real.bind((where, port)), shown=_zero)
        return self

    def listen(self, backlog: int = 8) -> "Sock":
        """listen(2)."""
        self._call(f"listen({self.fd}, {backlog})", lambda: self.real.listen(backlog), shown=_zero)
        return self

    def accept(self, fails: str | None = None) -> "Sock":
        """accept(2); blocks; gives the new socket, or this one where the failure was expected."""
        fd = self.host.next_fd()
        got = self._call(
            f"accept({self.fd})",
            lambda: self.real.accept(),
            fails,
            lambda v: f"{fd} {endpoint(v[1][0], v[1][1])}",
        )
        if got is None:
            return self
        self.host.sockets.append(got[0])
        return Sock(self.host, got[0], fd)

    def connect(self, to: "Host | str", port: int, fails: str | None = None) -> "Sock":
        """connect(2); blocks unless the socket was made non-blocking."""
        where = to if isinstance(to, str) else to.address
        self._call(
            f"connect({self.fd}, {endpoint(where, port)})",
            lambda: self.real.connect((where, port)),
            fails,
            lambda _: f"0 {endpoint(*self.real.getsockname()[:2])}",
        )
        return self

    def send(self, n: int, flags: str = "", fails: str | None = None) -> int:
        """send(2) of `n` bytes with `flags`, for instance 'MSG_MORE'; SIGPIPE is never raised."""
        bits = getattr(socket, flags, 0) if flags else 0
        data = letters(n)
        text = f"send({self.fd}, {n}{', ' + flags if flags else ''})"
        return self._call(text, lambda: self.real.send(data, bits | socket.MSG_NOSIGNAL), fails) or 0

    def sendto(self, n: int, to: "Host | str", port: int, fails: str | None = None) -> int:
        """sendto(2) of `n` bytes."""
        where = to if isinstance(to, str) else to.address
        text = f"sendto({self.fd}, {n}, {endpoint(where, port)})"
        return self._call(text, lambda: self.real.sendto(letters(n), (where, port)), fails) or 0

    def recv(self, n: int = 65536, flags: str = "", fails: str | None = None) -> int:
        """recv(2) of at most `n` bytes; blocks; 0 is the end of the stream."""
        bits = getattr(socket, flags, 0) if flags else 0
        text = f"recv({self.fd}, {n}{', ' + flags if flags else ''})"
        got = self._call(text, lambda: self.real.recv(n, bits), fails, lambda v: str(len(v)))
        return len(got or b"")

    def recv_all(self, n: int) -> None:
        """recv(2) until `n` bytes have come; raises ScenarioFailed if the stream ends before."""
        while n > 0:
            got = self.recv(n)
            if got == 0:
                raise ScenarioFailed(f"{self.host.name}: the stream ended {n} bytes early")
            n -= got

    def eof(self) -> None:
        """recv(2) that has to report the end of the stream."""
        if got := self.recv():
            raise ScenarioFailed(f"{self.host.name}: {got} bytes came where the end of the stream was expected")

    def shutdown(self, how: str = "SHUT_WR", fails: str | None = None) -> None:
        """shutdown(2)."""
        self._call(f"shutdown({self.fd}, {how})", lambda: self.real.shutdown(getattr(socket, how)), fails, _zero)

    def close(self) -> None:
        """close(2)."""
        self._call(f"close({self.fd})", lambda: self.real.close(), shown=_zero)

    def set(self, level: str, name: str, value: int) -> "Sock":
        """setsockopt(2) with an integer, for instance ('IPPROTO_TCP', 'TCP_NODELAY', 1)."""
        text = f"setsockopt({self.fd}, {level}, {name}, {value})"
        number = SOCKOPTS.get(name) or getattr(socket, name)
        self._call(text, lambda: self.real.setsockopt(getattr(socket, level), number, value), shown=_zero)
        return self

    def linger(self, seconds: int) -> "Sock":
        """setsockopt(2) of SO_LINGER, switched on."""
        text = f"setsockopt({self.fd}, SOL_SOCKET, SO_LINGER, 1, {seconds})"
        data = struct.pack("ii", 1, seconds)
        self._call(text, lambda: self.real.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, data), shown=_zero)
        return self

    def error(self) -> str:
        """getsockopt(2) of SO_ERROR: the error's name, or '0'."""
        text = f"getsockopt({self.fd}, SOL_SOCKET, SO_ERROR)"
        got = self._call(text, lambda: self.real.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        return errno.errorcode.get(got, str(got)) if got else "0"

    def nonblock(self) -> "Sock":
        """fcntl(2) O_NONBLOCK."""
        self._call(f"fcntl({self.fd}, F_SETFL, O_NONBLOCK)", lambda: self.real.setblocking(False), shown=_zero)
        return self


SOCKOPTS: Final = {
    "TCP_DEFER_ACCEPT": 9,
    "TCP_USER_TIMEOUT": 18,
    "TCP_LINGER2": 8,
    "TCP_CORK": 3,
    "TCP_SYNCNT": 7,
    "IP_RECVERR": 11,
    "IPV6_RECVERR": 25,
}


def _zero(_: object) -> str:
    return "0"


def letters(n: int) -> bytes:
    """`n` bytes of text that a dissector takes for nothing else."""
    return (b"abcdefghijklmnopqrstuvwxyz" * (n // 26 + 1))[:n]


def endpoint(address: str, port: int) -> str:
    """'10.9.0.1:80', or '[fd09::1]:80'."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Host:
    """A host of the lab: a namespace with the interface `<name>0`, and the log of what its applications did."""

    def __init__(self, name: str, number: int, family: int, linux: bool) -> None:
        self.name, self.number, self.family, self.linux = name, number, family, linux
        self.netns = NetNamespace()
        self.interface = f"{name}0"
        self.mac = f"02:00:00:00:00:{number:02x}"
        self.v4 = f"10.9.0.{number}"
        self.v6 = f"fd09::{number:x}"
        self.link_local = f"fe80::ff:fe00:{number:x}"
        self.more: list[str] = []
        self.sysctls: dict[str, Value] = {}
        self.calls: list[Call] = []
        self.sockets: list[socket.socket] = []
        self._fd = 2
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """The address in the lab's family."""
        return self.v6 if self.family == 6 else self.v4

    @property
    def addresses(self) -> list[str]:
        """All addresses of the host, those that a scenario added at the end."""
        return [self.v4, *([self.v6, self.link_local] if self.family == 6 else []), *self.more]

    def next_fd(self) -> int:
        """The next descriptor's number, as a program that closes nothing would see it."""
        with self._lock:
            self._fd += 1
            return self._fd

    def log(self, call: str, result: str, began: float) -> None:
        """Writes a call into the log."""
        self.calls.append(Call(self.name, began, call, result, time.time()))

    def run(self, *command: str, stdin: str = "") -> str:
        """Runs a tool in the namespace."""
        with self.netns.inside():
            return run(*command, stdin=stdin)

    def ip(self, command: str) -> None:
        """Runs an `ip` command that is part of the scenario, and logs it."""
        began = time.time()
        self.run("ip", *command.split())
        self.log(f"ip {command}", "0", began)

    def add_address(self, address: str, prefix: int, device: str) -> None:
        """Gives the host one more address, as part of the scenario."""
        self.ip(f"addr add {address}/{prefix} dev {device}")
        self.more.append(address)

    def set_sysctl(self, name: str, value: Value, device: str | None = None) -> None:
        """Sets a sysctl; a name with `.default.` is set for the interface too, and recorded as it is written."""
        own = name.replace(".default.", f".{device or self.interface}.")
        # a namespace has no defaults of the neighbour tables: only those of its interfaces
        names = [own] if ".neigh." in name else [name, own] if own != name else [name]
        self.sysctls[name] = value
        with self.netns.inside():
            for n in names:
                path = Path("/proc/sys") / n.replace(".", "/")
                if path.exists():
                    path.write_text(str(value))
                elif n == name:
                    raise ScenarioFailed(f"this kernel has no sysctl {name}")

    def socket(self, kind: str = "SOCK_STREAM", blocking: bool = True) -> Sock:
        """socket(2)."""
        family = socket.AF_INET6 if self.family == 6 else socket.AF_INET
        began = time.time()
        with self.netns.inside():
            real = socket.socket(family, getattr(socket, kind))
        real.setblocking(blocking)
        self.sockets.append(real)
        fd = self.next_fd()
        flags = "" if blocking else " | SOCK_NONBLOCK"
        self.log(f"socket({'AF_INET6' if self.family == 6 else 'AF_INET'}, {kind}{flags})", str(fd), began)
        return Sock(self, real, fd)

    def udp(self) -> Sock:
        """A UDP socket."""
        return self.socket("SOCK_DGRAM")

    def server(self, port: int = 8080, backlog: int = 8) -> Sock:
        """A socket that listens on `port`: SO_REUSEADDR, bind and listen."""
        return self.socket().set("SOL_SOCKET", "SO_REUSEADDR", 1).bind(port).listen(backlog)

    @contextmanager
    def drops(self, match: str) -> Iterator[None]:
        """Meanwhile the wire to this host loses the frames that the nft expression `match` describes.

        They are lost at the interface's ingress, before any of the host's own layers; a tap on the sender saw them.
        """
        rules = (
            "table netdev loss {\nchain wire {\n"
            f"type filter hook ingress device {self.interface} priority 0; policy accept;\n{match} drop\n}}\n}}\n"
        )
        began = time.time()
        self.run("nft", "-f", "-", stdin=rules)
        self.log(f"wire loses: {match}", "0", began)
        try:
            yield
        finally:
            began = time.time()
            self.run("nft", "delete", "table", "netdev", "loss")
            self.log("wire loses: nothing", "0", began)

    def neighbour(self, address: str) -> str:
        """The NUD state of an entry, from a dump; '' without one."""
        words = self.run("ip", "neigh", "show", "to", address, "dev", self.interface).split()
        return words[-1] if words else ""

    def wait_neighbour(self, address: str, state: str, limit: float = 8.0) -> None:
        """Waits until an entry's state is `state`; raises ScenarioFailed after `limit` s."""
        until = time.monotonic() + limit
        while (now := self.neighbour(address)) != state:
            if time.monotonic() > until:
                raise ScenarioFailed(f"{self.name}: {address} is {now or 'unknown'} after {limit} s, expected {state}")
            time.sleep(0.02)

    def filters(self, rule: str) -> None:
        """Adds an nft `rule` to the host's input filter, as an administrator would."""
        began = time.time()
        family = "ip6" if self.family == 6 else "ip"
        chain = f"chain input {{\ntype filter hook input priority 0; policy accept;\n{rule}\n}}"
        self.run("nft", "-f", "-", stdin=f"table {family} filter {{\n{chain}\n}}\n")
        self.log(f"nft add rule {family} filter input {rule}", "0", began)

    def mib(self) -> dict[str, int]:
        """The MIB counters now."""
        with self.netns.inside():
            return observe.mib()


class Lab:
    """Hosts that are wired and ready; a context manager that takes everything down again.

    `family` is 4 or 6; an IPv4 lab has IPv6 switched off and is silent. Hosts named in `raw` have an interface and no
    addresses: what they send is crafted by the scenario.
    """

    def __init__(
        self,
        names: Sequence[str] = ("a", "b"),
        family: int = 4,
        raw: Sequence[str] = (),
        sysctls: Mapping[str, Mapping[str, Value]] | None = None,
        offloads: Mapping[str, bool] = OFFLOADS,
        mtu: int = 1500,
    ) -> None:
        self.family = family
        self.offloads = dict(offloads)
        self.hosts: dict[str, Host] = {}
        self.notifications: list[Notification] = []
        self._wire: NetNamespace | None = None
        try:
            for i, name in enumerate(names, 1):
                self.hosts[name] = Host(name, i, family, name not in raw)
            self._build(mtu, sysctls or {})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def _build(self, mtu: int, sysctls: Mapping[str, Mapping[str, Value]]) -> None:
        hosts = list(self.hosts.values())
        for h in hosts:
            v6 = self.family == 6 and h.linux
            quiet: Mapping[str, Value] = QUIET_V6 if v6 else {"net.ipv6.conf.default.disable_ipv6": 1}
            for k, v in ({**PINNED, **quiet} | dict(sysctls.get("*", {})) | dict(sysctls.get(h.name, {}))).items():
                h.set_sysctl(k, v)
            if not h.linux:
                h.sysctls.clear()
        if len(hosts) == 2:
            a, b = hosts
            a.run("ip", "-batch", "-", stdin=_veth(a, mtu, b.interface, f"address {b.mac} netns {b.netns.path}"))
        else:
            self._build_bridge(hosts, mtu)
        for h in hosts:
            self._configure(h, sysctls)

    def _build_bridge(self, hosts: Sequence[Host], mtu: int) -> None:
        self._wire = NetNamespace()
        with self._wire.inside():
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            run("ip", "-batch", "-", stdin="link add br0 type bridge mcast_snooping 0\nlink set br0 up\n")
        for h in hosts:
            h.run("ip", "-batch", "-", stdin=_veth(h, mtu, f"p{h.number}", f"netns {self._wire.path}"))
            with self._wire.inside():
                run("ip", "-batch", "-", stdin=f"link set p{h.number} master br0\nlink set p{h.number} up\n")

    def _configure(self, h: Host, sysctls: Mapping[str, Mapping[str, Value]]) -> None:
        lines = ["link set lo up"]
        if h.linux:
            lines.append(f"addr add {h.v4}/24 dev {h.interface}")
        lines.append(f"link set {h.interface} up")
        h.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
        for k, v in (dict(sysctls.get("*", {})) | dict(sysctls.get(h.name, {}))).items():
            if ".default." in k and h.linux:
                h.set_sysctl(k, v)
        if self.family == 6 and h.linux:
            h.run("ip", "addr", "add", f"{h.v6}/64", "dev", h.interface, "nodad")
        with h.netns.inside():
            set_features(h.interface, self.offloads)
            self.offloads = features(h.interface) if h is next(iter(self.hosts.values())) else self.offloads

    def settle(self) -> None:
        """Waits until the carrier is up on both sides and the start-up reports of IPv6 have been sent.

        REFMODEL_SETTLE multiplies the wait: an emulated machine needs longer.
        """
        time.sleep((0.3 if self.family == 6 else 0.05) * float(os.environ.get("REFMODEL_SETTLE", "1")))

    def go(self, f: Callable[..., T], *args: Any, **kwargs: Any) -> Pending[T]:
        """Starts a call that may block; `wait` on what is returned."""
        return Pending(lambda: f(*args, **kwargs))

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        time.sleep(seconds)

    def info(self, before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]) -> list[HostInfo]:
        """What the sidecar says about each host."""
        result = []
        for h in self.hosts.values():
            was, now = observe.changed(before[h.name], after[h.name]) if h.linux else ({}, {})
            result.append(HostInfo(h.name, h.linux, h.addresses, h.mac, dict(h.sysctls), was, now))
        return result

    def close(self) -> None:
        """Closes the sockets and lets go of the namespaces."""
        for h in self.hosts.values():
            for s in h.sockets:
                s.close()
            h.netns.close()
        if self._wire is not None:
            self._wire.close()
            self._wire = None


def _veth(h: Host, mtu: int, peer: str, peer_options: str) -> str:
    return f"link add {h.interface} address {h.mac} mtu {mtu} type veth peer name {peer} mtu {mtu} {peer_options}\n"
