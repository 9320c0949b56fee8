"""Ways in which a connection opens, or does not."""

from conformance.live.lab import Lab
from conformance.live.scenarios.registry import scenario


@scenario("tcp", families=(4, 6), counts={"a.Tcp.ActiveOpens": 1, "b.Tcp.PassiveOpens": 1})
def tcp_active_open(lab: Lab) -> None:
    """A client connects to a listener, and both stay connected."""
    server = lab["b"].server()
    client = lab["a"].socket().connect(lab["b"], 8080)
    server.accept()
    lab.sleep(0.3)
    assert client.fd == 3


@scenario("tcp", families=(4, 6), vantage="b", counts={"b.Tcp.PassiveOpens": 1})
def tcp_passive_open(lab: Lab) -> None:
    """A listener accepts a client: the server's own view, request and reply, the client closes first."""
    server = lab["b"].server()
    client = lab["a"].socket().connect(lab["b"], 8080)
    child = server.accept()
    client.send(100)
    child.recv_all(100)
    child.send(200)
    client.recv_all(200)
    client.close()
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp", families=(4, 6), counts={"a.Tcp.AttemptFails": 1, "b.Tcp.OutRsts": 1})
def tcp_refused(lab: Lab) -> None:
    """Nobody listens: the SYN is answered by a reset and connect fails with ECONNREFUSED."""
    lab["a"].socket().connect(lab["b"], 8080, fails="ECONNREFUSED")
    lab.sleep(0.1)
