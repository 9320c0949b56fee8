"""Segments that a real peer would not send: resets, SYNs and numbers out of place. The peer is crafted."""

from conformance.live.craft import RawConn, RawPeer, icmp4
from conformance.live.errors import ScenarioFailed
from conformance.live.lab import Lab, Sock
from conformance.live.scenarios.registry import scenario


def _client(lab: Lab, use_ts: bool = False) -> tuple[Sock, RawConn]:
    """A Linux client connected to a crafted server."""
    conn = RawConn(RawPeer(lab), 8080, use_ts=use_ts)
    client = lab["a"].socket()
    connecting = lab.go(client.connect, "10.9.0.2", 8080)
    conn.passive_open()
    connecting.wait()
    return client, conn


def _syn_sent(lab: Lab) -> tuple[Sock, RawConn]:
    """A Linux client in SYN_SENT, whose SYN the crafted peer has seen."""
    conn = RawConn(RawPeer(lab), 8080)
    client = lab["a"].socket(blocking=False).connect("10.9.0.2", 8080, fails="EINPROGRESS")
    conn.expect("S")
    return client, conn


def _expect_error(sock: Sock, name: str) -> None:
    if (got := sock.error()) != name:
        raise ScenarioFailed(f"SO_ERROR is {got}, expected {name}")


@scenario("tcp", raw=("b",), counts={"a.Tcp.EstabResets": 1})
def tcp_rst_exact(lab: Lab) -> None:
    """A reset exactly at the next expected number ends an established connection: recv fails with ECONNRESET."""
    client, conn = _client(lab)
    conn.put("R")
    lab.sleep(0.1)
    client.recv(fails="ECONNRESET")


@scenario("tcp", raw=("b",), counts={"a.TcpExt.TCPChallengeACK": 1})
def tcp_rst_in_window(lab: Lab) -> None:
    """A reset inside the window but not at the next expected number draws a challenge ACK; the connection stays."""
    client, conn = _client(lab)
    conn.put("R", seq=100)
    conn.expect("A")
    conn.send("PA", 10)
    conn.expect("A")
    client.recv_all(10)


@scenario("tcp", raw=("b",), counts={"a.TcpExt.TCPChallengeACK": 0})
def tcp_rst_out_of_window(lab: Lab) -> None:
    """A reset outside the window is ignored."""
    _, conn = _client(lab)
    conn.put("R", seq=-1)
    conn.put("R", seq=10_000_000)
    conn.silent()


@scenario("tcp", raw=("b",), counts={"a.TcpExt.TCPChallengeACK": 1, "a.TcpExt.TCPSYNChallenge": 1})
def tcp_syn_in_established(lab: Lab) -> None:
    """A SYN inside an established connection draws a challenge ACK, wherever its number lies."""
    _, conn = _client(lab)
    conn.put("S", seq=5)
    conn.expect("A")
    conn.silent()


@scenario("tcp", raw=("b",), counts={"a.TcpExt.TCPChallengeACK": 1, "a.TcpExt.TCPACKSkippedChallenge": 1})
def tcp_challenge_ack_limited(lab: Lab) -> None:
    """Two segments that deserve a challenge ACK within half a second: only the first gets one."""
    _, conn = _client(lab)
    conn.put("R", seq=100)
    conn.expect("A")
    lab.sleep(0.1)
    conn.put("R", seq=200)
    conn.silent()


@scenario("tcp", raw=("b",), counts={"a.TcpExt.TCPChallengeACK": 2})
def tcp_challenge_ack_again(lab: Lab) -> None:
    """Two segments that deserve a challenge ACK, six tenths of a second apart: each gets one."""
    _, conn = _client(lab)
    conn.put("R", seq=100)
    conn.expect("A")
    lab.sleep(0.6)
    conn.put("R", seq=200)
    conn.expect("A")


@scenario("tcp", raw=("b",))
def tcp_out_of_window_data(lab: Lab) -> None:
    """Data wholly before the window draws a duplicate ACK."""
    client, conn = _client(lab)
    conn.send("PA", 50)
    conn.expect("A")
    client.recv_all(50)
    conn.put("PA", 20, seq=-40)
    conn.expect("A")


