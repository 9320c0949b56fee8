"""Records what the running kernel does with one packet of each kind, in namespaces of its own.

`python -m conformance.live.walk_record [CASE...] [--out DIR]` writes `<case>.walk.json.gz` for each; without a case it
lists them. It needs root; nothing outlives it.
"""

import argparse
import gzip
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from conformance.live.kernel import NetNamespace, set_features
from conformance.live.tun import Tun
from conformance.live.userfault import Fault
from conformance.live.walk_graph import FILTER
from conformance.live.walk_trace import KernelWalk, TraceError, Tracer, out_of_line, tracer

PORT: Final = 9000
VETH_RING_SIZE: Final = 256
QUIET: Final = 0.6
"""s without a segment after which congestion window and delayed acknowledgements begin anew: more than the RTO."""
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
Act = Callable[[], object]


class Net:
    """Namespaces, devices and sockets of one case; `close` takes all of them away."""

    def __init__(self) -> None:
        self.devices: set[str] = set()
        self.begun = 0
        self.one = False
        self._stack = ExitStack()

    def close(self) -> None:
        """Everything that the case made is gone."""
        self._stack.close()

    def begin(self) -> None:
        """What comes from now on is the case; of its packets only the first is asked about."""
        self.begun, self.one = time.monotonic_ns(), True

    def namespace(self) -> NetNamespace:
        """A new namespace without IPv6's own chatter, its loopback up."""
        ns = NetNamespace()
        self._stack.callback(ns.close)
        with ns.inside():
            Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")
            run("ip link set lo up")
        return ns

    def veth(self, a: NetNamespace, b: NetNamespace, number: int, addresses: tuple[str, str]) -> tuple[str, str]:
        """A pair of devices, each with its address (with prefix length), up, its neighbours known."""
        names = (f"walk{number}a", f"walk{number}b")
        with a.inside():
            run(f"ip link add {names[0]} type veth peer name {names[1]} netns {b.path}")
        for ns, name, address in ((a, names[0], addresses[0]), (b, names[1], addresses[1])):
            with ns.inside():
                run(f"ip addr add {address} dev {name}")
                run(f"ip link set {name} up")
        macs = [self.mac(ns, name) for ns, name in ((a, names[0]), (b, names[1]))]
        for ns, name, mac, address in ((a, names[0], macs[1], addresses[1]), (b, names[1], macs[0], addresses[0])):
            with ns.inside():
                run(f"ip neigh add {address.partition('/')[0]} lladdr {mac} dev {name} nud permanent")
        self.devices |= set(names)
        return names

    def tun(self, ns: NetNamespace, name: str, address: str) -> Tun:
        """A tun device, up, with its address."""
        with ns.inside():
            tun = Tun(name)
            self._stack.callback(os.close, tun.fd)
            run(f"ip addr add {address} dev {name}")
            run(f"ip link set {name} up")
        self.devices.add(name)
        return tun

    def mac(self, ns: NetNamespace, name: str) -> str:
        """A device's address."""
        with ns.inside():
            return run(f"ip -o link show {name}").partition("link/ether ")[2].split()[0]

    def udp(self, ns: NetNamespace, address: str = "") -> socket.socket:
        """A UDP socket, bound to PORT at `address` if it is given."""
        return self._socket(ns, socket.SOCK_DGRAM, address)

    def pair(self, a: NetNamespace, b: NetNamespace, address: str, relay: Act = lambda: None) -> list[socket.socket]:
        """(client in a, its end in b): a connection whose first data are read, quiet since; `relay` moves frames."""
        listener = self._socket(b, socket.SOCK_STREAM, address)
        listener.listen(1)
        client = self._socket(a, socket.SOCK_STREAM, "")
        client.setblocking(False)
        client.connect_ex((address, PORT))
        for _ in range(3):
            relay()
        server, _ = listener.accept()
        self._stack.callback(server.close)
        client.setblocking(True)
        server.setblocking(True)
        client.send(b"hello")
        relay()
        server.recv(100)
        time.sleep(QUIET)
        relay()
        return [client, server]

    def _socket(self, ns: NetNamespace, kind: int, address: str) -> socket.socket:
        with ns.inside():
            s = socket.socket(socket.AF_INET, kind)
        self._stack.callback(s.close)
        # No settimeout: Python would poll before each call.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 5, 0))
        if address:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, PORT))
        return s


