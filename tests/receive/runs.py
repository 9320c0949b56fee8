"""Receivers and packets for the tests of the receive side."""

import random

from conformance.differential.gro_frames import ACK, DST, SRC, Flow, one
from conformance.differential.receive_env import ReceiveEnv, receive
from refmodel.netdevice import NetDevice
from refmodel.packet.wire import checksum, pseudo_header
from refmodel.receive.params import ReceiveParams
from refmodel.receive.softnet import NapiStruct, Receive
from refmodel.receive.veth import VethRq, veth_xmit
from refmodel.skbuff import SkBuff

LEFT = NetDevice("left", 2, SRC, no_queue=True)


def stream(**given: object) -> Flow:
    """A calm TCP flow over IPv4 with ids that count."""
    f = Flow(False, False, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 254)), 1000, 80, 1, 7, 500, 100, 1, 1, True, 64, 0, 0,
             9, False, b"", ACK)  # fmt: skip
    for name, value in given.items():
        setattr(f, name, value)
    return f


def segment(f: Flow, odd: str = "") -> bytes:
    """The next frame of a flow; `odd` is "psh" or "fin"."""
    rng = random.Random(f"{f.seq} {odd}")
    before, f.flags = f.flags, f.flags | (8 if odd == "psh" else 1 if odd == "fin" else 0)
    frame = one(rng, f, 0.0)
    f.flags = before
    return frame


class Veth:
    """A receiver at the end of a veth, whose NAPI has a thread so that `settle` is one poll."""

    def __init__(self, *features: str, gro: bool = True, params: ReceiveParams | None = None, cpus: int = 1) -> None:
        self.env = ReceiveEnv(params.kernel if params is not None else 612)
        self.rx = receive(self.env, cpus=cpus, params=params)
        on = frozenset(features) | ({"generic-receive-offload"} if gro else frozenset())
        self.dev = NetDevice("right", 3, DST, features=on)
        self.rq = VethRq(self.rx, self.dev)

    def send(self, frame: bytes) -> int:
        """Sends one frame as a task would, with bottom halves disabled meanwhile."""
        self.rx.contexts.local_bh_disable()
        result = veth_xmit(self.rx, SkBuff(frame[14:], 0, dev=LEFT, mac_header=frame[:14]), LEFT, self.rq)
        self.rx.contexts.local_bh_enable()
        return result

    def burst(self, *frames: bytes) -> list[SkBuff]:
        """Sends frames that one softirq polls; what came up."""
        before = len(self.env.up)
        self.rx.contexts.local_bh_disable()
        for f in frames:
            veth_xmit(self.rx, SkBuff(f[14:], 0, dev=LEFT, mac_header=f[:14]), LEFT, self.rq)
        self.rx.contexts.local_bh_enable()
        return self.env.up[before:]


def cut(skb: SkBuff) -> list[bytes]:
    """Cuts a TCP super-segment into the packets that it is made of, by hand."""
    data = bytes(skb.data)
    if not skb.gso_size:
        return [data]
    t = skb.transport or 0
    h = t + (data[t + 12] >> 4) * 4
    payload, packets = data[h:], []
    seq, ident = int.from_bytes(data[t + 4 : t + 8], "big"), int.from_bytes(data[4:6], "big")
    fixed = bool(skb.gso_type & 8)
    for i in range(0, len(payload), skb.gso_size):
        part = payload[i : i + skb.gso_size]
        last = i + skb.gso_size >= len(payload)
        head = bytearray(data[:h])
        head[t + 4 : t + 8] = ((seq + i) & 0xFFFFFFFF).to_bytes(4, "big")
        head[t + 13] &= 0xFF if last else 0xF6
        if i:
            head[t + 13] &= 0x7F
        head[t + 16 : t + 18] = b"\0\0"
        if data[0] >> 4 == 4:
            n = 0 if fixed else i // skb.gso_size
            head[2:4] = (h + len(part)).to_bytes(2, "big")
            head[4:6] = ((ident + n) & 0xFFFF).to_bytes(2, "big")
            head[10:12] = b"\0\0"
            head[10:12] = checksum(bytes(head[:20])).to_bytes(2, "big")
            pseudo = pseudo_header(data[12:16], data[16:20], 6, h - t + len(part))
        else:
            head[4:6] = (h - 40 + len(part)).to_bytes(2, "big")
            pseudo = pseudo_header(data[8:24], data[24:40], 6, h - t + len(part))
        head[t + 16 : t + 18] = checksum(bytes(head[t:]) + part, pseudo).to_bytes(2, "big")
        packets.append(bytes(head) + part)
    return packets


def poller(rx: Receive, dev: NetDevice, packets: list[SkBuff]) -> NapiStruct:
    """A device whose poll gives up what is in `packets`."""
    from refmodel.receive.gro import napi_gro_receive
    from refmodel.receive.napi import napi_complete_done

    def poll(napi: NapiStruct, budget: int) -> int:
        done = 0
        while packets and done < budget:
            napi_gro_receive(rx.env, napi, packets.pop(0))
            done += 1
        if done < budget:
            napi_complete_done(rx, napi, done)
        return done

    return NapiStruct(rx, dev, poll)
