"""Records walks inside a guest, with function_graph: the cases of walk_record, and a packet through the card.

`python3 -m conformance.live.walk_inside CASE...` leaves `<case>.walk.json` in /results, and in functions.txt the
functions of that kernel that can be traced.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from conformance.live import guest_load
from conformance.live.guest_load import CARD, PEER, own_socket, peer_socket
from conformance.live.walk_graph import grapher, traced
from conformance.live.walk_record import CASES, PORT, QUIET, Act, Net, record

RESULTS: Final = Path("/results")


def _stream(sender: Callable[[int], socket.socket], receiver: Callable[[int], socket.socket], address: str) -> Act:
    listener = receiver(socket.SOCK_STREAM)
    listener.bind((address, PORT))
    listener.listen(1)
    client = sender(socket.SOCK_STREAM)
    client.connect((address, PORT))
    server, _ = listener.accept()
    client.send(b"hello")
    server.recv(100)
    time.sleep(QUIET)

    def act() -> None:
        client.send(bytes(100))
        server.recv(1000)
        time.sleep(0.1)

    return act


def card_send(n: Net) -> Act:
    """100 bytes of TCP out of the card, and their acknowledgement."""
    return _stream(own_socket, peer_socket, PEER)


def card_receive(n: Net) -> Act:
    """100 bytes of TCP into the card, and their reading."""
    return _stream(peer_socket, own_socket, CARD)


def card_first_contact(n: Net) -> Act:
    """A datagram out of the card to a neighbour that is not known yet."""
    guest_load.run(f"ip neigh del {PEER} dev nic0")
    receiver, sender = peer_socket(socket.SOCK_DGRAM), own_socket(socket.SOCK_DGRAM)
    receiver.bind((PEER, PORT))

    def act() -> None:
        sender.sendto(bytes(100), (PEER, PORT))
        receiver.recv(1000)

    return act


def card_full(n: Net) -> Act:
    """Datagrams until the card's ring is full: the queue stops, packets wait, the ring is cleaned, they go out."""
    sender, receiver = own_socket(socket.SOCK_DGRAM), peer_socket(socket.SOCK_DGRAM)
    receiver.bind((PEER, PORT))
    sender.setsockopt(socket.SOL_SOCKET, guest_load.SO_SNDBUFFORCE, 8 << 20)
    sender.connect((PEER, PORT))
    for _ in range(10):
        sender.send(bytes(100))
    time.sleep(0.3)

    def act() -> None:
        for _ in range(70):
            sender.send(bytes(100))
        time.sleep(0.2)

    return act


CARD_CASES: Final[dict[str, Callable[[Net], Act]]] = {
    f.__name__: f for f in (card_send, card_receive, card_first_contact, card_full)
}


def main(names: Sequence[str]) -> None:
    """Records the cases; raises whatever keeps one from being recorded."""
    if set(names) & set(CARD_CASES):
        guest_load.prepare("off", "64" if "card_full" in names else "")
    CASES.update(CARD_CASES)
    with grapher() as trace:
        (RESULTS / "functions.txt").write_text("\n".join(traced(trace.folder)) + "\n")
        for name in names:
            walk = record(name, trace)
            (RESULTS / f"{name}.walk.json").write_bytes(walk.to_json())
            print(name, len(walk.calls), "calls", threading.active_count(), "threads", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