def run(command: str) -> str:
    """Runs a program and gives what it printed; raises TraceError with its complaint if it fails."""
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise TraceError(f"{command}: {done.stderr.strip()}")
    return done.stdout


A, B = "10.77.0.1", "10.77.0.2"


def tcp_veth(n: Net, gro: bool = False) -> Act:
    """100 bytes of TCP over a pair of veth, and their reading."""
    a, b = n.namespace(), n.namespace()
    names = n.veth(a, b, 0, (f"{A}/24", f"{B}/24"))
    if gro:
        with b.inside():
            set_features(names[1], {"gro": True})
        with a.inside():
            set_features(names[0], {"tso": False})  # else veth takes the backlog: veth_skb_is_eligible_for_gro
    client, server = n.pair(a, b, B)

    def act() -> None:
        client.send(bytes(100))
        server.recv(1000)

    return act


def tcp_veth_napi(n: Net) -> Act:
    """100 bytes of TCP over a pair of veth whose receiver has GRO on, and so a NAPI of its own."""
    return tcp_veth(n, gro=True)


def tcp_connect(n: Net) -> Act:
    """connect over a pair of veth: SYN, SYN-ACK and ACK, and accept."""
    a, b = n.namespace(), n.namespace()
    n.veth(a, b, 0, (f"{A}/24", f"{B}/24"))
    listener = n._socket(b, socket.SOCK_STREAM, B)
    listener.listen(1)
    client = n._socket(a, socket.SOCK_STREAM, "")

    def act() -> None:
        client.connect((B, PORT))
        n._stack.callback(listener.accept()[0].close)

    return act


def tcp_tun(n: Net) -> Act:
    """100 bytes of TCP out of a tun device with pfifo_fast and into another."""
    a, b = n.namespace(), n.namespace()
    tuns = n.tun(a, "walk0a", f"{A}/24"), n.tun(b, "walk0b", f"{B}/24")
    for ns in (a, b):
        with ns.inside():
            run(f"tc qdisc replace dev {'walk0a' if ns is a else 'walk0b'} root pfifo_fast")
    client, server = n.pair(a, b, B, lambda: relay(*tuns))

    def act() -> None:
        client.send(bytes(100))
        os.write(tuns[1].fd, take(tuns[0]))
        server.recv(1000)
        relay(*tuns)

    return act


def relay(one: Tun, other: Tun) -> None:
    """Moves what either device holds to the other, until both are empty."""
    idle = 0
    while idle < 2:
        for a, b in ((one, other), (other, one)):
            try:
                os.write(b.fd, os.read(a.fd, 1 << 17))
                idle = 0
            except BlockingIOError:
                idle += 1


def take(tun: Tun) -> bytes:
    """The next frame that a device holds; raises TimeoutError if it gets none within 5 s."""
    if not select.select([tun.fd], [], [], 5)[0]:
        raise TimeoutError(f"{tun.name} holds no frame")
    return os.read(tun.fd, 1 << 17)


def tcp_lo(n: Net) -> Act:
    """100 bytes of TCP over the loopback device, and their reading."""
    a = n.namespace()
    client, server = n.pair(a, a, "127.0.0.1")

    def act() -> None:
        client.send(bytes(100))
        server.recv(1000)

    return act


def udp_veth(n: Net) -> Act:
    """A datagram over a pair of veth, and its reading."""
    a, b = n.namespace(), n.namespace()
    n.veth(a, b, 0, (f"{A}/24", f"{B}/24"))
    sender, receiver = n.udp(a), n.udp(b, B)
    warm(sender, receiver, B)

    def act() -> None:
        sender.sendto(bytes(100), (B, PORT))
        receiver.recv(1000)

    return act


def warm(sender: socket.socket, receiver: socket.socket, address: str) -> None:
    """A first datagram, after which the neighbours have their headers and the routes their entries."""
    sender.sendto(bytes(10), (address, PORT))
    receiver.recv(100)


