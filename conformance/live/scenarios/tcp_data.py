"""Data on an open connection: acknowledgements, Nagle, cork, windows, keepalive."""

from conformance.live.errors import ScenarioFailed
from conformance.live.lab import Lab, Sock
from conformance.live.scenarios.registry import LOSS_RECOVERY, scenario


def _pair(lab: Lab) -> tuple[Sock, Sock]:
    server = lab["b"].server()
    client = lab["a"].socket().connect(lab["b"], 8080)
    return client, server.accept()


@scenario("tcp", families=(4, 6))
def tcp_request_response(lab: Lab) -> None:
    """Three requests of 100 bytes, each answered by 400 bytes; the replies carry the acknowledgements."""
    client, child = _pair(lab)
    for _ in range(3):
        client.send(100)
        child.recv_all(100)
        child.send(400)
        client.recv_all(400)
        lab.sleep(0.02)
    client.close()
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp", families=(4, 6))
def tcp_several_writes(lab: Lab) -> None:
    """Eight writes of different length, 10 ms apart, one way."""
    client, child = _pair(lab)
    for n in (1, 2, 50, 300, 1000, 1448, 1449, 7):
        client.send(n)
        child.recv_all(n)
        lab.sleep(0.01)
    lab.sleep(0.3)


@scenario("tcp", counts={"a.Tcp.RetransSegs": 0})
def tcp_bulk(lab: Lab) -> None:
    """A write of 30 full segments without loss, in bursts that the congestion window allows."""
    client, child = _pair(lab)
    reading = lab.go(child.recv_all, 30 * 1448)
    client.send(30 * 1448)
    reading.wait()
    lab.sleep(0.1)
    client.close()
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp")
def tcp_delayed_ack(lab: Lab) -> None:
    """In a conversation both ways an ACK with nothing to ride on waits for the delayed acknowledgement's timer."""
    client, child = _pair(lab)
    for _ in range(2):
        client.send(30)
        child.recv_all(30)
        child.send(30)
        client.recv_all(30)
        lab.sleep(0.005)
    client.send(30)
    lab.sleep(0.4)
    child.recv_all(30)
    lab.sleep(0.2)


@scenario("tcp")
def tcp_nagle(lab: Lab) -> None:
    """Three small writes in a row: the second waits until the first is acknowledged, and takes the third along."""
    client, child = _pair(lab)
    for _ in range(2):
        client.send(10)
        child.recv_all(10)
        child.send(10)
        client.recv_all(10)
    for n in (11, 12, 13):
        client.send(n)
    lab.sleep(0.5)
    child.recv_all(36)
    lab.sleep(0.1)


@scenario("tcp")
def tcp_nodelay(lab: Lab) -> None:
    """TCP_NODELAY: three small writes leave as three segments."""
    client, child = _pair(lab)
    client.set("IPPROTO_TCP", "TCP_NODELAY", 1)
    for n in (11, 12, 13):
        client.send(n)
    lab.sleep(0.3)
    child.recv_all(36)
    lab.sleep(0.1)


@scenario("tcp")
def tcp_cork(lab: Lab) -> None:
    """TCP_CORK holds small writes together until it is taken away."""
    client, child = _pair(lab)
    client.set("IPPROTO_TCP", "TCP_CORK", 1)
    for n in (100, 200, 300):
        client.send(n)
    lab.sleep(0.05)
    client.set("IPPROTO_TCP", "TCP_CORK", 0)
    child.recv_all(600)
    lab.sleep(0.2)


@scenario("tcp")
def tcp_cork_times_out(lab: Lab) -> None:
    """A corked write that nobody completes leaves after 200 ms."""
    client, child = _pair(lab)
    client.set("IPPROTO_TCP", "TCP_CORK", 1)
    client.send(100)
    lab.sleep(0.6)
    child.recv_all(100)
    lab.sleep(0.1)


@scenario("tcp")
def tcp_msg_more(lab: Lab) -> None:
    """MSG_MORE holds a write until the next one without it."""
    client, child = _pair(lab)
    client.send(100, "MSG_MORE")
    lab.sleep(0.02)
    client.send(50)
    child.recv_all(150)
    lab.sleep(0.2)


@scenario("tcp")
def tcp_urgent(lab: Lab) -> None:
    """A byte sent with MSG_OOB is announced by the urgent pointer; the reader takes it out of line."""
    client, child = _pair(lab)
    client.send(3)
    client.send(1, "MSG_OOB")
    lab.sleep(0.05)
    child.recv_all(3)
    child.recv(1, "MSG_OOB")
    client.send(5)
    child.recv_all(5)
    lab.sleep(0.2)


@scenario("tcp", sysctls={"a": {"net.ipv4.tcp_early_retrans": 0}}, counts={"a.Tcp.RetransSegs": 0})
def tcp_zero_window(lab: Lab) -> None:
    """The reader stops and its window closes; the sender probes until the reader goes on and the window opens."""
    server = lab["b"].socket().set("SOL_SOCKET", "SO_RCVBUF", 4096).bind(8080).listen(4)
    client = lab["a"].socket().set("SOL_SOCKET", "SO_SNDBUF", 65536).connect(lab["b"], 8080)
    child = server.accept()
    writing = lab.go(client.send, 12000)
    lab.sleep(1.8)
    child.recv_all(12000)
    writing.wait()
    lab.sleep(0.3)


