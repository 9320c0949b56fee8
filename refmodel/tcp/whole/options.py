"""TCP options: which ones a segment carries, in which order they stand, and what is read from those that arrive.

The law: an option area is at most 40 bytes, and what does not fit is left out in the kernel's order of preference.
"""

from typing import Any, Final

from refmodel.packet.transport import (
    TCPOPT_ACCECN0,
    TCPOPT_ACCECN1,
    AccEcn,
    Eol,
    Fastopen,
    Md5,
    Mss,
    Nop,
    Option,
    Sack,
    SackPerm,
    Timestamp,
    Unknown,
    Wscale,
)
from refmodel.packet.wire import Rest
from refmodel.rule import cited
from refmodel.tcp.whole import accecn, route
from refmodel.tcp.whole.const import ACK
from refmodel.tcp.whole.skb import FastopenCookie, Skb, TcpOptions
from refmodel.tcp.whole.sock import RequestSock, Sock
from refmodel.tcp.whole.tcp_h import tcp_skb_timestamp_ts
from refmodel.types import M32

MAX_TCP_OPTION_SPACE: Final = 40
TCPOLEN_MSS_ALIGNED: Final = 4
TCPOLEN_TSTAMP_ALIGNED: Final = 12
TCPOLEN_WSCALE_ALIGNED: Final = 4
TCPOLEN_SACKPERM_ALIGNED: Final = 4
TCPOLEN_SACK_BASE_ALIGNED: Final = 4
TCPOLEN_SACK_PERBLOCK: Final = 8
TCPOLEN_MD5SIG_ALIGNED: Final = 20
TCPOLEN_FASTOPEN_BASE: Final = 2
TCPOLEN_EXP_FASTOPEN_BASE: Final = 4
TCP_SYNACK_NORMAL: Final = 0
TCP_SYNACK_FASTOPEN: Final = 1
TCP_SYNACK_COOKIE: Final = 2
TCP_SYNACK_RETRANS: Final = 3
NO_SIGNATURE: Final = bytes(16)
NOP: Final = Nop()
NOPS: Final = (NOP, NOP)


def fastopen_space(cookie: FastopenCookie) -> int:
    """What the option with this cookie takes, padded to 32 bits."""
    return (cookie.len + (TCPOLEN_EXP_FASTOPEN_BASE if cookie.exp else TCPOLEN_FASTOPEN_BASE) + 3) & ~3


@cited("net/ipv4/tcp_output.c:tcp_advertise_mss", "RFC 9293 3.7.1", "RFC 6691 2")
def tcp_advertise_mss(sk: Sock) -> int:
    """The MSS to announce: the route's, which may have fallen since the connection was set up."""
    if sk.sk_dst is not None:
        metric = route.tcp_dst_advmss(sk.sk_dst)
        if metric < sk.advmss:
            sk.advmss = metric
    return sk.advmss & 0xFFFF


@cited("net/ipv4/tcp_output.c:tcp_syn_options", "RFC 9293 3.7.1", "RFC 7323 2", "RFC 2018 2", "RFC 7413 4.1")
def tcp_syn_options(sk: Sock, skb: Skb, opts: TcpOptions, key: Any) -> int:
    """Chooses the options of a SYN; returns the bytes that they take."""
    p = sk.net.p
    remaining = MAX_TCP_OPTION_SPACE
    if key is not None:
        timestamps = False
        opts.md5 = NO_SIGNATURE
        remaining -= TCPOLEN_MD5SIG_ALIGNED
    else:
        timestamps = p.tcp_timestamps != 0
    opts.mss = tcp_advertise_mss(sk)
    remaining -= TCPOLEN_MSS_ALIGNED
    if timestamps:
        opts.tsval = (tcp_skb_timestamp_ts(sk.tcp_usec_ts, skb) + sk.tsoffset) & M32
        opts.tsecr = sk.rx_opt.ts_recent
        remaining -= TCPOLEN_TSTAMP_ALIGNED
    if p.tcp_window_scaling:
        opts.wscale = sk.rx_opt.rcv_wscale
        remaining -= TCPOLEN_WSCALE_ALIGNED
    if p.tcp_sack:
        opts.sack_perm = True
        if not timestamps:
            remaining -= TCPOLEN_SACKPERM_ALIGNED
    fastopen = sk.fastopen_req
    if fastopen is not None and fastopen.cookie.len >= 0:
        cookie = fastopen.cookie
        need = fastopen_space(cookie)
        if remaining >= need:
            opts.fastopen = cookie.val[: cookie.len]
            opts.fastopen_exp = cookie.exp
            remaining -= need
            sk.syn_fastopen = True
            sk.syn_fastopen_exp = cookie.exp
    if skb.tcp_flags & ACK and accecn.tcp_ecn_mode_accecn(sk) and sk.icsk_retransmits < 2 and p.tcp_ecn_option:
        remaining -= accecn.synack_option(opts, remaining)
    accecn.option_written(sk, opts, None, False)
    opts.size = MAX_TCP_OPTION_SPACE - remaining
    return opts.size


