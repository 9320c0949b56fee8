"""What goes out: headers, datagrams that are put together, fragments along their pieces, groups, options."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.differential.ip_packets import header
from conformance.differential.ip_world import World
from refmodel.ip import append, output
from refmodel.ip.const import IP_PMTUDISC_DO, IP_PMTUDISC_DONT, IP_PMTUDISC_PROBE, IP_PMTUDISC_WANT, IPPROTO_TCP
from refmodel.ip.header import ip_hdr
from refmodel.ip.listed import ip_list_rcv
from refmodel.ip.net import IpOptions
from refmodel.ip.options import ip_options_get
from refmodel.ip.sock import Flowi4, Ipcm, IpSock
from refmodel.packet.wire import ones_sum
from refmodel.skbuff import SkBuff
from tests.ip.bench import Router

FAR = bytes((10, 2, 3, 4))


def connected() -> IpSock:
    sk = IpSock(IPPROTO_TCP)
    sk.inet_daddr, sk.inet_id = FAR, 0xFFFF
    return sk


def flow(daddr: bytes = FAR) -> Flowi4:
    return Flowi4(daddr, proto=17)


def send(r: Router, sk: IpSock, data: bytes, pieces: int = 1, opt: IpOptions | None = None) -> int:
    """One datagram in some pieces: 0 or the negative errno of the first that fails."""
    fl4 = flow()
    rt = r.env.ip_route_output_key(fl4)
    assert rt is not None
    step = -(-len(data) // pieces) or 1
    for at in range(0, max(1, len(data)), step):
        err = append.ip_append_data(r.net, sk, data[at : at + step], 8, Ipcm(FAR, opt), rt, at + step < len(data))
        if err:
            return err
    return append.ip_push_pending_frames(r.net, sk, fl4)


def test_a_connections_segment_gets_its_header_and_counts_its_identifications() -> None:
    r, sk, fl4 = Router(), connected(), Flowi4(FAR)
    for _ in range(2):
        assert output.ip_queue_xmit(r.net, sk, SkBuff(b"segment"), fl4) == 0
    (_, first), (_, second) = r.out
    assert first == header("10.2.0.1", "10.2.3.4", 6, b"segment", id=0xFFFF, frag_off=0x4000)
    assert second == header("10.2.0.1", "10.2.3.4", 6, b"segment", id=0, frag_off=0x4000)
    assert r.env.mib["IpOutRequests"] == r.env.mib["IpOutTransmits"] == 2


def test_a_super_segment_takes_an_identification_for_each_segment() -> None:
    r, sk = Router(), connected()
    skb = SkBuff(bytes(40))
    skb.gso_segs = 5
    output.ip_queue_xmit(r.net, sk, skb, Flowi4(FAR))
    assert sk.inet_id == (0xFFFF + 5) & 0xFFFFFFFF


def test_without_a_route_the_segment_is_dropped_and_the_connection_told() -> None:
    r, sk = Router(), connected()
    sk.inet_daddr = bytes((203, 0, 113, 1))
    assert output.ip_queue_xmit(r.net, sk, SkBuff(b"segment"), Flowi4(FAR)) == -errno.EHOSTUNREACH
    assert r.reasons == ["IP_OUTNOROUTES"]
    assert r.env.mib["IpOutNoRoutes"] == 1


def test_a_short_syn_ack_has_no_identification() -> None:
    r, sk = Router(), IpSock(IPPROTO_TCP)
    skb = SkBuff(bytes(40))
    skb.dst = r.env.ip_route_output_key(Flowi4(FAR))
    sk.pmtudisc = IP_PMTUDISC_DONT
    output.ip_build_and_send_pkt(r.net, skb, sk, bytes((10, 2, 0, 1)), FAR, None, 0)
    ((_, packet),) = r.out
    assert packet[4:8] == b"\0\0\x40\0"


@given(size=st.integers(8, 6000), pieces=st.integers(1, 5), mtu=st.integers(68, 1600))
@settings(max_examples=80, deadline=None)
def test_a_datagrams_pieces_are_its_fragments(size: int, pieces: int, mtu: int) -> None:
    data = bytes(i * 13 & 0xFF for i in range(size))
    r, sk = Router(World(mtu=mtu)), IpSock(17)
    assert send(r, sk, data, pieces) == 0
    packets = [b for _, b in r.out]
    assert all(len(p) <= mtu and ones_sum(p[:20]) == 0xFFFF for p in packets)
    assert b"".join(p[20:] for p in packets) == data
    assert all(len(p) % 8 == 20 % 8 for p in packets[:-1])
    assert [int.from_bytes(p[6:8], "big") & 0x1FFF for p in packets] == [
        sum(len(q) - 20 for q in packets[:i]) // 8 for i in range(len(packets))
    ]
    assert len({p[4:6] for p in packets}) == 1


@pytest.mark.parametrize(
    ("mode", "size", "result"),
    [
        (IP_PMTUDISC_WANT, 2000, 0), (IP_PMTUDISC_DONT, 2000, 0), (IP_PMTUDISC_DO, 2000, -errno.EMSGSIZE),
        (IP_PMTUDISC_PROBE, 2000, -errno.EMSGSIZE), (IP_PMTUDISC_WANT, 65516, -errno.EMSGSIZE),
    ],
)  # fmt: skip
def test_who_wants_to_know_the_mtu_is_told_and_others_are_cut(mode: int, size: int, result: int) -> None:
    r, sk = Router(), IpSock(17)
    sk.pmtudisc = mode
    assert send(r, sk, bytes(size)) == result


def test_a_learnt_mtu_counts_for_packets_from_here_alone() -> None:
    r = Router()
    rt = r.env.ip_route_output_key(flow())
    assert rt is not None
    rt.rt_pmtu, rt.expires = 1000, r.env.jiffies + 10
    assert output.dst4_mtu(r.net, rt) == 1000
    assert output.ip_dst_mtu_maybe_forward(r.net, rt, True) == 1500
    rt.expires = r.env.jiffies
    assert output.dst4_mtu(r.net, rt) == 1500


def test_a_record_route_option_gets_the_source_address() -> None:
    r, sk = Router(), IpSock(17)
    opt = ip_options_get(r.net, bytes((7, 7, 4)) + bytes(4))
    assert isinstance(opt, IpOptions)
    send(r, sk, bytes(20), opt=opt)
    assert r.out[0][1][20:28] == bytes((7, 7, 8, 10, 2, 0, 1, 0))


@pytest.mark.parametrize(
    "text", [b"\x83\x06\x04\1\2\3", b"\x83\x07\x05\1\2\3\4", b"\x07\x02", b"\x44\x08\x04\0" + bytes(4)]
)
def test_options_that_make_no_sense_are_not_set(text: bytes) -> None:
    assert ip_options_get(Router().net, text) == -errno.EINVAL


def test_the_first_hop_of_a_source_route_is_taken_out_of_it() -> None:
    opt = ip_options_get(Router().net, bytes((131, 11, 4)) + bytes((10, 2, 9, 9)) + bytes((10, 3, 1, 1)))
    assert isinstance(opt, IpOptions)
    assert opt.faddr == bytes((10, 2, 9, 9))
    assert opt.data[3:7] == bytes((10, 3, 1, 1))


def test_a_list_of_packets_takes_one_route_and_is_told_once_of_a_shorter_way() -> None:
    r = Router()
    skbs = []
    for i in range(3):
        skb = SkBuff(header(f"10.1.5.{i + 1}", "10.4.1.1", 253, bytes(i)))
        skb.dev = r.env.devices["r0"]
        skbs.append(skb)
    ip_list_rcv(r.net, skbs)
    assert [b[9] for _, b in r.out] == [1, 253, 253, 253]
    assert ("ip_route_use_hint", "the route of the packet before it") in r.env.notes


def test_a_packet_that_goes_to_a_group_comes_back_to_this_host_and_stays_here_without_a_hop() -> None:
    for ttl, sent in ((1, 1), (0, 0)):
        r = Router()
        r.env.groups.add(("r1", bytes((239, 1, 1, 1))))
        fl4 = Flowi4(bytes((239, 1, 1, 1)), oif=3, proto=253)
        skb = SkBuff(header("10.2.0.1", "239.1.1.1", 253, b"x", ttl=ttl))
        skb.dst = r.env.ip_route_output_key(fl4)
        output.ip_local_out(r.net, None, skb)
        assert len(r.out) == sent
        assert len(r.env.looped) == 1
        r.env.deliver_looped()
        assert r.env.mib["IpExtInMcastPkts"] == 1
        assert ip_hdr(skb).ttl == ttl
