"""The core: taps, VLAN tags, the bridge's handler, the protocols, and what nobody wants."""

import pytest

from conformance.differential.gro_frames import DST, SRC
from conformance.differential.receive_env import ReceiveEnv, receive
from refmodel.dropreason import Reason
from refmodel.netdevice import ETH_BROADCAST, NetDevice
from refmodel.receive.core import RxHandler, Tap, eth_type_trans, netif_receive_skb
from refmodel.skbuff import PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, SkBuff

DEV = NetDevice("eth0", 2, DST)


def frame(ethertype: int, dest: bytes = DST, payload: bytes = bytes(46)) -> SkBuff:
    return SkBuff(dest + SRC + ethertype.to_bytes(2, "big") + payload, 0)


def arrive(
    env: ReceiveEnv, skb: SkBuff, *taps: Tap, dev: NetDevice = DEV, vlans: dict[int, NetDevice] | None = None
) -> None:
    rx = receive(env, tap=False)
    rx.taps += taps
    rx.vlans |= {(dev.ifindex, 0x8100, vid): v for vid, v in (vlans or {}).items()}
    skb.protocol = eth_type_trans(rx, skb, dev)
    netif_receive_skb(rx, skb)
    assert rx.sd.processed >= 1


@pytest.mark.parametrize(("ethertype", "handler"), [(0x0800, "ip_rcv"), (0x86DD, "ipv6_rcv"), (0x0806, "arp_rcv")])
def test_each_protocol_has_its_handler(ethertype: int, handler: str) -> None:
    env = ReceiveEnv()
    arrive(env, frame(ethertype))
    assert [name for name, _ in env.delivered] == [handler]


@pytest.mark.parametrize(
    ("dest", "kind"),
    [
        (DST, PACKET_HOST),
        (ETH_BROADCAST, PACKET_BROADCAST),
        (bytes.fromhex("01005e000001"), PACKET_MULTICAST),
        (bytes.fromhex("020000000099"), PACKET_OTHERHOST),
    ],
)
def test_the_destination_says_for_whom_a_frame_is(dest: bytes, kind: int) -> None:
    env = ReceiveEnv()
    arrive(env, frame(0x0800, dest))
    assert env.delivered[0][1].pkt_type == kind


def test_what_nobody_wants_is_dropped_with_its_reason() -> None:
    env = ReceiveEnv()
    arrive(env, frame(0x88B5))
    assert [reason for _, reason in env.drops] == [Reason.UNHANDLED_PROTO]


def test_a_tap_on_everything_makes_an_unknown_packet_wanted() -> None:
    env = ReceiveEnv()
    arrive(env, frame(0x88B5), Tap("all"))
    assert (len(env.up), env.drops) == (1, [])


def test_taps_see_copies_and_only_those_of_their_device_and_type() -> None:
    env = ReceiveEnv()
    other = NetDevice("eth1", 3, DST)
    arrive(env, frame(0x0800), Tap("all"), Tap("here", dev=DEV), Tap("there", dev=other), Tap("arp", 0x0806))
    assert len(env.up) == 2
    assert all(skb is not env.delivered[0][1] for skb in env.up)


def test_a_tagged_frame_goes_to_its_device_and_starts_over_there() -> None:
    env = ReceiveEnv()
    vlan = NetDevice("eth0.5", 9, DST)
    arrive(env, frame(0x8100, payload=b"\x00\x05\x08\x00" + bytes(46)), vlans={5: vlan})
    assert env.delivered[0][1].dev is vlan
    assert env.delivered[0][1].mac_header[12:] == b"\x08\x00"


def test_a_tag_without_a_device_makes_the_packet_someone_elses() -> None:
    env = ReceiveEnv()
    arrive(env, frame(0x8100, payload=b"\x00\x05\x08\x00" + bytes(46)))
    assert env.delivered[0][1].pkt_type == PACKET_OTHERHOST


def test_a_priority_tag_is_taken_off() -> None:
    env = ReceiveEnv()
    arrive(env, frame(0x8100, payload=b"\xe0\x00\x08\x00" + bytes(46)))
    assert (env.delivered[0][0], env.delivered[0][1].pkt_type) == ("ip_rcv", PACKET_HOST)


def test_a_port_gives_its_packets_to_the_bridge() -> None:
    env = ReceiveEnv()
    port = NetDevice("port", 4, DST)
    port.master = NetDevice("br0", 5, DST, kind="bridge")
    env.br_handle_frame = lambda skb: RxHandler.CONSUMED  # type: ignore[method-assign]
    arrive(env, frame(0x0800), Tap("all"), dev=port)
    assert (len(env.up), env.delivered) == (1, [])