@scenario("tcp", raw=("b",))
def tcp_out_of_order_data(lab: Lab) -> None:
    """A segment that leaves a gap draws a duplicate ACK; the one that fills it is followed by an ACK of both."""
    client, conn = _client(lab)
    conn.put("PA", 30, seq=40)
    conn.expect("A")
    conn.send("PA", 40)
    conn.seq += 30
    conn.expect("A")
    client.recv_all(70)
    lab.sleep(0.1)


@scenario("tcp", raw=("b",))
def tcp_duplicate_fin(lab: Lab) -> None:
    """The peer repeats its FIN: CLOSE_WAIT acknowledges it again."""
    client, conn = _client(lab)
    conn.send("FA")
    conn.expect("A")
    conn.put("FA", seq=-1)
    conn.expect("A")
    client.eof()


@scenario("tcp", raw=("b",))
def tcp_ack_of_unsent_data(lab: Lab) -> None:
    """A segment with an ACK of data that was never sent is dropped, data and all."""
    _, conn = _client(lab)
    conn.put("PA", 10, ack=1000)
    lab.sleep(0.3)


@scenario("tcp", raw=("b",))
def tcp_no_flags(lab: Lab) -> None:
    """A segment without ACK, RST or SYN is dropped silently."""
    _, conn = _client(lab)
    conn.put("P", 10)
    conn.silent()


@scenario("tcp", raw=("b",), counts={"a.TcpExt.PAWSEstab": 1})
def tcp_paws(lab: Lab) -> None:
    """Data with a timestamp older than the last one is rejected by PAWS and answered by a duplicate ACK."""
    client, conn = _client(lab, use_ts=True)
    conn.ts_val += 100
    conn.send("PA", 10)
    conn.expect("A")
    client.recv_all(10)
    conn.put("PA", 10, ts=-50)
    conn.expect("A")


@scenario("tcp", raw=("b",))
def tcp_simultaneous_open(lab: Lab) -> None:
    """The peer answers the SYN with a SYN: the client goes to SYN_RECV, answers SYN-ACK, and the ACK opens."""
    conn = RawConn(RawPeer(lab), 8080)
    connecting = lab.go(lab["a"].socket().connect, "10.9.0.2", 8080)
    conn.expect("S")
    conn.send("S")
    conn.expect("SA")
    conn.send("A")
    connecting.wait()
    lab.sleep(0.2)


@scenario("tcp", raw=("b",))
def tcp_simultaneous_open_syn_ack(lab: Lab) -> None:
    """SYNs cross and both sides answer with a SYN-ACK: the peer's is taken as the ACK that opens."""
    conn = RawConn(RawPeer(lab), 8080)
    connecting = lab.go(lab["a"].socket().connect, "10.9.0.2", 8080)
    conn.expect("S")
    conn.send("S")
    conn.expect("SA")
    conn.put("SA", seq=-1)
    connecting.wait()
    lab.sleep(0.2)


@scenario("tcp", raw=("b",))
def tcp_syn_sent_bad_ack(lab: Lab) -> None:
    """In SYN_SENT a SYN-ACK with a wrong acknowledgement is answered by a reset at that number; a good one opens."""
    client, conn = _syn_sent(lab)
    conn.put("SA", ack=77)
    reset = conn.peer.segment()
    if reset is None or "R" not in reset.flags:
        raise ScenarioFailed("the wrong acknowledgement drew no reset")
    lab.sleep(0.3)
    conn.send("SA")
    lab.sleep(0.2)
    _expect_error(client, "0")


@scenario("tcp", raw=("b",))
def tcp_syn_sent_bare_rst(lab: Lab) -> None:
    """In SYN_SENT a reset without ACK is ignored; the SYN-ACK after it opens the connection."""
    client, conn = _syn_sent(lab)
    conn.put("R")
    conn.silent()
    conn.send("SA")
    conn.expect("A")
    _expect_error(client, "0")


