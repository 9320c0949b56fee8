"""A host with one process, for the tests of UDP: calls return at once, what leaves is taken from the device."""

from typing import Any

from refmodel.tcp.whole import calls
from refmodel.tcp.whole.calls import Process, SockAddr, Task
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.sockfile import SocketFile
from refmodel.udp.input import udp_rcv
from refmodel.udp.sock import AF_INET, AF_INET6, SOCK_DGRAM, Datagram, UdpSock

OWN, PEER, OTHER = b"\xc0\xa8\x00\x01", b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x09"
OWN6, PEER6 = bytes(15) + b"\x11", bytes(15) + b"\x22"


class Host:
    """A host at OWN and OWN6."""

    def __init__(self, **params: int) -> None:
        self.net = Net(WholeParams(**params))
        self.net.local_addrs += [OWN, OWN6]
        self.process = Process(self.net)

    def call(self, name: str, *args: Any, **kw: Any) -> int:
        """A call's result; it must not sleep."""
        task = self.started(name, *args, **kw)
        assert task.done, f"{name} sleeps"
        return task.ret.value

    def started(self, name: str, *args: Any, **kw: Any) -> Task:
        """A call on its way."""
        return self.process.start(getattr(calls, f"sys_{name}")(self.process, *args, **kw))

    def socket(self, family: int = AF_INET, port: int = 0, peer: bytes = b"", peer_port: int = 9) -> int:
        """A datagram socket, bound to `port` and connected to `peer` if those are given."""
        fd = self.call("socket", family, SOCK_DGRAM, 0)
        if port:
            any_address = bytes(16 if family == AF_INET6 else 4)
            assert self.call("bind", fd, SockAddr(family, any_address, port)) == 0
        if peer:
            assert self.call("connect", fd, SockAddr(AF_INET6 if len(peer) == 16 else AF_INET, peer, peer_port)) == 0
        return fd

    def sock(self, fd: int) -> UdpSock:
        """The socket behind a descriptor."""
        file = self.process.fds[fd]
        assert isinstance(file, SocketFile)
        assert isinstance(file.sk, UdpSock)
        return file.sk

    def hears(self, length: int, port: int, sport: int = 9, saddr: bytes = PEER, **fields: Any) -> None:
        """A datagram arrives."""
        packet = Datagram(saddr, OWN if len(saddr) == 4 else OWN6, sport, port, length)
        for name, value in fields.items():
            setattr(packet, name, value)
        udp_rcv(self.net, packet)
        self.process.settle()

    def sent(self) -> list[Any]:
        """What left since the last time."""
        out = list(self.net.out)
        self.net.out.clear()
        return out
