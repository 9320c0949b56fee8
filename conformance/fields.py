"""A decoded frame as flat fields under Wireshark's display-filter names: what a user reads and what is cross-checked.

Numbers are ints, addresses text, a field that stands in a frame several times is a tuple.
"""

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, Final

from refmodel.packet import (
    Ah,
    Arp,
    Checksum,
    Ether,
    Icmp,
    Icmp6,
    Icmp6Word,
    Ip,
    Ip6,
    Ip6Frag,
    Ip6Opts,
    Ip6Rt,
    Layer,
    Mss,
    NdNa,
    NdNs,
    NdOption,
    NdRa,
    NdRedirect,
    NdRs,
    Packet,
    Rest,
    Sack,
    SackPerm,
    Tcp,
    Timestamp,
    Udp,
    Vlan,
    Wscale,
    checksums,
)

Value = int | str | tuple[int | str, ...]
Fields = dict[str, Value]


def one_or_many(values: Sequence[int | str]) -> Value:
    """A single value as itself, several as a tuple."""
    return values[0] if len(values) == 1 else tuple(values)


def _mac(raw: bytes) -> str:
    return raw.hex(":")


def _address(raw: bytes) -> str:
    return str(ipaddress.ip_address(raw))


def _ether(x: Ether) -> Fields:
    kind = "eth.type" if x.h_proto >= 0x0600 else "eth.len"
    return {"eth.dst": _mac(x.h_dest), "eth.src": _mac(x.h_source), kind: x.h_proto}


def _arp(x: Arp) -> Fields:
    out: Fields = {
        "arp.hw.type": x.ar_hrd,
        "arp.proto.type": x.ar_pro,
        "arp.hw.size": x.ar_hln,
        "arp.proto.size": x.ar_pln,
        "arp.opcode": x.ar_op,
    }
    if (x.ar_hln, x.ar_pln) == (6, 4):
        out["arp.src.hw_mac"], out["arp.src.proto_ipv4"] = _mac(x.ar_sha), _address(x.ar_sip)
        out["arp.dst.hw_mac"], out["arp.dst.proto_ipv4"] = _mac(x.ar_tha), _address(x.ar_tip)
    return out


def _ip(x: Ip) -> Fields:
    out: Fields = {
        "ip.version": 4,
        "ip.hdr_len": 4 * x.ihl,
        "ip.dsfield": x.tos,
        "ip.id": x.id,
        "ip.flags": x.frag_off >> 13,
        "ip.frag_offset": x.offset // 8,
        "ip.ttl": x.ttl,
        "ip.proto": x.protocol,
        "ip.checksum": x.check,
        "ip.src": _address(x.saddr),
        "ip.dst": _address(x.daddr),
    }
    if x.tot_len:  # tshark shows a super-frame's real length in place of the zero
        out["ip.len"] = x.tot_len
    return out


def _ip6(x: Ip6) -> Fields:
    out: Fields = {
        "ipv6.version": 6,
        "ipv6.tclass": x.tclass,
        "ipv6.flow": x.flow_lbl,
        "ipv6.nxt": x.nexthdr,
        "ipv6.hlim": x.hop_limit,
        "ipv6.src": _address(x.saddr),
        "ipv6.dst": _address(x.daddr),
    }
    if x.payload_len:
        out["ipv6.plen"] = x.payload_len
    return out


def _ip6_opts(x: Ip6Opts) -> Fields:
    name = "hopopts" if x.kind == 0 else "dstopts"
    return {f"ipv6.{name}.nxt": x.nexthdr, f"ipv6.{name}.len": x.hdrlen}


def _ip6_rt(x: Ip6Rt) -> Fields:
    return {
        "ipv6.routing.nxt": x.nexthdr,
        "ipv6.routing.len": x.hdrlen,
        "ipv6.routing.type": x.type,
        "ipv6.routing.segleft": x.segments_left,
    }


def _ip6_frag(x: Ip6Frag) -> Fields:
    return {
        "ipv6.fraghdr.nxt": x.nexthdr,
        "ipv6.fraghdr.offset": x.offset // 8,
        "ipv6.fraghdr.more": int(x.mf),
        "ipv6.fraghdr.ident": x.identification,
    }


def _ah(x: Ah) -> Fields:
    return {"ah.next_header": x.nexthdr, "ah.length": x.hdrlen}


def _icmp(x: Icmp) -> Fields:
    out: Fields = {"icmp.type": x.type, "icmp.code": x.code, "icmp.checksum": x.checksum}
    if x.type in (0, 8, 13, 14):
        out["icmp.ident"], out["icmp.seq"] = x.id, x.sequence
    elif (x.type, x.code) == (3, 4):
        out["icmp.mtu"] = x.mtu
    elif x.type == 5:
        out["icmp.redir_gw"] = _address(x.gateway)
    return out


def _nd_options(options: tuple[NdOption | Rest, ...]) -> Fields:
    known = [o for o in options if isinstance(o, NdOption)]
    out: Fields = {}
    if known:
        out["icmpv6.opt.type"] = one_or_many([o.type for o in known])
    addresses = [_mac(o.lladdr) for o in known if o.lladdr is not None]
    if addresses:
        out["icmpv6.opt.linkaddr"] = one_or_many(addresses)
    mtus = [o.mtu for o in known if o.mtu is not None]
    if mtus:
        out["icmpv6.opt.mtu"] = one_or_many(mtus)
    return out


