"""Ways in which a connection between two hosts ends in order."""

from conformance.live.lab import Lab, Sock
from conformance.live.scenarios.registry import LOSS_RECOVERY, scenario


def _connect(lab: Lab, port: int = 0) -> tuple[Sock, Sock, Sock]:
    """A listener, a client (bound to `port`, if any) and the listener's end of the connection."""
    server = lab["b"].server()
    client = lab["a"].socket()
    if port:
        client.bind(port)
    client.connect(lab["b"], 8080)
    return server, client, server.accept()


@scenario("tcp", families=(4, 6))
def tcp_close_client_first(lab: Lab) -> None:
    """The client closes first and goes to TIME_WAIT; the server closes when it has read the end of the stream."""
    _, client, child = _connect(lab)
    lab.sleep(0.1)
    client.close()
    lab.sleep(0.1)
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp", families=(4, 6))
def tcp_close_server_first(lab: Lab) -> None:
    """The server closes first, so that TIME_WAIT is its own; the client closes after the end of the stream."""
    _, client, child = _connect(lab)
    child.close()
    lab.sleep(0.1)
    client.eof()
    client.close()
    lab.sleep(0.1)


@scenario("tcp")
def tcp_close_after_long_close_wait(lab: Lab) -> None:
    """The server stays in CLOSE_WAIT for a second before it closes; the client waits in FIN_WAIT2."""
    _, client, child = _connect(lab)
    client.close()
    child.eof()
    lab.sleep(1.0)
    child.close()
    lab.sleep(0.1)


@scenario("tcp", families=(4, 6))
def tcp_half_close_client(lab: Lab) -> None:
    """The client shuts its sending side down; the server sends data into FIN_WAIT2, then closes."""
    _, client, child = _connect(lab)
    client.send(40)
    client.shutdown("SHUT_WR")
    child.recv_all(40)
    child.eof()
    child.send(500)
    client.recv_all(500)
    lab.sleep(0.3)
    child.send(60)
    client.recv_all(60)
    child.close()
    client.eof()
    client.close()
    lab.sleep(0.1)


@scenario("tcp")
def tcp_half_close_server(lab: Lab) -> None:
    """The server shuts its sending side down; the client sends data out of CLOSE_WAIT, then closes."""
    _, client, child = _connect(lab)
    child.send(40)
    child.shutdown("SHUT_WR")
    client.recv_all(40)
    client.eof()
    client.send(500)
    child.recv_all(500)
    client.close()
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp")
def tcp_shutdown_both(lab: Lab) -> None:
    """shutdown(SHUT_RDWR) sends a FIN; close after it sends nothing more."""
    _, client, child = _connect(lab)
    client.shutdown("SHUT_RDWR")
    lab.sleep(0.1)
    client.close()
    lab.sleep(0.1)
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp")
def tcp_close_after_shutdown(lab: Lab) -> None:
    """shutdown(SHUT_WR), then close in FIN_WAIT2: no second FIN; the server's close ends in TIME_WAIT."""
    _, client, child = _connect(lab)
    client.shutdown("SHUT_WR")
    lab.sleep(0.2)
    client.close()
    lab.sleep(0.2)
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp")
def tcp_shutdown_read(lab: Lab) -> None:
    """shutdown(SHUT_RD) sends nothing: data that comes afterwards is acknowledged as before."""
    _, client, child = _connect(lab)
    client.shutdown("SHUT_RD")
    child.send(50)
    lab.sleep(0.3)
    client.recv_all(50)
    client.eof()
    client.close()
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp")
def tcp_fin_with_data(lab: Lab) -> None:
    """A FIN rides on the last data: corked bytes leave together with it at close."""
    _, client, child = _connect(lab)
    client.set("IPPROTO_TCP", "TCP_CORK", 1)
    client.send(70)
    client.close()
    child.recv_all(70)
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp", families=(4, 6), counts={"a.Tcp.EstabResets": 1, "a.TcpExt.TCPAbortOnData": 1})
def tcp_linger_zero(lab: Lab) -> None:
    """SO_LINGER of 0: close sends a reset at once, and the server's recv fails with ECONNRESET."""
    _, client, child = _connect(lab)
    client.linger(0)
    client.close()
    lab.sleep(0.1)
    child.recv(fails="ECONNRESET")
    child.close()


@scenario("tcp")
def tcp_linger_positive(lab: Lab) -> None:
    """SO_LINGER of 2 s: close sends the FIN and returns when it has been acknowledged."""
    _, client, child = _connect(lab)
    client.linger(2).send(30)
    client.close()
    lab.sleep(0.1)
    child.recv_all(30)
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp", tools=("nft",), not_modelled=(LOSS_RECOVERY,))
def tcp_linger_expires(lab: Lab) -> None:
    """SO_LINGER of 1 s and a wire that loses the FIN and its repetitions: close returns after the second."""
    _, client, child = _connect(lab)
    client.linger(1)
    with lab["b"].drops("tcp dport 8080"):
        client.close()
    lab.sleep(1.0)
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp", families=(4, 6), counts={"a.TcpExt.TCPAbortOnClose": 1})
def tcp_close_unread(lab: Lab) -> None:
    """close with unread data in the receive queue sends a reset instead of a FIN."""
    _, client, child = _connect(lab)
    child.send(100)
    lab.sleep(0.1)
    client.close()
    lab.sleep(0.1)
    child.send(10, fails="ECONNRESET")
    child.close()


