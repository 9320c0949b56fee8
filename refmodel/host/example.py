"""The worked example: a server says hello to one client and hears from it.

The two programs of every introduction to sockets: the server listens on port 3490 with a backlog of 10, greets whom it
accepts, hears the answer, closes; the client connects, reads the greeting, answers, closes.
"""

from typing import Final

from refmodel.host.program import (
    Program,
    accept,
    bind,
    close,
    connect,
    family_of,
    listen,
    recv,
    send,
    setsockopt,
    socket,
)

PORT: Final = 3490
BACKLOG: Final = 10
HELLO: Final = b"Hello, world!\n"
HI: Final = b"Hi"
MAXDATASIZE: Final = 100
SOL_SOCKET: Final = 1
SO_REUSEADDR: Final = 2


def server(address: bytes) -> Program:
    """socket, bind, listen, accept, send, recv, close."""
    fd = yield socket(family_of(address))
    yield setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    yield bind(fd, address, PORT)
    yield listen(fd, BACKLOG)
    new_fd = yield accept(fd)
    yield send(new_fd, HELLO)
    yield recv(new_fd, MAXDATASIZE)
    yield close(new_fd)
    yield close(fd)


def client(address: bytes) -> Program:
    """socket, connect, recv, send, close; `address` is the server's."""
    fd = yield socket(family_of(address))
    yield connect(fd, address, PORT)
    yield recv(fd, MAXDATASIZE)
    yield send(fd, HI)
    yield close(fd)
