"""The IP differential's other half: datagrams that a UDP socket of the router sends, through both sides.

Sizes around and above the MTU, every mode of path MTU discovery, options, corked pieces, groups and broadcasts.
Compared: errno, the packets that come out, copies that come back, counters. Free: identifications that are drawn.
"""

import errno
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass

from conformance.differential.ip_compare import clock
from conformance.differential.ip_env import IpWorldEnv
from conformance.differential.ip_live import Live
from conformance.differential.ip_world import OUT, UDP_PORT, World
from refmodel.ip import append, options
from refmodel.ip.const import IPPROTO_UDP
from refmodel.ip.header import ip_hdr
from refmodel.ip.sock import Flowi4, Ipcm, IpSock
from refmodel.packet.wire import checksum, ones_sum, pseudo_header
from refmodel.skbuff import CHECKSUM_NONE

IP_TOS, IP_TTL, IP_OPTIONS, IP_MTU_DISCOVER, IP_RECVERR = 1, 2, 4, 10, 11
IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP, IP_ADD_MEMBERSHIP, IP_UNICAST_IF = 32, 33, 34, 35, 50
WMEM_DEFAULT = 212_992
GROUPS = ("224.0.0.77", "239.9.9.9")  # the first is joined


@dataclass(frozen=True)
class Datagram:
    """What one socket sends, in `pieces` of bytes."""

    daddr: str
    dport: int
    pieces: tuple[int, ...]
    pmtudisc: int = 1
    ttl: int = 64
    tos: int = 0
    options: bytes = b""
    mc_ttl: int = 1
    mc_loop: bool = True
    seed: int = 0

    @property
    def body(self) -> bytes:
        """Its payload."""
        return random.Random(self.seed).randbytes(sum(self.pieces))


def draw(rng: random.Random, mtu: int) -> Datagram:
    """A random datagram."""
    host = f"{rng.randrange(0, 250)}.{rng.randrange(2, 250)}"
    daddr = rng.choices(
        [
            f"10.2.{host}", f"10.3.{host}", f"10.8.{host}", f"10.9.{host}", f"10.1.{host}",
            "10.2.255.255", rng.choice(GROUPS), rng.choice(["10.5.1.1", "203.0.113.9"]), "10.2.0.1",
        ],
        [20, 20, 15, 15, 5, 8, 10, 4, 3],
    )[0]  # fmt: skip
    edge = mtu - 28 + rng.choice([0, 0, 1, -1, -40, 8, -8])
    size = rng.choice(
        [
            rng.randrange(0, 100),
            rng.randrange(0, 3000),
            max(0, edge),
            max(0, edge),
            rng.choice([65507, 65508, 20000]),
        ]
    )
    pieces = [size]
    if rng.random() < 0.25:
        pieces = [rng.randrange(0, 1600) for _ in range(rng.randrange(2, 5))]
    address = bytes((10, 2, rng.randrange(250), 9))
    opts = b""
    if rng.random() < 0.25:
        opts = rng.choice(
            [
                bytes((7, 11, 4)) + bytes(8) + b"\0",
                bytes((68, 12, 5, 0)) + bytes(8),
                bytes((68, 12, 5, 1)) + bytes(8),
                bytes((131, 7, 4)) + address + b"\0",
                bytes((131, 11, 4)) + address + bytes((10, 3, 1, 1)) + b"\0",
                bytes((148, 4, 0, 0)),
                bytes((1, 7, 7, 4)) + bytes(4),
            ]
        )
    return Datagram(
        daddr, rng.choice([UDP_PORT, 7]), tuple(pieces), rng.randrange(6), rng.choice([64, 1, 255]),
        rng.choice([0, 0x10, 0xB8]), opts, rng.choice([0, 1, 7]), rng.random() < 0.7, rng.getrandbits(30),
    )  # fmt: skip


def by_kernel(live: Live, d: Datagram) -> tuple[int, int]:
    """Sends it: (errno, port that it came from)."""
    with live.router.inside():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, d.pmtudisc)
        s.setsockopt(socket.IPPROTO_IP, IP_TTL, d.ttl)
        s.setsockopt(socket.IPPROTO_IP, IP_TOS, d.tos)
        s.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_TTL, d.mc_ttl)
        s.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_LOOP, int(d.mc_loop))
        if d.daddr in GROUPS:
            s.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_IF, bytes(8) + (3).to_bytes(4, "little"))
        if d.options:
            s.setsockopt(socket.IPPROTO_IP, IP_OPTIONS, d.options)
        s.bind(("0.0.0.0", 0))
        port = s.getsockname()[1]
        at, error = 0, 0
        for i, n in enumerate(d.pieces):
            more = socket.MSG_MORE if i < len(d.pieces) - 1 else 0
            try:
                s.sendto(d.body[at : at + n], more, (d.daddr, d.dport))
            except OSError as e:
                error = e.errno or 0
                break
            at += n
    return error, port