@scenario("tcp", raw=("b",))
def tcp_syn_sent_plain_ack(lab: Lab) -> None:
    """In SYN_SENT a plain ACK of the SYN is dropped; the SYN-ACK after it opens the connection."""
    client, conn = _syn_sent(lab)
    conn.put("A", seq=5)
    conn.silent()
    conn.send("SA")
    conn.expect("A")
    _expect_error(client, "0")


@scenario("tcp", raw=("b",))
def tcp_syn_sent_icmp(lab: Lab) -> None:
    """In SYN_SENT an ICMP port unreachable that quotes the SYN ends the attempt with ECONNREFUSED."""
    conn = RawConn(RawPeer(lab), 8080)
    client = lab["a"].socket(blocking=False).connect("10.9.0.2", 8080, fails="EINPROGRESS")
    syn = conn.expect("S")
    conn.peer.send(icmp4(lab["b"], lab["a"], 3, 3, 0, syn.ip))
    lab.sleep(0.2)
    _expect_error(client, "ECONNREFUSED")


@scenario("tcp", raw=("b",))
def tcp_icmp_in_established(lab: Lab) -> None:
    """An ICMP host unreachable in an established connection is a soft error: data still flows."""
    client, conn = _client(lab)
    client.send(10)
    data = conn.expect("A")
    conn.peer.send(icmp4(lab["b"], lab["a"], 3, 1, 0, data.ip))
    conn.send("A")
    lab.sleep(0.1)
    conn.send("PA", 10)
    conn.expect("A")
    client.recv_all(10)


# ---- closing ------------------------------------------------------------------------------------------------------


@scenario("tcp", raw=("b",))
def tcp_close_simultaneous(lab: Lab) -> None:
    """Both FINs cross: FIN_WAIT1 goes to CLOSING, acknowledges the peer's FIN, and the ACK of its own leads to
    TIME_WAIT.
    """
    client, conn = _client(lab)
    client.close()
    conn.expect("FA")
    conn.ack -= 1
    conn.send("FA")
    conn.expect("A")
    conn.send("A")
    conn.silent()


@scenario("tcp", raw=("b",))
def tcp_fin_wait1_fin_ack(lab: Lab) -> None:
    """In FIN_WAIT1 one segment acknowledges the FIN and carries the peer's: straight to TIME_WAIT."""
    client, conn = _client(lab)
    client.close()
    conn.expect("FA")
    conn.send("FA")
    conn.expect("A")
    lab.sleep(0.1)


@scenario("tcp", raw=("b",))
def tcp_rst_in_fin_wait1(lab: Lab) -> None:
    """A reset in FIN_WAIT1 ends the connection."""
    client, conn = _client(lab)
    client.close()
    conn.expect("FA")
    conn.put("R")
    conn.silent(1.0)


@scenario("tcp", raw=("b",))
def tcp_rst_in_fin_wait2(lab: Lab) -> None:
    """A reset in FIN_WAIT2 ends the connection: the FIN that follows meets no socket and draws a reset."""
    client, conn = _client(lab)
    client.shutdown("SHUT_WR")
    conn.expect("FA")
    conn.send("A")
    lab.sleep(0.1)
    conn.put("R")
    lab.sleep(0.1)
    conn.put("FA")
    conn.expect("R")
    client.recv(fails="ECONNRESET")


@scenario("tcp", raw=("b",))
def tcp_rst_in_close_wait(lab: Lab) -> None:
    """A reset in CLOSE_WAIT ends the connection, and send fails with EPIPE."""
    client, conn = _client(lab)
    conn.send("FA")
    conn.expect("A")
    conn.put("R")
    lab.sleep(0.1)
    client.send(10, fails="EPIPE")


@scenario("tcp", raw=("b",))
def tcp_rst_before_fin_in_close_wait(lab: Lab) -> None:
    """In CLOSE_WAIT a reset at the number of the peer's FIN, one before the expected, is accepted too."""
    client, conn = _client(lab)
    conn.send("FA")
    conn.expect("A")
    conn.put("R", seq=-1)
    lab.sleep(0.1)
    client.send(10, fails="EPIPE")