def udp_closed(n: Net) -> Act:
    """A datagram to a port where nobody is: the ICMP error and its coming back."""
    a, b = n.namespace(), n.namespace()
    n.veth(a, b, 0, (f"{A}/24", f"{B}/24"))
    sender = n.udp(a)
    sender.connect((B, PORT))
    return lambda: sender.send(bytes(100))


def first_contact(n: Net) -> Act:
    """A datagram to a neighbour that is not known yet: it waits, is asked for, answers, and gets it."""
    a, b = n.namespace(), n.namespace()
    n.veth(a, b, 0, (f"{A}/24", f"{B}/24"))
    for ns, device, address in ((a, "walk0a", B), (b, "walk0b", A)):
        with ns.inside():
            run(f"ip neigh del {address} dev {device}")
    sender, receiver = n.udp(a), n.udp(b, B)

    def act() -> None:
        sender.sendto(bytes(100), (B, PORT))
        receiver.recv(1000)

    return act


def fragments(n: Net) -> Act:
    """A datagram of 4000 bytes over links of 1500: three fragments out, reassembly, and its reading."""
    a, b = n.namespace(), n.namespace()
    n.veth(a, b, 0, (f"{A}/24", f"{B}/24"))
    sender, receiver = n.udp(a), n.udp(b, B)
    sender.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT
    warm(sender, receiver, B)

    def act() -> None:
        sender.sendto(bytes(4000), (B, PORT))
        receiver.recv(5000)

    return act


def _router(n: Net) -> tuple[NetNamespace, NetNamespace, NetNamespace]:
    a, r, b = n.namespace(), n.namespace(), n.namespace()
    n.veth(a, r, 0, ("10.77.1.2/24", "10.77.1.1/24"))
    n.veth(b, r, 1, ("10.77.2.2/24", "10.77.2.1/24"))
    for ns, gateway in ((a, "10.77.1.1"), (b, "10.77.2.1")):
        with ns.inside():
            run(f"ip route add default via {gateway}")
    with r.inside():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    return a, r, b


def forward(n: Net) -> Act:
    """100 bytes of TCP through a router, and their reading."""
    a, _, b = _router(n)
    client, server = n.pair(a, b, "10.77.2.2")

    def act() -> None:
        client.send(bytes(100))
        server.recv(1000)

    return act


def forward_expired(n: Net) -> Act:
    """A datagram whose TTL ends at the router: dropped, and the ICMP error."""
    a, _, _ = _router(n)
    sender = n.udp(a)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
    sender.connect(("10.77.2.2", PORT))
    return lambda: sender.send(bytes(100))


def masquerade(n: Net) -> Act:
    """The first datagram of a flow through a router with MASQUERADE: a conntrack entry, a new source."""
    a, r, b = _router(n)
    with r.inside():
        run("iptables-legacy -t nat -A POSTROUTING -o walk1b -j MASQUERADE")
        run("iptables-legacy -A FORWARD -i walk0b -j ACCEPT")
    sender, receiver = n.udp(a), n.udp(b, "10.77.2.2")
    warm(n.udp(a), receiver, "10.77.2.2")

    def act() -> None:
        sender.sendto(bytes(100), ("10.77.2.2", PORT))
        receiver.recv(1000)

    return act


def dnat(n: Net) -> Act:
    """The first datagram of a flow that a router with DNAT leads elsewhere."""
    a, r, b = _router(n)
    with r.inside():
        run("iptables-legacy -t nat -A PREROUTING -p udp --dport 7 -j DNAT --to-destination 10.77.2.2:9000")
    sender, receiver = n.udp(a), n.udp(b, "10.77.2.2")
    warm(n.udp(a), receiver, "10.77.2.2")

    def act() -> None:
        sender.sendto(bytes(100), ("10.77.1.1", 7))
        receiver.recv(1000)

    return act


