"""fq: what leaves when."""

from refmodel.tcp.state import St
from refmodel.tcp.whole.const import ACK, SK_PACING_FQ
from refmodel.tcp.whole.fq import Fq
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.skb import Packet
from refmodel.tcp.whole.sock import Sock


def setup() -> tuple[Net, Sock]:
    net = Net()
    net.qdisc = Fq(net)
    sk = Sock(net, 2)
    sk.sk_state = St.ESTABLISHED
    return net, sk


def packet(sk: Sock | None, seq: int, tstamp: int = 0) -> Packet:
    p = Packet(b"\x0a\0\0\1", b"\x0a\0\0\2", 1, 2, seq, 0, ACK, 1000, len=1000)
    p.sk = sk
    p.tstamp = tstamp
    return p


def test_a_packet_whose_time_has_come_leaves_at_once_and_the_socket_learns_of_fq() -> None:
    net, sk = setup()
    assert net.xmit(packet(sk, 1, net.now * 1000)) == 0
    assert [p.seq for p in net.out] == [1]
    assert sk.sk_pacing_status == SK_PACING_FQ


def test_packets_wait_for_their_times() -> None:
    net, sk = setup()
    start = net.now
    for n in (1, 3, 2):
        net.xmit(packet(sk, n, (start + n * 1000) * 1000))
    assert not net.out
    net.advance(start + 10_000)
    assert [(p.seq, p.time - start) for p in net.out] == [(1, 1010), (2, 2010), (3, 3010)]


def test_what_is_ready_passes_what_waits() -> None:
    net, sk = setup()
    net.xmit(packet(sk, 1, (net.now + 5000) * 1000))
    other = Sock(net, 2)
    other.sk_state = St.ESTABLISHED
    net.xmit(packet(other, 2, net.now * 1000))
    assert [p.seq for p in net.out] == [2]


def test_beyond_the_horizon_is_dropped() -> None:
    net, sk = setup()
    assert net.xmit(packet(sk, 1, (net.now + 10_000_001) * 1000)) == 1
    assert not net.out


def test_a_flow_holds_a_hundred_packets() -> None:
    net, sk = setup()
    results = [net.xmit(packet(sk, n, (net.now + 1000) * 1000)) for n in range(101)]
    assert results == [0] * 100 + [1]