@scenario(
    "tcp",
    tools=("nft",),
    sysctls={"a": {"net.ipv4.tcp_early_retrans": 0}},
    counts={"a.Tcp.RetransSegs": 0},
)
def tcp_zero_window_lost_update(lab: Lab) -> None:
    """The wire loses the window update that reopens a closed window: the next probe finds it open."""
    server = lab["b"].socket().set("SOL_SOCKET", "SO_RCVBUF", 4096).bind(8080).listen(4)
    client = lab["a"].socket().set("SOL_SOCKET", "SO_SNDBUF", 65536).connect(lab["b"], 8080)
    child = server.accept()
    writing = lab.go(client.send, 8000)
    lab.sleep(0.1)
    with lab["a"].drops("tcp sport 8080"):
        child.recv(2000)
        lab.sleep(0.02)
    lab.sleep(1.0)
    child.recv_all(6000)
    writing.wait()
    lab.sleep(0.3)


@scenario("tcp", families=(4, 6), counts={"a.TcpExt.TCPKeepAlive": 2})
def tcp_keepalive(lab: Lab) -> None:
    """An idle connection with SO_KEEPALIVE (idle 1 s, interval 1 s): each probe is answered."""
    client, _ = _pair(lab)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        client.set("IPPROTO_TCP", name, 1)
    client.set("SOL_SOCKET", "SO_KEEPALIVE", 1)
    lab.sleep(2.6)


@scenario("tcp", tools=("nft",), counts={"a.TcpExt.TCPKeepAlive": 3, "a.TcpExt.TCPAbortOnTimeout": 1})
def tcp_keepalive_gives_up(lab: Lab) -> None:
    """The peer no longer answers: after three unanswered probes the connection is reset and recv fails with
    ETIMEDOUT.
    """
    client, _ = _pair(lab)
    for name, value in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3)):
        client.set("IPPROTO_TCP", name, value)
    client.set("SOL_SOCKET", "SO_KEEPALIVE", 1)
    with lab["b"].drops("tcp dport 8080"):
        client.recv(fails="ETIMEDOUT")
        lab.sleep(0.1)


@scenario("tcp")
def tcp_keepalive_to_dead_peer(lab: Lab) -> None:
    """The server's host lost the connection: the keepalive probe is answered by a reset and recv fails with
    ECONNRESET.
    """
    client, child = _pair(lab)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        client.set("IPPROTO_TCP", name, 1)
    client.set("SOL_SOCKET", "SO_KEEPALIVE", 1)
    with lab["a"].drops("tcp sport 8080"):
        child.linger(0)
        child.close()
    client.recv(fails="ECONNRESET")
    lab.sleep(0.1)


@scenario("tcp", tools=("nft",), not_modelled=(LOSS_RECOVERY,), counts={"a.TcpExt.TCPAbortOnTimeout": 1})
def tcp_user_timeout(lab: Lab) -> None:
    """TCP_USER_TIMEOUT of 1 s and a silent peer: data is sent again until recv fails with ETIMEDOUT."""
    client, _ = _pair(lab)
    client.set("IPPROTO_TCP", "TCP_USER_TIMEOUT", 1000)
    with lab["b"].drops("tcp dport 8080"):
        client.send(100)
        client.recv(fails="ETIMEDOUT")
        lab.sleep(0.1)


@scenario("tcp", tools=("nft",), not_modelled=(LOSS_RECOVERY,))
def tcp_lost_data(lab: Lab) -> None:
    """The wire loses a lone data segment: a loss probe or the retransmission timer sends it again."""
    client, child = _pair(lab)
    with lab["b"].drops("tcp dport 8080"):
        client.send(100)
        lab.sleep(0.05)
    child.recv_all(100)
    lab.sleep(0.3)


@scenario("tcp", tools=("nft",), not_modelled=(LOSS_RECOVERY,))
def tcp_lost_data_in_bulk(lab: Lab) -> None:
    """The wire loses a segment in the middle of a transfer: SACK blocks tell it and it is sent again."""
    client, child = _pair(lab)
    reading = lab.go(child.recv_all, 1000 + 20 * 1448)
    with lab["b"].drops("ip length 1052"):
        client.set("IPPROTO_TCP", "TCP_NODELAY", 1)
        client.send(1000)
        client.send(20 * 1448)
        lab.sleep(0.002)
    reading.wait()
    lab.sleep(0.3)


@scenario("tcp", tools=("nft",), not_modelled=(LOSS_RECOVERY,))
def tcp_lost_ack(lab: Lab) -> None:
    """The wire loses the acknowledgement of a data segment: the data is sent again and acknowledged as a duplicate."""
    client, child = _pair(lab)
    with lab["a"].drops("tcp sport 8080"):
        client.send(100)
        child.recv_all(100)
        lab.sleep(0.05)
    lab.sleep(0.5)


@scenario("tcp")
def tcp_epipe_after_reset(lab: Lab) -> None:
    """The server closes; the client's first send draws a reset, and its second fails with EPIPE."""
    client, child = _pair(lab)
    child.close()
    lab.sleep(0.1)
    client.send(20)
    lab.sleep(0.1)
    client.send(20, fails="EPIPE")
    if client.error() != "0":
        raise ScenarioFailed("the error was not reported by send")
    client.close()
    lab.sleep(0.1)
