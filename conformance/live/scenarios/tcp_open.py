"""Ways in which a connection opens between two hosts, or does not."""

from conformance.live.errors import ScenarioFailed
from conformance.live.lab import Lab
from conformance.live.scenarios.registry import scenario


@scenario("tcp", families=(4, 6), counts={"a.Tcp.ActiveOpens": 1, "b.Tcp.PassiveOpens": 1})
def tcp_active_open(lab: Lab) -> None:
    """A client connects to a listener, and both stay connected."""
    server = lab["b"].server()
    lab["a"].socket().connect(lab["b"], 8080)
    server.accept()
    lab.sleep(0.3)


@scenario("tcp", families=(4, 6), vantage="b", counts={"b.Tcp.PassiveOpens": 1})
def tcp_passive_open(lab: Lab) -> None:
    """A listener accepts a client, gets a request, replies, and the client closes first: the server's own view."""
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


@scenario("tcp", counts={"a.Tcp.AttemptFails": 0})
def tcp_nonblocking_connect(lab: Lab) -> None:
    """A non-blocking connect fails with EINPROGRESS at once and completes later, which SO_ERROR shows as 0."""
    server = lab["b"].server()
    client = lab["a"].socket(blocking=False).connect(lab["b"], 8080, fails="EINPROGRESS")
    lab.sleep(0.1)
    if client.error() != "0":
        raise ScenarioFailed("the connect did not complete")
    server.accept()
    lab.sleep(0.1)


@scenario("tcp", tools=("nft",), counts={"a.Icmp.InDestUnreachs": 2})
def tcp_unreachable_icmp(lab: Lab) -> None:
    """Each SYN draws an ICMP error: one that comes while connect holds the socket is soft, the next ends the connect
    with EHOSTUNREACH.
    """
    lab["b"].filters("ip protocol tcp reject with icmp type host-unreachable")
    lab["a"].socket().connect(lab["b"], 8080, fails="EHOSTUNREACH")
    lab.sleep(0.1)


@scenario("tcp", families=(4, 6), announces=("a FAILED",))
def tcp_unreachable_neighbour(lab: Lab) -> None:
    """Nobody has the address: three solicitations go unanswered and connect fails with EHOSTUNREACH."""
    lab["a"].socket().connect("fd09::99" if lab.family == 6 else "10.9.0.99", 8080, fails="EHOSTUNREACH")
    lab.sleep(0.1)


@scenario("tcp", families=(4, 6), tools=("nft",), counts={"a.Tcp.RetransSegs": 1})
def tcp_lost_syn(lab: Lab) -> None:
    """The wire loses the first SYN: it is sent again after a second, and the connection opens."""
    server = lab["b"].server()
    with lab["b"].drops("tcp dport 8080"):
        connecting = lab.go(lab["a"].socket().connect, lab["b"], 8080)
        lab.sleep(0.5)
    connecting.wait()
    server.accept()
    lab.sleep(0.2)


@scenario("tcp", families=(4, 6), vantage="b", tools=("nft",), counts={"b.Tcp.PassiveOpens": 1})
def tcp_lost_syn_ack(lab: Lab) -> None:
    """The wire loses the first SYN-ACK, seen by the server: the SYN or the SYN-ACK is sent again after a second."""
    server = lab["b"].server()
    with lab["a"].drops("tcp sport 8080"):
        connecting = lab.go(lab["a"].socket().connect, lab["b"], 8080)
        lab.sleep(0.5)
    connecting.wait()
    server.accept()
    lab.sleep(0.3)


@scenario("tcp", tools=("nft",), counts={"b.Tcp.PassiveOpens": 1, "b.Tcp.RetransSegs": 1})
def tcp_lost_handshake_ack(lab: Lab) -> None:
    """The wire loses the client's ACK of the SYN-ACK: the server sends the SYN-ACK again, the client its ACK."""
    server = lab["b"].server()
    with lab["b"].drops("tcp flags & (syn | ack) == ack"):
        lab["a"].socket().connect(lab["b"], 8080)
        lab.sleep(0.5)
    server.accept()
    lab.sleep(0.3)


@scenario("tcp", tools=("nft",), sysctls={"a": {"net.ipv4.tcp_syn_retries": 1}})
def tcp_connect_timeout(lab: Lab) -> None:
    """The wire loses every SYN: tcp_syn_retries=1 (and the linear timeouts before it) end connect with ETIMEDOUT."""
    with lab["b"].drops("tcp dport 8080"):
        lab["a"].socket().connect(lab["b"], 8080, fails="ETIMEDOUT")
    lab.sleep(0.1)