def filtered(n: Net) -> Act:
    """A datagram that iptables drops in INPUT."""
    a, b = n.namespace(), n.namespace()
    n.veth(a, b, 0, (f"{A}/24", f"{B}/24"))
    with b.inside():
        run("iptables-legacy -A INPUT -p udp --dport 9000 -j DROP")
    sender = n.udp(a)
    return lambda: sender.sendto(bytes(100), (B, PORT))


def unread_tun(n: Net) -> Act:
    """A datagram out of a tun device that nobody reads and whose queue is full."""
    a = n.namespace()
    n.tun(a, "walk0a", f"{A}/24")
    with a.inside():
        run("ip link set walk0a txqueuelen 4")
        run("tc qdisc replace dev walk0a root pfifo_fast")
    sender = n.udp(a)
    for _ in range(4):
        sender.sendto(bytes(100), (B, PORT))
    return lambda: sender.sendto(bytes(100), (B, PORT))


def stopped_queue(n: Net) -> Act:
    """A datagram that meets a full device: its queue stops, the packet waits, and goes out when the queue is woken."""
    a, b = n.namespace(), n.namespace()
    names = n.veth(a, b, 0, (f"{A}/24", f"{B}/24"))
    with a.inside():
        run(f"tc qdisc replace dev {names[0]} root pfifo_fast")
        set_features(names[0], {"tso": False})
    with b.inside():
        set_features(names[1], {"gro": True})
        thread = threaded(names[1])
    os.sched_setaffinity(thread, os.sched_getaffinity(0))
    sender, receiver = n.udp(a), n.udp(b, B)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
    sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20)

    def act() -> None:
        # As long as this process runs, the thread that empties the ring does not: both have one processor.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        try:
            for _ in range(VETH_RING_SIZE):
                sender.sendto(bytes(100), (B, PORT))
            n.begin()
            sender.sendto(bytes(100), (B, PORT))
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        until = time.monotonic() + 10
        with b.inside():
            while received(names[1]) < VETH_RING_SIZE + 1 and time.monotonic() < until:
                time.sleep(0.02)

    return act


def received(device: str) -> int:
    """How many packets a device of the calling thread's namespace has received."""
    text = Path("/proc/thread-self/net/dev").read_text()
    return int(text.partition(f"{device}:")[2].split()[1])