def _nd(x: NdRs | NdRa | NdNs | NdNa | NdRedirect) -> Fields:
    out = _nd_options(x.options)
    if isinstance(x, NdRa):
        out["icmpv6.nd.ra.cur_hop_limit"], out["icmpv6.nd.ra.flag"] = x.hop_limit, x.flags
        out["icmpv6.nd.ra.router_lifetime"] = x.router_lifetime
        out["icmpv6.nd.ra.reachable_time"] = x.reachable_time
        out["icmpv6.nd.ra.retrans_timer"] = x.retrans_timer
    elif isinstance(x, NdNs):
        out["icmpv6.nd.ns.target_address"] = _address(x.target)
    elif isinstance(x, NdNa):
        out["icmpv6.nd.na.target_address"], out["icmpv6.nd.na.flag"] = _address(x.target), x.flags
    elif isinstance(x, NdRedirect):
        out["icmpv6.nd.rd.target_address"] = _address(x.target)
        out["icmpv6.rd.na.destination_address"] = _address(x.dest)
    return out


def _udp(x: Udp) -> Fields:
    return {"udp.srcport": x.source, "udp.dstport": x.dest, "udp.length": x.len, "udp.checksum": x.check}


def _tcp(x: Tcp) -> Fields:
    out: Fields = {
        "tcp.srcport": x.source,
        "tcp.dstport": x.dest,
        "tcp.seq_raw": x.seq,
        "tcp.ack_raw": x.ack_seq,
        "tcp.hdr_len": 4 * x.doff,
        "tcp.flags": x.res1 << 9 | x.flags,
        "tcp.window_size_value": x.window,
        "tcp.checksum": x.check,
        "tcp.urgent_pointer": x.urg_ptr,
    }
    if not x.options or isinstance(x.options[-1], Rest):
        return out
    out["tcp.options"] = b"".join(o.wire() for o in x.options).hex(":")
    mss, wscale, ts, sack = x.option(Mss), x.option(Wscale), x.option(Timestamp), x.option(Sack)
    if mss is not None:
        out["tcp.options.mss_val"] = mss.mss
    if wscale is not None:
        out["tcp.options.wscale.shift"] = wscale.shift
    if ts is not None:
        out["tcp.options.timestamp.tsval"], out["tcp.options.timestamp.tsecr"] = ts.tsval, ts.tsecr
    if sack is not None:
        out["tcp.options.sack_le"] = one_or_many([b[0] for b in sack.blocks])
        out["tcp.options.sack_re"] = one_or_many([b[1] for b in sack.blocks])
    if x.option(SackPerm) is not None:
        out["tcp.options.sack_perm"] = "04:02"
    return out


_DISSECTORS: Final[dict[type[Layer], Callable[[Any], Fields]]] = {
    Ether: _ether,
    Arp: _arp,
    Ip: _ip,
    Ip6: _ip6,
    Ip6Opts: _ip6_opts,
    Ip6Rt: _ip6_rt,
    Ip6Frag: _ip6_frag,
    Ah: _ah,
    Icmp: _icmp,
    NdRs: _nd,
    NdRa: _nd,
    NdNs: _nd,
    NdNa: _nd,
    NdRedirect: _nd,
    Udp: _udp,
    Tcp: _tcp,
}

# tshark's words for a checksum: 0 bad, 1 good
_VERDICTS: Final = {Checksum.OK: 1, Checksum.WRONG: 0}


def dissect(packet: Packet) -> Fields:
    """The frame's fields by their Wireshark names, as the native decoder sees them."""
    out: Fields = {}
    tpid = 0
    tags: list[Vlan] = []
    for x in packet.layers:
        if isinstance(x, Vlan):
            if tpid == 0x88A8:
                out["ieee8021ad.id"], out["ieee8021ad.priority"], out["ieee8021ad.dei"] = x.vid, x.pcp, int(x.dei)
            else:
                tags.append(x)
        elif isinstance(x, Icmp6):
            out["icmpv6.type"], out["icmpv6.code"], out["icmpv6.checksum"] = x.type, x.code, x.cksum
        elif isinstance(x, Icmp6Word):
            kind = out["icmpv6.type"]
            if kind in (128, 129):
                out["icmpv6.echo.identifier"], out["icmpv6.echo.sequence_number"] = x.identifier, x.sequence
            elif kind == 2:
                out["icmpv6.mtu"] = x.mtu
        elif type(x) in _DISSECTORS:
            out |= _DISSECTORS[type(x)](x)
        tpid = x.h_proto if isinstance(x, Ether | Vlan) else 0
    if tags:
        out["vlan.id"] = one_or_many([t.vid for t in tags])
        out["vlan.priority"] = one_or_many([t.pcp for t in tags])
        out["vlan.dei"] = one_or_many([int(t.dei) for t in tags])
        out["vlan.etype"] = one_or_many([t.h_proto for t in tags])
    if not packet.truncated and packet.malformed is None:
        whole = not any(x.mf for x in packet.layers if isinstance(x, Ip | Ip6Frag))
        if packet.layers and isinstance(packet.layers[-1], Tcp) and whole:
            out["tcp.len"] = packet.payload_len
        for name, verdict in checksums(packet):
            if verdict in _VERDICTS:
                out[f"{name}.checksum.status"] = _VERDICTS[verdict]
    return out