def by_model(model: IpWorldEnv, d: Datagram, sport: int) -> int:
    """Sends it: the errno. source net/ipv4/udp.c:udp_sendmsg, udp_send_skb."""
    net = model.net
    sk = IpSock(IPPROTO_UDP)
    sk.inet_sport, sk.pmtudisc, sk.uc_ttl, sk.tos = sport, d.pmtudisc, d.ttl, d.tos
    sk.mc_ttl, sk.mc_loop = d.mc_ttl, d.mc_loop
    sk.sk_sndbuf = WMEM_DEFAULT
    daddr = bytes(int(x) for x in d.daddr.split("."))
    ipc = Ipcm(daddr)
    many = d.daddr in GROUPS
    flow = Flowi4(daddr, tos=d.tos & 0xFC, proto=IPPROTO_UDP, sport=sport, dport=d.dport, oif=3 if many else 0)
    if d.options:
        opt = options.ip_options_get(net, d.options)
        assert not isinstance(opt, int)
        ipc.opt = opt
        if opt.srr:
            flow.daddr = opt.faddr
    known = flow.daddr
    rt = model.ip_route_output_key(flow)
    if rt is None:
        _, error, *_ = model._find(known)
        if error == errno.ENETUNREACH:
            model.count("IpOutNoRoutes")
        return error or errno.ENETUNREACH
    if len(d.pieces) > 1:
        flow.daddr = daddr  # a corked datagram is addressed to its end even where a source route leads elsewhere
    if sum(d.pieces) > 0xFFFF or any(n > 0xFFFF for n in d.pieces):
        return errno.EMSGSIZE
    head = sport.to_bytes(2, "big") + d.dport.to_bytes(2, "big") + bytes(4)
    at = 0
    for i, n in enumerate(d.pieces):
        data = d.body[at : at + n]
        more = i < len(d.pieces) - 1
        err = append.ip_append_data(net, sk, head + data if i == 0 else data, 8, ipc, rt, more)
        if err:
            append.ip_flush_pending_frames(net, sk)
            return -err
        at += n
    assert sk.cork is not None
    skb = append.__ip_make_skb(net, sk, flow, sk.write_queue, sk.cork)
    sk.cork = None
    assert skb is not None
    begin = ip_hdr(skb).hdrlen
    size = len(skb.data) - begin
    skb.data[begin + 4 : begin + 6] = size.to_bytes(2, "big")
    pseudo = pseudo_header(flow.saddr, flow.daddr, IPPROTO_UDP, size)
    check = checksum(bytes(skb.data[begin:]), pseudo) or 0xFFFF
    skb.data[begin + 6 : begin + 8] = check.to_bytes(2, "big")
    skb.ip_summed = CHECKSUM_NONE
    err = append.ip_send_skb(net, skb)
    model.deliver_looped()
    return -err


def alike(ours: list[tuple[str, bytes]], theirs: list[tuple[str, bytes]]) -> bool:
    """The same packets but for identifications without DF: those of one datagram are the same on both sides."""
    if len(ours) != len(theirs):
        return False
    pairs = set()
    for (a, x), (b, y) in zip(ours, theirs, strict=True):
        if a != b or x[:4] + x[6:10] + x[12:] != y[:4] + y[6:10] + y[12:] or ones_sum(y[: (y[0] & 15) * 4]) != 0xFFFF:
            return False
        if x[6] & 0x40 and x[6:8] == b"\x40\0" and x[4:6] == b"\0\0" and y[4:6] != b"\0\0":
            return False
        pairs.add((x[4:6], y[4:6]))
    return len(pairs) <= 1


def _shown(packets: list[tuple[str, bytes]]) -> str:
    return ", ".join(f"{device} {len(b)} bytes {b[:72].hex()}" for device, b in packets)


def send_differential(n: int, seed: int, world: World, cpu: int, kernel: str) -> tuple[int, str]:
    """Sends `n` datagrams through both sides: how many packets came out, and the first difference or ""."""
    rng = random.Random(seed)
    live = Live(world, cpu)
    model = IpWorldEnv(world, kernel)
    out = 0
    try:
        with live.router.inside():
            assert live.udp is not None
            member = socket.inet_aton(GROUPS[0]) + bytes(4) + (3).to_bytes(4, "little")
            live.udp.setsockopt(socket.IPPROTO_IP, IP_ADD_MEMBERSHIP, member)
        model.groups.add((OUT, socket.inet_aton(GROUPS[0])))
        time.sleep(0.05)
        live.take()
        was = live.counters()
        for i in range(n):
            d = draw(rng, world.mtu)
            before = time.time()
            error, port = by_kernel(live, d)
            after = time.time()
            theirs = [p for p in live.take() if p[1][9] == IPPROTO_UDP]
            model.out, model.delivered, model.notes, model.mib = [], [], [], Counter()
            model.ms = clock(before, after, theirs)
            mine = by_model(model, d, port)
            ours = [(a, b) for a, b, _ in model.out]
            ours.sort(key=lambda x: x[0])
            theirs.sort(key=lambda x: x[0])
            where = f"datagram {i} {d} of {world}\n  model's notes {model.notes}"
            out += len(theirs)
            if error != mine:
                return out, f"errno {mine} of the model, {error} of the kernel: {where}"
            if not alike(ours, theirs):
                return out, f"packets {_shown(ours)}\n  kernel {_shown(theirs)}: {where}"
            got = live.received()
            if got != model.delivered:
                return out, f"delivered {len(model.delivered)} of the model, {len(got)} of the kernel: {where}"
            now = live.counters()
            kernels = {k: now[k] - was.get(k, 0) for k in now if now[k] != was.get(k, 0) and k.startswith("Ip")}
            models = {k: v for k, v in model.mib.items() if k.startswith("Ip")}
            was = now
            if kernels != models:
                return out, f"counters {models}\n  kernel {kernels}: {where}"
    finally:
        live.close()
    return out, ""