@scenario("tcp")
def tcp_data_to_orphan(lab: Lab) -> None:
    """The client closes; data that the server then sends meets an orphan in FIN_WAIT2 and is answered by a reset."""
    _, client, child = _connect(lab)
    client.close()
    child.eof()
    child.send(25)
    lab.sleep(0.1)
    child.send(25, fails="EPIPE")
    child.close()
    lab.sleep(0.1)


@scenario("tcp")
def tcp_data_crosses_shutdown(lab: Lab) -> None:
    """Both sides shut down after sending, so that neither loses what the other wrote."""
    _, client, child = _connect(lab)
    client.send(64)
    child.send(32)
    client.shutdown("SHUT_WR")
    child.shutdown("SHUT_WR")
    child.recv_all(64)
    client.recv_all(32)
    child.eof()
    client.eof()
    client.close()
    child.close()
    lab.sleep(0.1)


@scenario("tcp", sysctls={"a": {"net.ipv4.tcp_fin_timeout": 2}}, counts={"a.TcpExt.TCPAbortOnTimeout": 0})
def tcp_fin_wait2_timeout(lab: Lab) -> None:
    """tcp_fin_timeout=2: the orphan in FIN_WAIT2 is gone after two seconds, and the server's data draws a reset."""
    _, client, child = _connect(lab)
    client.close()
    child.eof()
    lab.sleep(2.6)
    child.send(25)
    lab.sleep(0.1)
    child.close()
    lab.sleep(0.1)


@scenario("tcp")
def tcp_fin_wait2_linger2(lab: Lab) -> None:
    """TCP_LINGER2 below 0: the orphan does not wait in FIN_WAIT2 but resets the connection."""
    _, client, child = _connect(lab)
    client.set("IPPROTO_TCP", "TCP_LINGER2", -1)
    client.close()
    lab.sleep(0.1)
    child.close()
    lab.sleep(0.1)


@scenario("tcp")
def tcp_close_listener_with_unaccepted(lab: Lab) -> None:
    """A listener closes with two connections that nobody accepted: each is reset."""
    server = lab["b"].server()
    clients = [lab["a"].socket().connect(lab["b"], 8080) for _ in range(2)]
    lab.sleep(0.1)
    server.close()
    lab.sleep(0.1)
    for c in clients:
        c.recv(fails="ECONNRESET")
        c.close()


@scenario("tcp", counts={"a.Tcp.ActiveOpens": 2, "b.Tcp.PassiveOpens": 2})
def tcp_time_wait_reuse_syn(lab: Lab) -> None:
    """The server's TIME_WAIT meets a SYN from the same port: a new connection opens in its place."""
    server, client, child = _connect(lab, 7000)
    child.close()
    client.eof()
    client.close()
    lab.sleep(1.2)
    lab["a"].socket().bind(7000).connect(lab["b"], 8080)
    server.accept()
    lab.sleep(0.2)


@scenario(
    "tcp",
    sysctls={"a": {"net.ipv4.tcp_tw_reuse": 1, "net.ipv4.ip_local_port_range": "7000 7000"}},
    counts={"a.TcpExt.TWRecycled": 1},
)
def tcp_time_wait_reuse_connect(lab: Lab) -> None:
    """The client's only port is in TIME_WAIT: with tcp_tw_reuse=1 connect takes it again after a second."""
    server, client, child = _connect(lab)
    client.close()
    child.eof()
    child.close()
    lab.sleep(1.3)
    lab["a"].socket().connect(lab["b"], 8080)
    server.accept()
    lab.sleep(0.2)


@scenario("tcp", sysctls={"a": {"net.ipv4.tcp_tw_reuse": 0, "net.ipv4.ip_local_port_range": "7000 7000"}})
def tcp_time_wait_no_reuse(lab: Lab) -> None:
    """The client's only port is in TIME_WAIT and tcp_tw_reuse=0: connect fails with EADDRNOTAVAIL."""
    _, client, child = _connect(lab)
    client.close()
    child.eof()
    child.close()
    lab.sleep(0.2)
    lab["a"].socket().connect(lab["b"], 8080, fails="EADDRNOTAVAIL")
    lab.sleep(0.2)


@scenario("tcp", tools=("nft",), not_modelled=(LOSS_RECOVERY,))
def tcp_lost_fin(lab: Lab) -> None:
    """The wire loses the client's FIN: it is sent again."""
    _, client, child = _connect(lab)
    with lab["b"].drops("tcp flags & fin == fin"):
        client.close()
        lab.sleep(0.1)
    child.eof()
    child.close()
    lab.sleep(0.3)


@scenario("tcp", tools=("nft",), not_modelled=(LOSS_RECOVERY,), counts={"b.Tcp.RetransSegs": 1})
def tcp_lost_last_ack(lab: Lab) -> None:
    """The wire loses the ACK of the server's FIN: the FIN is sent again and meets TIME_WAIT, which repeats its ACK."""
    _, client, child = _connect(lab)
    client.close()
    child.eof()
    lab.sleep(0.1)
    with lab["b"].drops("tcp flags & (fin | ack) == ack"):
        child.close()
        lab.sleep(0.1)
    lab.sleep(0.6)