@scenario("tcp", raw=("b",))
def tcp_rst_in_last_ack(lab: Lab) -> None:
    """A reset in LAST_ACK ends the connection: the FIN is not sent again."""
    client, conn = _client(lab)
    conn.send("FA")
    conn.expect("A")
    client.close()
    conn.expect("FA")
    conn.put("R")
    conn.silent(1.0)


@scenario("tcp", raw=("b",))
def tcp_rst_in_time_wait(lab: Lab) -> None:
    """A reset at the expected number ends TIME_WAIT (tcp_rfc1337=0): a FIN after it draws a reset."""
    client, conn = _client(lab)
    client.close()
    conn.expect("FA")
    conn.send("FA")
    conn.expect("A")
    conn.put("R")
    lab.sleep(0.1)
    conn.put("FA", seq=-1)
    conn.expect("R")


@scenario("tcp", raw=("b",), sysctls={"a": {"net.ipv4.tcp_rfc1337": 1}})
def tcp_rst_in_time_wait_rfc1337(lab: Lab) -> None:
    """With tcp_rfc1337=1 a reset does not end TIME_WAIT: a FIN after it is acknowledged again."""
    client, conn = _client(lab)
    client.close()
    conn.expect("FA")
    conn.send("FA")
    conn.expect("A")
    conn.put("R")
    lab.sleep(0.1)
    conn.put("FA", seq=-1)
    conn.expect("A")


@scenario("tcp", raw=("b",))
def tcp_time_wait_fin_again(lab: Lab) -> None:
    """TIME_WAIT acknowledges the peer's repeated FIN."""
    client, conn = _client(lab)
    client.close()
    conn.expect("FA")
    conn.send("FA")
    conn.expect("A")
    lab.sleep(0.2)
    conn.put("FA", seq=-1)
    conn.expect("A")


@scenario("tcp", raw=("b",))
def tcp_time_wait_old_syn(lab: Lab) -> None:
    """A SYN with an old number in TIME_WAIT is answered by an ACK of the old connection."""
    client, conn = _client(lab)
    client.close()
    conn.expect("FA")
    conn.send("FA")
    conn.expect("A")
    conn.put("S", seq=-500)
    conn.expect("A")


@scenario("tcp", raw=("b",))
def tcp_fin_wait2_orphan_data(lab: Lab) -> None:
    """New data to an orphan whose FIN was acknowledged draws a reset and ends the connection."""
    client, conn = _client(lab)
    client.close()
    conn.expect("FA")
    conn.send("A")
    lab.sleep(0.1)
    conn.send("PA", 10)
    conn.expect("R")
    conn.put("PA", 10)
    conn.expect("R")


@scenario("tcp", raw=("b",))
def tcp_fin_wait1_orphan_data(lab: Lab) -> None:
    """New data to an orphan in FIN_WAIT1 that also acknowledges its FIN draws a reset."""
    client, conn = _client(lab)
    client.close()
    conn.expect("FA")
    conn.send("PA", 10)
    conn.expect("R")


# ---- windows ------------------------------------------------------------------------------------------------------


@scenario("tcp", raw=("b",), counts={"a.TcpExt.TCPWinProbe": 3})
def tcp_zero_window_probes(lab: Lab) -> None:
    """The peer closes its window before anything is in flight: three probes, each answered, and then it opens."""
    client, conn = _client(lab)
    conn.put("A", window=0)
    lab.sleep(0.05)
    client.send(100)
    for _ in range(3):
        conn.expect("A", 5)
        conn.ack += 1
        conn.put("A", window=0)
    conn.put("A", window=1000)
    conn.expect("A")
    conn.send("A")
    lab.sleep(0.1)


@scenario("tcp", raw=("b",))
def tcp_partial_window(lab: Lab) -> None:
    """The peer's window is smaller than what waits: the sender fills it, and sends the rest when it opens."""
    client, conn = _client(lab)
    conn.put("A", window=600)
    lab.sleep(0.05)
    client.send(1000)
    conn.expect("A")
    conn.send("A", window=0)
    lab.sleep(0.05)
    conn.put("A", window=5000)
    conn.expect("A")
    conn.send("A", window=5000)
    lab.sleep(0.1)