@scenario("tcp", tools=("nft",))
def tcp_syn_count(lab: Lab) -> None:
    """TCP_SYNCNT bounds the SYN's retransmissions of one socket, and connect fails with ETIMEDOUT."""
    with lab["b"].drops("tcp dport 8080"):
        client = lab["a"].socket().set("IPPROTO_TCP", "TCP_SYNCNT", 2)
        client.connect(lab["b"], 8080, fails="ETIMEDOUT")
    lab.sleep(0.1)


@scenario("tcp", tools=("nft",))
def tcp_connect_user_timeout(lab: Lab) -> None:
    """TCP_USER_TIMEOUT of 1.5 s ends a connect whose SYNs are lost with ETIMEDOUT."""
    with lab["b"].drops("tcp dport 8080"):
        client = lab["a"].socket().set("IPPROTO_TCP", "TCP_USER_TIMEOUT", 1500)
        client.connect(lab["b"], 8080, fails="ETIMEDOUT")
    lab.sleep(0.1)


@scenario("tcp", tools=("nft",))
def tcp_close_in_syn_sent(lab: Lab) -> None:
    """A non-blocking socket is closed while its SYN is unanswered: it ends without a frame."""
    with lab["b"].drops("tcp dport 8080"):
        client = lab["a"].socket(blocking=False).connect(lab["b"], 8080, fails="EINPROGRESS")
        lab.sleep(0.3)
        client.close()
        lab.sleep(1.5)


@scenario("tcp", tools=("nft",))
def tcp_shutdown_in_syn_sent(lab: Lab) -> None:
    """shutdown in SYN_SENT ends the attempt: no frame goes, and the socket is closed."""
    with lab["b"].drops("tcp dport 8080"):
        client = lab["a"].socket(blocking=False).connect(lab["b"], 8080, fails="EINPROGRESS")
        lab.sleep(0.3)
        client.shutdown("SHUT_WR")
        lab.sleep(1.5)


@scenario("tcp", tools=("nft",), counts={"a.Tcp.ActiveOpens": 1, "b.Tcp.ActiveOpens": 1})
def tcp_crossed_syn(lab: Lab) -> None:
    """Both connect to each other; the wire loses the first SYN, so the second meets SYN_SENT and is answered by a
    SYN-ACK.
    """
    with lab["b"].drops("tcp dport 7002"):
        first = lab.go(lab["a"].socket().bind(7001).connect, lab["b"], 7002)
        lab.sleep(0.3)
    lab["b"].socket().bind(7002).connect(lab["a"], 7001)
    first.wait()
    lab.sleep(0.3)


@scenario("tcp", counts={"b.TcpExt.ListenOverflows": 2})
def tcp_accept_queue_full(lab: Lab) -> None:
    """A backlog of 1 holds two connections: the third client's SYN is dropped until one is accepted."""
    server = lab["b"].server(backlog=1)
    for _ in range(2):
        lab["a"].socket().connect(lab["b"], 8080)
    third = lab.go(lab["a"].socket().connect, lab["b"], 8080)
    lab.sleep(1.5)
    server.accept()
    third.wait()
    lab.sleep(0.2)


@scenario("tcp")
def tcp_backlog_zero(lab: Lab) -> None:
    """A backlog of 0 holds one connection: two of three clients stay in SYN_SENT and repeat their SYN."""
    lab["b"].server(backlog=0)
    clients = [lab["a"].socket(blocking=False) for _ in range(3)]
    for c in clients:
        c.connect(lab["b"], 8080, fails="EINPROGRESS")
    lab.sleep(1.5)


@scenario(
    "tcp",
    sysctls={"b": {"net.ipv4.tcp_syncookies": 2}},
    counts={"b.TcpExt.SyncookiesSent": 1, "b.TcpExt.SyncookiesRecv": 1},
)
def tcp_syn_cookies(lab: Lab) -> None:
    """tcp_syncookies=2: the listener keeps no request, its SYN-ACK carries a cookie, and the client's ACK opens."""
    server = lab["b"].server()
    client = lab["a"].socket().connect(lab["b"], 8080)
    child = server.accept()
    client.send(50)
    child.recv_all(50)
    child.send(50)
    client.recv_all(50)
    lab.sleep(0.2)