@cited("net/ipv4/tcp_output.c:tcp_synack_options", "RFC 9293 3.7.1", "RFC 7323 2", "RFC 2018 2", "RFC 7413 4.1")
def tcp_synack_options(
    sk: Sock,
    req: RequestSock,
    mss: int,
    skb: Skb,
    opts: TcpOptions,
    key: Any,
    foc: FastopenCookie | None,
    synack_type: int,
) -> int:
    """Chooses the options of a SYN-ACK, only those that the SYN had; returns the bytes that they take."""
    remaining = MAX_TCP_OPTION_SPACE
    if key is not None:
        opts.md5 = NO_SIGNATURE
        remaining -= TCPOLEN_MD5SIG_ALIGNED
        if synack_type != TCP_SYNACK_COOKIE:
            req.tstamp_ok = req.tstamp_ok and not req.sack_ok
    opts.mss = mss
    remaining -= TCPOLEN_MSS_ALIGNED
    if req.wscale_ok:
        opts.wscale = req.rcv_wscale
        remaining -= TCPOLEN_WSCALE_ALIGNED
    if req.tstamp_ok:
        opts.tsval = (tcp_skb_timestamp_ts(req.req_usec_ts, skb) + req.ts_off) & M32
        opts.tsecr = req.ts_recent
        remaining -= TCPOLEN_TSTAMP_ALIGNED
    if req.sack_ok:
        opts.sack_perm = True
        if not req.tstamp_ok:
            remaining -= TCPOLEN_SACKPERM_ALIGNED
    if foc is not None and foc.len >= 0:
        need = fastopen_space(foc)
        if remaining >= need:
            opts.fastopen = foc.val[: foc.len]
            opts.fastopen_exp = foc.exp
            remaining -= need
    if req.accecn_ok and sk.net.p.tcp_ecn_option:
        again = synack_type == TCP_SYNACK_RETRANS if accecn.enabled(sk.net) else req.num_timeout > 0
        remaining -= 0 if again else accecn.synack_option(opts, remaining)
    opts.size = MAX_TCP_OPTION_SPACE - remaining
    return opts.size


