"""A listener and clients that a real stack would not be: requests, cookies, full queues. The client is crafted."""

from conformance.live.craft import RawConn, RawPeer
from conformance.live.errors import ScenarioFailed
from conformance.live.lab import Lab
from conformance.live.scenarios.registry import scenario


def _peer(lab: Lab) -> RawPeer:
    return RawPeer(lab, "a", "b")


def _two_requests(lab: Lab) -> list[RawConn]:
    """One open connection and two requests, to a listener with a backlog of 1; then both clients send their ACK."""
    peer = _peer(lab)
    conns = [RawConn(peer, port, 8080) for port in (7000, 7001, 7002)]
    conns[0].active_open()
    for c in conns[1:]:
        c.send("S")
        c.expect("SA")
    conns[1].send("A")
    conns[2].put("A")
    return conns


@scenario(
    "tcp", raw=("a",), vantage="b", sysctls={"b": {"net.ipv4.tcp_synack_retries": 2}}, counts={"b.Tcp.RetransSegs": 2}
)
def tcp_syn_ack_retries(lab: Lab) -> None:
    """The client never answers: tcp_synack_retries=2 SYN-ACKs are sent again, after 1 and 2 s, and the request ends."""
    lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.send("S")
    for _ in range(3):
        conn.expect("SA", 5)
    lab.sleep(4.5)
    conn.put("A")
    conn.expect("R")


@scenario("tcp", raw=("a",), vantage="b")
def tcp_syn_repeated(lab: Lab) -> None:
    """The client repeats its SYN: the request answers with the SYN-ACK again, and the ACK opens the connection."""
    server = lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.put("S")
    conn.expect("SA")
    lab.sleep(0.6)
    conn.send("S")
    conn.expect("SA")
    conn.send("A")
    server.accept()
    lab.sleep(0.2)


@scenario("tcp", raw=("a",), vantage="b", counts={"b.Tcp.AttemptFails": 1})
def tcp_rst_in_syn_recv(lab: Lab) -> None:
    """A reset at the expected number ends a request: the ACK after it draws a reset."""
    lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.send("S")
    conn.expect("SA")
    conn.put("R")
    lab.sleep(0.1)
    conn.put("A")
    conn.expect("R")


@scenario("tcp", raw=("a",), vantage="b")
def tcp_rst_in_syn_recv_in_window(lab: Lab) -> None:
    """A reset inside the window, not at the expected number, draws an ACK from a request, which then opens."""
    server = lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.send("S")
    conn.expect("SA")
    conn.put("R", seq=10)
    conn.expect("A")
    conn.send("A")
    server.accept()
    lab.sleep(0.1)


@scenario("tcp", raw=("a",), vantage="b")
def tcp_syn_recv_bad_ack(lab: Lab) -> None:
    """An ACK of something else than the SYN-ACK is answered by a reset at that number; the right one still opens."""
    server = lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.send("S")
    conn.expect("SA")
    conn.put("A", ack=3)
    conn.expect("R")
    conn.send("A")
    server.accept()
    lab.sleep(0.1)


@scenario("tcp", raw=("a",), vantage="b")
def tcp_syn_recv_new_syn(lab: Lab) -> None:
    """A SYN inside the window of a request, other than the first, ends the request with a reset."""
    lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.send("S")
    conn.expect("SA")
    conn.put("S", seq=20)
    conn.expect("RA")
    lab.sleep(0.1)


@scenario("tcp", raw=("a",), vantage="b")
def tcp_syn_recv_data_with_ack(lab: Lab) -> None:
    """The ACK that opens carries data: the connection is accepted with it."""
    server = lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.send("S")
    conn.expect("SA")
    conn.send("PA", 25)
    conn.expect("A")
    server.accept().recv_all(25)
    lab.sleep(0.1)


@scenario("tcp", raw=("a",), vantage="b")
def tcp_syn_recv_fin(lab: Lab) -> None:
    """The ACK that opens carries a FIN: the connection is accepted in CLOSE_WAIT."""
    server = lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.send("S")
    conn.expect("SA")
    conn.send("FA")
    child = server.accept()
    conn.expect("A")
    child.eof()
    child.close()
    conn.expect("FA")
    conn.send("A")
    lab.sleep(0.1)


@scenario("tcp", raw=("a",), vantage="b", counts={"b.TcpExt.ListenOverflows": 1})
def tcp_accept_queue_full_ack(lab: Lab) -> None:
    """Two requests, room for one: the second client's ACK is dropped; its SYN-ACK comes again and succeeds once there
    is room.
    """
    server = lab["b"].server(backlog=1)
    _, _, last = _two_requests(lab)
    lab.sleep(0.2)
    server.accept()
    last.expect("SA", 5)
    last.send("A")
    server.accept()
    server.accept()
    lab.sleep(0.1)


@scenario("tcp", raw=("a",), vantage="b", sysctls={"b": {"net.ipv4.tcp_abort_on_overflow": 1}})
def tcp_abort_on_overflow(lab: Lab) -> None:
    """Two requests, room for one, tcp_abort_on_overflow=1: the second client's ACK is answered by a reset."""
    lab["b"].server(backlog=1)
    _, _, last = _two_requests(lab)
    last.expect("R")
    lab.sleep(0.1)


@scenario(
    "tcp",
    raw=("a",),
    vantage="b",
    sysctls={"b": {"net.ipv4.tcp_syncookies": 2}},
    counts={"b.TcpExt.SyncookiesFailed": 1},
)
def tcp_syn_cookie_wrong(lab: Lab) -> None:
    """tcp_syncookies=2 and an ACK whose cookie is wrong: a reset at that number; the right one then opens."""
    server = lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.send("S")
    conn.expect("SA")
    conn.put("A", ack=12345)
    conn.expect("R")
    conn.send("A")
    server.accept()
    lab.sleep(0.1)


@scenario("tcp", raw=("a",), vantage="b")
def tcp_stray_segments(lab: Lab) -> None:
    """To a listener: an ACK draws a reset; a reset, a FIN without ACK and a SYN with FIN draw nothing."""
    lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.put("A", ack=99)
    conn.expect("R")
    conn.put("R")
    conn.put("F")
    conn.put("SF")
    conn.silent()


@scenario("tcp", raw=("a",), vantage="b", counts={"b.Tcp.OutRsts": 3})
def tcp_closed_port(lab: Lab) -> None:
    """To a port without a socket: a SYN, an ACK and data draw a reset each, a reset draws nothing."""
    conn = RawConn(_peer(lab), 7000, 8081)
    conn.put("S")
    conn.expect("RA")
    conn.put("A", ack=500)
    conn.expect("R")
    conn.put("P", 12)
    conn.expect("RA")
    conn.put("R")
    conn.silent()


@scenario("tcp", raw=("a",), vantage="b")
def tcp_close_listener_with_request(lab: Lab) -> None:
    """A listener closes while a request is open: the ACK that would have opened it draws a reset."""
    server = lab["b"].server()
    conn = RawConn(_peer(lab), 7000, 8080)
    conn.send("S")
    conn.expect("SA")
    server.close()
    lab.sleep(0.1)
    conn.put("A")
    got = conn.peer.segment()
    if got is None or "R" not in got.flags:
        raise ScenarioFailed("no reset came")
    lab.sleep(0.1)
