"""Walks through IP: the kernel's functions in the kernel's order, each with its decision."""

from conformance.differential.ip_packets import header, udp
from conformance.differential.ip_world import UDP_PORT, World
from refmodel.ip import output
from refmodel.ip.const import IPPROTO_TCP
from refmodel.ip.sock import Flowi4, IpSock
from refmodel.skbuff import SkBuff
from refmodel.walk import Place, Recorder
from tests.ip.bench import Router


def in_order(names: list[str], seen: list[str]) -> bool:
    """The names occur in that order, with others between them."""
    rest = iter(seen)
    return all(name in rest for name in names)


def test_a_packet_that_is_delivered() -> None:
    r = Router()
    with Recorder(lambda: Place(r.env.now, "r", "NET_RX softirq")) as recorder:
        r.receive(header("10.1.5.5", "10.1.0.1", 17, udp("10.1.5.5", "10.1.0.1", UDP_PORT, b"x")))
    names = [
        "ip_rcv", "ip_rcv_core", "ip_rcv_finish", "ip_rcv_finish_core", "dst_input", "ip_local_deliver",
        "ip_local_deliver_finish", "ip_protocol_deliver_rcu",
    ]  # fmt: skip
    assert in_order(names, recorder.walk.functions())


def test_a_packet_that_is_cut_on_its_way() -> None:
    r = Router(World(mtu=600))
    with Recorder(lambda: Place(r.env.now, "r", "NET_RX softirq")) as recorder:
        r.receive(header("10.1.5.5", "10.2.3.4", 253, bytes(1000)))
    names = [
        "ip_rcv", "dst_input", "ip_forward", "NF_HOOK", "ip_forward_finish", "dst_output", "ip_output", "NF_HOOK_COND",
        "ip_finish_output", "__ip_finish_output", "ip_fragment", "ip_do_fragment", "ip_finish_output2",
        "ip_neigh_for_gw", "ip_finish_output2", "ip_neigh_for_gw",
    ]  # fmt: skip
    assert in_order(names, recorder.walk.functions())
    assert ("__ip_finish_output", "1020 > mtu 600: ip_fragment") in r.env.notes


def test_a_segment_that_is_sent() -> None:
    r = Router()
    sk = IpSock(IPPROTO_TCP)
    sk.inet_daddr = bytes((10, 2, 3, 4))
    with Recorder(lambda: Place(r.env.now, "r", "process")) as recorder:
        output.ip_queue_xmit(r.net, sk, SkBuff(b"segment"), Flowi4(sk.inet_daddr))
    names = [
        "ip_queue_xmit", "__ip_queue_xmit", "ip_local_out", "__ip_local_out", "dst_output", "ip_output", "NF_HOOK_COND",
        "ip_finish_output", "__ip_finish_output", "ip_finish_output2", "ip_neigh_for_gw",
    ]  # fmt: skip
    assert in_order(names, recorder.walk.functions())
    assert ("ip_neigh_for_gw", "on the link: 10.2.3.4") in r.env.notes
