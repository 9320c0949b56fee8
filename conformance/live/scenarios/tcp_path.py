"""The path and rarer senders: a smaller MTU, probes for a larger one, a Fast Open server's timer, an administrator."""

from conformance.live.craft import RawConn, RawPeer, icmp4
from conformance.live.lab import Lab
from conformance.live.scenarios.registry import scenario

FRAG_NEEDED = 4
NO_COOKIE = 0x602  # TFO_SERVER_ENABLE, TFO_SERVER_COOKIE_NOT_REQD, TFO_SERVER_WO_SOCKOPT1


@scenario("tcp", raw=("b",))
def tcp_path_mtu_falls(lab: Lab) -> None:
    """A router cannot pass a full segment on: TCP sends it again at once, cut to the MTU that ICMP names."""
    conn = RawConn(RawPeer(lab), 8080)
    client = lab["a"].socket()
    connecting = lab.go(client.connect, "10.9.0.2", 8080)
    conn.passive_open()
    connecting.wait()
    client.send(1460)
    data = conn.expect("A")
    conn.peer.send(icmp4(lab["b"], lab["a"], 3, FRAG_NEEDED, 1000, data.ip))
    conn.expect("A")
    conn.expect("A")
    conn.send("A")
    lab.sleep(0.1)


@scenario("tcp", sysctls={"a": {"net.ipv4.tcp_mtu_probing": 2}})
def tcp_mtu_probe(lab: Lab) -> None:
    """With probing on a bulk transfer starts from a small MSS and sends larger segments to find the MTU."""
    server = lab["b"].server()
    client = lab["a"].socket().connect("10.9.0.2", 8080)
    child = server.accept()
    size = 50_000
    reading = lab.go(child.recv_all, size)
    client.send(size)
    reading.wait()
    lab.sleep(0.1)
    client.close()
    child.eof()
    child.close()
    lab.sleep(0.1)


@scenario("tcp", raw=("a",), vantage="b", sysctls={"b": {"net.ipv4.tcp_fastopen": NO_COOKIE}})
def tcp_fastopen_synack_again(lab: Lab) -> None:
    """A Fast Open server's SYN-ACK is not acknowledged: the timer of its request sends it again, once a second."""
    server = lab["b"].server()
    conn = RawConn(RawPeer(lab, "a", "b"), 7000, 8080)
    conn.send("S", 10)
    conn.expect("SA")
    lab.sleep(1.3)
    conn.expect("SA")
    conn.send("A")
    server.accept().recv_all(10)
    lab.sleep(0.1)