@scenario("tcp", sysctls={"b": {"net.ipv4.tcp_syncookies": 2}}, counts={"b.TcpExt.SyncookiesRecv": 1})
def tcp_syn_cookies_no_timestamps(lab: Lab) -> None:
    """A SYN cookie to a client without timestamps: window scale and SACK are not kept."""
    lab["a"].set_sysctl("net.ipv4.tcp_timestamps", 0)
    server = lab["b"].server()
    client = lab["a"].socket().connect(lab["b"], 8080)
    child = server.accept()
    client.send(50)
    child.recv_all(50)
    lab.sleep(0.2)


@scenario("tcp", vantage="b")
def tcp_defer_accept(lab: Lab) -> None:
    """TCP_DEFER_ACCEPT: the bare ACK of the handshake is ignored, the first data opens the connection."""
    server = lab["b"].socket().set("SOL_SOCKET", "SO_REUSEADDR", 1).bind(8080)
    server.set("IPPROTO_TCP", "TCP_DEFER_ACCEPT", 5).listen(4)
    client = lab["a"].socket().connect(lab["b"], 8080)
    lab.sleep(0.4)
    client.send(20)
    server.accept().recv_all(20)
    lab.sleep(0.1)


@scenario("tcp", counts={"a.Tcp.ActiveOpens": 40, "b.Tcp.PassiveOpens": 40})
def tcp_many_connections(lab: Lab) -> None:
    """Forty clients connect, send a line each, and close; the server closes after each end of stream."""
    server = lab["b"].server(backlog=64)
    clients = [lab["a"].socket().connect(lab["b"], 8080) for _ in range(40)]
    children = [server.accept() for _ in clients]
    for i, c in enumerate(clients):
        c.send(10 + i)
    for i, c in enumerate(children):
        c.recv_all(10 + i)
    for c in clients:
        c.close()
    for c in children:
        c.eof()
        c.close()
    lab.sleep(0.1)


@scenario("tcp", interface="lo")
def tcp_loopback(lab: Lab) -> None:
    """A client and a server on one host, tapped at its loopback interface."""
    server = lab["a"].server()
    client = lab["a"].socket().connect(lab["a"], 8080)
    child = server.accept()
    client.send(300)
    child.recv_all(300)
    child.send(10)
    client.recv_all(10)
    child.close()
    client.eof()
    client.close()
    lab.sleep(0.1)


def _exchange(lab: Lab) -> None:
    server = lab["b"].server()
    client = lab["a"].socket().connect(lab["b"], 8080)
    child = server.accept()
    client.send(600)
    child.recv_all(600)
    child.send(3000)
    client.recv_all(3000)
    client.close()
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp", sysctls={"a": {"net.ipv4.tcp_timestamps": 0}})
def tcp_no_timestamps(lab: Lab) -> None:
    """The client has tcp_timestamps=0: neither side uses timestamps."""
    _exchange(lab)


@scenario("tcp", sysctls={"a": {"net.ipv4.tcp_sack": 0}})
def tcp_no_sack(lab: Lab) -> None:
    """The client has tcp_sack=0: the SYN-ACK offers no SACK."""
    _exchange(lab)


@scenario("tcp", sysctls={"b": {"net.ipv4.tcp_window_scaling": 0}})
def tcp_no_window_scaling(lab: Lab) -> None:
    """The server has tcp_window_scaling=0: neither side scales its window."""
    _exchange(lab)


@scenario(
    "tcp", sysctls={"*": {"net.ipv4.tcp_timestamps": 0, "net.ipv4.tcp_sack": 0, "net.ipv4.tcp_window_scaling": 0}}
)
def tcp_no_options(lab: Lab) -> None:
    """Timestamps, SACK and window scaling are off on both sides: the SYN carries its MSS alone."""
    _exchange(lab)


@scenario("tcp", sysctls={"a": {"net.ipv4.tcp_ecn": 1}})
def tcp_ecn(lab: Lab) -> None:
    """The client asks for ECN (tcp_ecn=1) and the server agrees (tcp_ecn=2): ECE and CWR on the SYN, ECE on its
    answer.
    """
    _exchange(lab)


@scenario("tcp", mtu=576)
def tcp_small_mtu(lab: Lab) -> None:
    """An MTU of 576: both sides announce an MSS of 536 and send small segments."""
    _exchange(lab)


@scenario("tcp")
def tcp_maxseg(lab: Lab) -> None:
    """The client's TCP_MAXSEG of 300 lowers the MSS that it announces, and so the server's segments."""
    server = lab["b"].server()
    client = lab["a"].socket().set("IPPROTO_TCP", "TCP_MAXSEG", 300).connect(lab["b"], 8080)
    child = server.accept()
    child.send(900)
    client.recv_all(900)
    lab.sleep(0.2)