@cited("net/ipv4/tcp_output.c:tcp_established_options", "RFC 7323 3.2", "RFC 2018 3", "RFC 2883 4")
def tcp_established_options(sk: Sock, skb: Skb | None, opts: TcpOptions | None, key: Any) -> int:
    """Chooses the options of a segment without SYN; returns the bytes that they take. Without `opts` it only counts."""
    size = 0
    rx_opt = sk.rx_opt
    if key is not None:
        size = TCPOLEN_MD5SIG_ALIGNED
        if opts is not None:
            opts.md5 = NO_SIGNATURE
    if rx_opt.tstamp_ok:
        size += TCPOLEN_TSTAMP_ALIGNED
        if opts is not None:
            opts.tsval = (tcp_skb_timestamp_ts(sk.tcp_usec_ts, skb) + sk.tsoffset) & M32 if skb is not None else 0
            opts.tsecr = rx_opt.ts_recent
    eff_sacks = rx_opt.num_sacks + (1 if rx_opt.dsack else 0)
    blocks = 0
    if eff_sacks:
        remaining = MAX_TCP_OPTION_SPACE - size
        if remaining >= TCPOLEN_SACK_BASE_ALIGNED + TCPOLEN_SACK_PERBLOCK:
            blocks = min(eff_sacks, (remaining - TCPOLEN_SACK_BASE_ALIGNED) // TCPOLEN_SACK_PERBLOCK)
            size += TCPOLEN_SACK_BASE_ALIGNED + blocks * TCPOLEN_SACK_PERBLOCK
    if sk.ecn_flags & 17 == 16:
        fit = accecn.established_option(sk, size, blocks) if accecn.wants_option(sk) else None
        if fit is not None:
            size += fit[1]
            blocks = fit[2]
        if opts is not None:
            accecn.option_written(sk, opts, fit[0] if fit is not None else None, rx_opt.dsack)
    if opts is not None:
        if blocks:
            sp = sk.duplicate_sack + sk.selective_acks if rx_opt.dsack else sk.selective_acks
            opts.sacks = tuple((b.start_seq, b.end_seq) for b in sp[:blocks])
            rx_opt.dsack = False
        opts.size = size
    return size


@cited("net/ipv4/tcp_output.c:tcp_options_write", "RFC 9293 3.1")
def wire_options(opts: TcpOptions, flags: int = 0) -> tuple[Option, ...]:
    """The options of a segment that leaves, as they stand on the wire, with the padding between them."""
    out: list[Option] = []
    if opts.md5 is not None:
        out += (*NOPS, Md5(opts.md5))
    if opts.mss:
        out.append(Mss(opts.mss))
    sack_perm = opts.sack_perm
    if opts.tsval is not None:
        if sack_perm:
            out.append(SackPerm())
            sack_perm = False
        else:
            out += NOPS
        out.append(Timestamp(opts.tsval, opts.tsecr))
    pad: tuple[Option, ...] = NOPS  # an option for Accurate ECN may stand where padding would
    if opts.accecn is not None:
        option = AccEcn(*opts.accecn)
        fields = len(option.counters)
        if fields >= 2:
            out += (option, NOP) if fields == 3 else (option,)
        else:
            pad = (option, NOP) if fields else (option,)
    if sack_perm:
        out += (*pad, SackPerm())
        pad = NOPS
    if opts.wscale is not None:
        if len(pad) == 2 and pad is not NOPS:
            out += (pad[0], Wscale(opts.wscale))
            pad = NOPS
        else:
            out += (NOP, Wscale(opts.wscale))
    if opts.sacks:
        out += (*pad, Sack(opts.sacks))
    elif pad is not NOPS:
        out += (*pad, *NOPS)
    if opts.fastopen is not None:
        out.append(Fastopen(opts.fastopen, opts.fastopen_exp))
        if len(opts.fastopen) & 3 == (2 if opts.fastopen_exp else 0):
            out += NOPS
    return tuple(out)


@cited("net/ipv4/tcp_input.c:tcp_parse_options", "net/ipv4/tcp_input.c:tcp_parse_fastopen_option", "RFC 9293 3.2")
def read_options(options: tuple[Option, ...]) -> TcpOptions:
    """What TCP takes from the options of a segment that arrives: the last of a kind counts, a wrong length doesn't."""
    opts = TcpOptions()
    for o in options:
        if isinstance(o, Timestamp):
            opts.tsval, opts.tsecr = o.tsval, o.tsecr
        elif isinstance(o, Nop):
            continue
        elif isinstance(o, Sack):
            opts.sacks = o.blocks
        elif isinstance(o, Mss):
            opts.mss = o.mss or opts.mss
        elif isinstance(o, Wscale):
            opts.wscale = o.shift
        elif isinstance(o, SackPerm):
            opts.sack_perm = True
        elif isinstance(o, Fastopen):
            if len(o.cookie) & 1 == 0:
                opts.fastopen, opts.fastopen_exp = o.cookie, o.exp
        elif isinstance(o, Md5):
            opts.md5 = o.digest
        elif isinstance(o, Eol | Rest):
            break
        elif isinstance(o, AccEcn):
            opts.accecn = o.order, o.counters
            opts.size = -(-sum(len(x.wire()) for x in options) // 4) * 4
        elif isinstance(o, Unknown):
            opts.unknown += (o.number,)
            if o.number in (TCPOPT_ACCECN0, TCPOPT_ACCECN1):
                whole = range(0, min(len(o.data) // 3, 3) * 3, 3)
                counters = tuple(int.from_bytes(o.data[i : i + 3], "big") for i in whole)
                opts.accecn = int(o.number == TCPOPT_ACCECN1), counters
                opts.size = -(-sum(len(x.wire()) for x in options) // 4) * 4
        else:
            opts.unknown += (o.kind,)
    return opts
