"""Loads for a network card, run inside a guest: two interfaces on one wire, the card under test and its peer.

The card stays in the initial network namespace, the peer moves into one of its own, so that every frame crosses the
wire. Standard library only.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from conformance.live.kernel import NetNamespace, features

CARD_MAC = "02:00:00:00:00:01"
PEER_MAC = "02:00:00:00:00:02"
CARD, PEER = "10.9.0.1", "10.9.0.2"
PORT = 9000
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
BULK = 320 * 1024
RESULTS = Path("/results")


def idle() -> None:
    """The link comes up, nobody speaks for three seconds, then one datagram goes out and is refused."""
    time.sleep(3)
    with own_socket(socket.SOCK_DGRAM) as s:
        s.sendto(bytes(32), (PEER, PORT))
        time.sleep(0.5)


def ping() -> None:
    """Twenty datagrams of 32 bytes go out one by one and each is echoed."""
    ready = threading.Event()

    def echo(s: socket.socket) -> None:
        ready.set()
        for _ in range(20):
            data, sender = s.recvfrom(2048)
            s.sendto(data, sender)

    peer = peer_socket(socket.SOCK_DGRAM)
    peer.bind((PEER, PORT))
    thread = threading.Thread(target=echo, args=(peer,))
    thread.start()
    ready.wait()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        for n in range(20):
            s.sendto(bytes([n]) * 32, (PEER, PORT))
            s.recv(2048)
            time.sleep(0.01)
    thread.join()
    peer.close()


def send() -> None:
    """The card sends 48 kB over one TCP connection."""
    stream(sender=own_socket, receiver=peer_socket, address=PEER)


def receive() -> None:
    """The card receives 48 kB over one TCP connection."""
    stream(sender=peer_socket, receiver=own_socket, address=CARD)


def bulk_out() -> None:
    """The card sends 320 kB over one TCP connection."""
    stream(sender=own_socket, receiver=peer_socket, address=PEER, size=BULK)


def bulk_in() -> None:
    """The card receives 320 kB over one TCP connection."""
    stream(sender=peer_socket, receiver=own_socket, address=CARD, size=BULK)


def idle_bulk() -> None:
    """The card receives 48 kB; then nobody speaks for five seconds."""
    receive()
    time.sleep(5)


def overload_in() -> None:
    """The card is sent 700 datagrams as fast as the CPU writes them."""
    burst(peer_socket, own_socket, CARD, count=700)


def burst_out() -> None:
    """The card sends 160 datagrams as fast as the CPU writes them."""
    burst(own_socket, peer_socket, PEER)


def burst_in() -> None:
    """The card is sent 160 datagrams as fast as the CPU writes them."""
    burst(peer_socket, own_socket, CARD)


LOADS: dict[str, Callable[[], None]] = {
    f.__name__: f for f in (idle, ping, send, receive, bulk_out, bulk_in, idle_bulk, burst_out, burst_in, overload_in)
}
Opener = Callable[[int], socket.socket]


def stream(sender: Opener, receiver: Opener, address: str, size: int = 48 * 1024) -> None:
    """Moves `size` bytes from a socket of `sender` to one of `receiver`, which listens at `address`."""
    listener = receiver(socket.SOCK_STREAM)
    listener.bind((address, PORT))
    listener.listen(1)
    got: list[int] = []

    def drain() -> None:
        conn, _ = listener.accept()
        with conn:
            while data := conn.recv(65536):
                got.append(len(data))

    thread = threading.Thread(target=drain)
    thread.start()
    with sender(socket.SOCK_STREAM) as s:
        s.connect((address, PORT))
        s.sendall(bytes(size))
    thread.join()
    listener.close()
    if sum(got) != size:
        raise RuntimeError(f"{sum(got)} of {size} bytes arrived")


def burst(sender: Opener, receiver: Opener, address: str, count: int = 160, size: int = 200) -> None:
    """Sends `count` datagrams of `size` bytes to a bound socket without waiting for anything."""
    with receiver(socket.SOCK_DGRAM) as sink, sender(socket.SOCK_DGRAM) as s:
        sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        s.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
        sink.bind((address, PORT))
        s.connect((address, PORT))
        for _ in range(count):
            s.send(bytes(size))
        time.sleep(1)


def own_socket(kind: int) -> socket.socket:
    """A socket in the card's network namespace."""
    return socket.socket(socket.AF_INET, kind)


def peer_socket(kind: int) -> socket.socket:
    """A socket in the peer's network namespace."""
    with peer_namespace().inside():
        return socket.socket(socket.AF_INET, kind)


@cache
def peer_namespace() -> NetNamespace:
    """The network namespace of the peer; it lives as long as this process."""
    return NetNamespace()


def run(command: str) -> str:
    """Runs a program and gives what it printed; raises RuntimeError with its complaint if it fails."""
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
    return done.stdout


def interface(mac: str) -> str:
    """The name of the interface with this address."""
    for link in Path("/sys/class/net").iterdir():
        if (link / "address").read_text().strip() == mac:
            return link.name
    raise RuntimeError(f"the guest has no interface {mac}")


def prepare(offloads: str, ring: str) -> str:
    """Brings both interfaces up and the neighbours in; gives the card's name.

    `ring` is the descriptor count of both rings ('' keeps the driver's), `offloads` is 'on' or 'off'.
    """
    card, peer = interface(CARD_MAC), interface(PEER_MAC)
    for conf in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{conf}/disable_ipv6").write_text("1")
    run(f"ip link set {card} name nic0")
    run(f"ip link set {peer} netns {peer_namespace().path}")
    with peer_namespace().inside():
        for conf in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{conf}/disable_ipv6").write_text("1")
        run(f"ip addr add {PEER}/24 dev {peer}")
        run(f"ip link set {peer} up")
        run(f"ip neigh add {CARD} lladdr {CARD_MAC} dev {peer} nud permanent")
    if offloads == "off":
        run("ethtool -K nic0 tso off gso off tx off sg off gro off")
    if ring:
        run(f"ethtool -G nic0 tx {ring} rx {ring}")
    run(f"ip addr add {CARD}/24 dev nic0")
    run(f"ip neigh add {PEER} lladdr {PEER_MAC} dev nic0 nud permanent")
    run("ip link set nic0 up")
    for _ in range(100):
        if Path("/sys/class/net/nic0/operstate").read_text().strip() == "up":
            return "nic0"
        time.sleep(0.1)
    raise RuntimeError("the card's link did not come up within 10 s")


def facts(card: str) -> dict[str, object]:
    """What the driver says of itself: its rings, interrupts, statistics and the offloads that are on."""
    statistics = [line.split(":") for line in run(f"ethtool -S {card}").splitlines()[1:]]
    interrupts = [line.split() for line in Path("/proc/interrupts").read_text().splitlines()]
    return {
        "release": os.uname().release,
        "driver": run(f"ethtool -i {card}"),
        "ring": run(f"ethtool -g {card}"),
        "offloads": features(card),
        "statistics": {name.strip(): int(value) for name, value in statistics},
        "interrupts": {words[-1]: words for words in interrupts if words[-1].startswith(card)},
    }


def main(load: str, offloads: str = "off", ring: str = "") -> None:
    """Runs one load and leaves the driver's facts in /results/facts.json."""
    card = prepare(offloads, ring)
    begun = time.time()
    LOADS[load]()
    told = facts(card)
    told |= {"begun": begun, "ended": time.time()}
    (RESULTS / "facts.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
