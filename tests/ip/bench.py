"""A router without a wire: packets go in at r0 or r1, what comes out is in `out`."""

from conformance.differential.ip_env import IpWorldEnv
from conformance.differential.ip_packets import header
from conformance.differential.ip_world import IN, World
from refmodel.ip.input import ip_rcv
from refmodel.skbuff import PACKET_HOST, SkBuff


class Router:
    """The router of the differential, alone."""

    def __init__(self, world: World | None = None, kernel: str = "6.12") -> None:
        self.env = IpWorldEnv(world or World(), kernel)
        self.net = self.env.net

    def receive(self, data: bytes, device: str = IN, pkt_type: int = PACKET_HOST, **fields: int) -> SkBuff:
        """A packet comes in."""
        skb = SkBuff(data, pkt_type=pkt_type)
        skb.dev = self.env.devices[device]
        skb.skb_iif = skb.dev.ifindex
        for name, value in fields.items():
            setattr(skb, name, value)
        ip_rcv(self.net, skb, skb.dev)
        return skb

    @property
    def out(self) -> list[tuple[str, bytes]]:
        """(device, packet) of all that came out."""
        return [(d, b) for d, b, _ in self.env.out]

    @property
    def reasons(self) -> list[str]:
        """The reasons of drops."""
        return [str(x) for x in self.env.drops]


def fragments(
    payload: bytes, room: int, daddr: str = "10.1.0.1", *, protocol: int = 17, ident: int = 7, tos: int = 0
) -> list[bytes]:
    """A datagram cut into fragments of `room` bytes (a multiple of 8)."""
    return [
        header(
            "10.1.5.5", daddr, protocol, payload[at : at + room], id=ident, tos=tos,
            frag_off=at // 8 | (0x2000 if at + room < len(payload) else 0),
        )
        for at in range(0, len(payload), room)
    ]  # fmt: skip