def threaded(device: str) -> int:
    """Gives a device's NAPI a thread of its own; the thread's id."""
    # A namespace's devices stand in a sysfs that was mounted in it.
    shell = f"mount -t sysfs none /sys && echo 1 >/sys/class/net/{device}/threaded"
    done = subprocess.run(["unshare", "-m", "sh", "-c", shell], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TraceError(f"{device} can have no NAPI thread: {done.stderr.strip()}")
    for comm in Path("/proc").glob("[0-9]*/comm"):
        if comm.read_text().startswith(f"napi/{device}-"):
            return int(comm.parent.name)
    raise TraceError(f"{device} has no NAPI thread")


def backlog(n: Net, full: bool = False) -> Act:
    """A segment for a socket that its user owns: it waits in the backlog, and is taken as the user lets go."""
    a, b = n.namespace(), n.namespace()
    tuns = n.tun(a, "walk0a", f"{A}/24"), n.tun(b, "walk0b", f"{B}/24")
    client, server = n.pair(a, b, B, lambda: relay(*tuns))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.send(bytes(100))
    first = take(tuns[0])
    os.write(tuns[1].fd, first)
    relay(*tuns)
    second = first  # where it is dropped anyway, none must be sent that the client would send again
    if not full:
        client.send(bytes(100))
        second = take(tuns[0])
    fault = Fault()
    n._stack.callback(fault.close)
    reader = threading.Thread(target=lambda: server.recv_into(fault.view, 200), name="reader")
    reader.start()
    fault.wait()
    for _ in range(1000 if full else 0):
        os.write(tuns[1].fd, first)

    def act() -> None:
        os.write(tuns[1].fd, second)
        if not full:
            fault.resolve()
            reader.join(5)

    def end() -> None:
        fault.resolve()
        reader.join(5)

    n._stack.callback(end)
    return act


def backlog_full(n: Net) -> Act:
    """A segment for a socket that its user owns and whose backlog is full: dropped."""
    return backlog(n, full=True)


CASES: Final[dict[str, Callable[[Net], Act]]] = {
    f.__name__: f
    for f in (
        *(tcp_veth, tcp_veth_napi, tcp_connect, tcp_tun, tcp_lo, udp_veth, udp_closed, first_contact, fragments),
        *(forward, forward_expired, masquerade, dnat, filtered, unread_tun, stopped_queue, backlog, backlog_full),
    )
}


def record(name: str, trace: Tracer) -> KernelWalk:
    """Plays the case `name` and gives what the kernel did; raises TraceError or OSError where it cannot be played."""
    case = CASES[name]
    net = Net()
    here = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(here)})
        act = case(net)
        time.sleep(0.05)
        pids = {t.native_id or 0 for t in threading.enumerate()}
        with trace.on():
            act()
            time.sleep(0.01)
        calls = trace.calls(pids, net.devices, net.begun)
        if net.one:
            calls = tuple(c for c in calls if c.packet in (-1, 0))
    finally:
        net.close()
        os.sched_setaffinity(0, here)
    says = (case.__doc__ or "").strip()
    return KernelWalk(name, says, os.uname().release, trace.how, calls)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0 all recorded, 1 a case failed, 2 usage, or not root."""
    parser = argparse.ArgumentParser(prog="walk_record", description="Record the kernel's walk of a packet.")
    parser.add_argument("cases", nargs="*", help="cases; without any, they are listed")
    parser.add_argument("--all", action="store_true", help="all cases")
    parser.add_argument("--out", type=Path, help="where to write; else the walk is shown")
    args = parser.parse_args(argv)
    names = list(CASES) if args.all else args.cases
    if not names:
        for name, case in CASES.items():
            print(f"{name:16} {case.__doc__}")
        return 0
    unknown = [n for n in names if n not in CASES]
    if unknown or os.geteuid() != 0:
        why = f"no case is named {', '.join(unknown)}" if unknown else "recording needs root"
        print(f"walk_record: {why}", file=sys.stderr)
        return 2
    failed = 0
    with tracer() as trace:
        for name in names:
            try:
                walk = record(name, trace)
            except (TraceError, OSError) as e:
                print(f"walk_record: {name}: {e}", file=sys.stderr)
                failed += 1
                continue
            if args.out is None:
                show(walk)
            else:
                print(write(walk, args.out), flush=True)
    if args.out is not None:
        names = sorted(f for f in out_of_line() if any(fnmatchcase(f, p) for p in FILTER))
        version = ".".join(os.uname().release.split(".")[:2])
        write_functions(names, version, args.out)
    return 1 if failed else 0


def write(walk: KernelWalk, folder: Path) -> Path:
    """Writes a walk and, beside it, what it is; the walk's path."""
    folder.mkdir(parents=True, exist_ok=True)
    version = ".".join(walk.release.partition("-")[0].split(".")[:2])
    path = folder / f"{walk.name}-{version}.walk.json.gz"
    path.write_bytes(gzip.compress(walk.to_json(), 9, mtime=0))
    words = {"case": walk.name, "says": walk.says, "release": walk.release, "how": walk.how}
    lines = [f"{key} = {json.dumps(value)}" for key, value in words.items()] + [f"calls = {len(walk.calls)}"]
    (folder / f"{walk.name}-{version}.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_functions(names: Sequence[str], version: str, folder: Path) -> None:
    """Writes the functions of the network that a kernel has out of line."""
    text = "\n".join(names) + "\n"
    (folder / f"functions-{version}.txt.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def show(walk: KernelWalk) -> None:
    """Prints a walk: a line for each thing seen, with the end of its chain."""
    print(f"{walk.name}: {walk.says} ({walk.release}, {walk.how})")
    begun = walk.calls[0].time if walk.calls else 0
    for c in walk.calls:
        packet = "" if c.packet < 0 else f"#{c.packet}"
        print(f"{(c.time - begun) / 1000:8.0f} us {packet:4} {c.context:8} {c.event:24} {' > '.join(c.chain[-4:])}")


if __name__ == "__main__":
    sys.exit(main())
