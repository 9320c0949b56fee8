"""The model's walks of the cases that walk_inside plays in a guest, over a wire between the card and its peer.

The card is e1000e with its offloads off, as guest_load.prepare leaves it. The guest's peer is a virtio card; an e1000e
with GRO stands for it. Both have Debian's fq_codel, for which pfifo stands: it has a lock, too, and is bypassed empty.
"""

from typing import Final

from conformance.live.walk_model import MOMENT, QUIET, case, datagrams, host, recorded
from refmodel.host.namespace import Namespace
from refmodel.host.network import Network
from refmodel.host.program import Program, accept, bind, connect, listen, recv, send, sleep, socket
from refmodel.host.walks import PORT, datagram_reader
from refmodel.walk import Walk

CARD: Final = bytes((10, 9, 0, 1))
PEER: Final = bytes((10, 9, 0, 2))
OFFLOADS: Final = frozenset({"rx-checksum", "highdma"})
PEERS: Final = frozenset({"generic-receive-offload", "highdma"})
EARLIER: Final = 50
"""us before the packet's coming that its reader begins to wait."""


def stream(daddr: bytes) -> Program:
    """Connects, says hello once its peer has it accepted, is silent, and sends the hundred bytes of the walk."""
    fd = yield socket()
    yield connect(fd, daddr, PORT)
    yield sleep(MOMENT)
    yield send(fd, b"hello")
    yield sleep(QUIET)
    yield send(fd, bytes(100))
    yield sleep(QUIET)


def accepted(address: bytes, wait: int) -> Program:
    """Accepts a connection, reads the hello, and `wait` us later reads on."""
    fd = yield socket()
    yield bind(fd, address, PORT)
    yield listen(fd, 1)
    new = yield accept(fd)
    yield recv(new, 100)
    yield sleep(wait)
    yield recv(new, 1000)
    yield sleep(QUIET)


def guest(kernel: str, known: bool = True) -> tuple[Network, Namespace, Namespace]:
    """Two namespaces of one machine, the card's and its peer's."""
    net = Network(kernel)
    machine = net.machine("box")
    card, peer = host(net, "card", machine), host(net, "peer", machine)
    wire = net.wire(card, peer, names=("nic0", "eth1"), driver="e1000e", features=OFFLOADS)
    for ns, dev in zip((card, peer), wire.dev, strict=True):
        ns.set_qdisc(dev, "pfifo")
    wire.dev[1].features = PEERS
    card.newaddr(wire.dev[0], CARD, 24)
    peer.newaddr(wire.dev[1], PEER, 24)
    peer.neighbour(CARD, wire.dev[1], wire.dev[0].dev_addr)
    if known:
        card.neighbour(PEER, wire.dev[0], wire.dev[1].dev_addr)
    return net, card, peer


@case
def card_send(kernel: str) -> Walk:
    """100 bytes of TCP out of the card, and their acknowledgement."""
    net, card, peer = guest(kernel)
    net.program(peer, accepted(PEER, QUIET), "server")
    return recorded(net, "card_send", card, stream(PEER))


@case
def card_receive(kernel: str) -> Walk:
    """100 bytes of TCP into the card, and their reading."""
    net, card, peer = guest(kernel)
    net.program(card, accepted(CARD, QUIET - EARLIER), "server")
    return recorded(net, "card_receive", peer, stream(CARD))


@case
def card_first_contact(kernel: str) -> Walk:
    """A datagram out of the card to a neighbour that is not known yet."""
    net, card, peer = guest(kernel, known=False)
    net.program(peer, datagram_reader(PEER), "server")
    return recorded(net, "card_first_contact", card, datagrams(b"", (PEER, PORT), 100))
