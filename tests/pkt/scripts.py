"""Small scripts for every form of the language, and strategies that make scripts of their own."""

from typing import Any

from hypothesis import strategies as st

from conformance.pkt import ast, constants
from conformance.pkt.calls import SIGNATURES
from conformance.pkt.source import Source
from refmodel.packet.transport import (
    AccEcn,
    Eol,
    Fastopen,
    Md5,
    Mss,
    Nop,
    Sack,
    SackPerm,
    TcpOption,
    Timestamp,
    Wscale,
)

SERVER = """\
--tolerance_usecs=10000
--define=COOKIE=3021b9d889017eeb
`./defaults.sh
sysctl -q net.ipv4.tcp_ecn=2`

   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
  +0 bind(3, ..., ...) = 0
  +0 listen(3, 1) = 0

  +0 < S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>   // a comment
  +0 > S. 0:0(0) ack 1 <...>
+.01 < . 1:1(0) ack 1 win 257
  +0 accept(3, ..., ...) = 4
+0...0.2 read(4, ..., 1000) = 1000
 +.1 < P. 1:1001(1000) ack 1 win 257
   * > . 1:1(0) ack 1001
+0~+.1 > FP. 1:1(0) ack 1001 win 227 urg 3 <nop,nop,sack 1001:2001 3001:4001>
  +0 %{ assert tcpi_snd_cwnd == 10, 'cwnd=%d' % tcpi_snd_cwnd }%
  +0 `rm -f /tmp/testfile`
  +0 close(4) = -1 EBADF (Bad file descriptor)
`/tmp/sysctl_restore_${PPID}.sh`
"""

NUMBERS: st.SearchStrategy[Any] = st.builds(ast.Number, value=st.integers(-(1 << 63), (1 << 64) - 1))
SYMBOLS: st.SearchStrategy[Any] = st.builds(ast.Symbol, name=st.sampled_from(sorted(constants.SYMBOLS)))
AUTO: st.SearchStrategy[Any] = st.just(ast.Auto())
NUMERIC: st.SearchStrategy[Any] = st.one_of(
    NUMBERS, SYMBOLS, st.builds(ast.Or, parts=st.lists(SYMBOLS | NUMBERS, min_size=2, max_size=4).map(tuple))
)
TEXTS: st.SearchStrategy[Any] = st.builds(ast.Text, value=st.binary(max_size=12))
IOVEC = st.builds(ast.IoVec, base=AUTO, len=NUMERIC)
EXT_ERR = st.builds(ast.ExtErr, errno=NUMERIC, origin=NUMERIC, type=NUMERIC, code=NUMERIC, info=NUMERIC, data=NUMERIC)
STATS = st.builds(
    ast.Stats,
    values=st.lists(
        st.tuples(
            st.builds(
                ast.Symbol, name=st.sampled_from(sorted(n for n in constants.VALUES if n.startswith("TCP_NLA_")))
            ),
            NUMERIC,
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
CMSG = st.builds(
    ast.Cmsg,
    level=NUMERIC,
    type=NUMERIC,
    data=NUMERIC | EXT_ERR | STATS | st.builds(ast.ScmTime, sec=NUMERIC, nsec=NUMERIC),
)
MSGHDR = st.builds(
    ast.MsgHdr,
    name=AUTO,
    name_len=st.none() | AUTO,
    iov=st.builds(ast.Items, items=st.lists(IOVEC, max_size=2).map(tuple)),
    iov_len=st.none() | NUMERIC,
    flags=st.none() | NUMERIC,
    control=st.none() | st.lists(CMSG, max_size=2).map(tuple),
)
GRE = st.builds(
    ast.Gre,
    flags=st.lists(st.sampled_from(["checksum", "key", "seq"]), max_size=3).map(tuple),
    key=st.none() | st.integers(0, (1 << 32) - 1),
    seq=st.none() | st.integers(0, 9),
)
MPLS = st.builds(
    ast.Mpls,
    labels=st.lists(
        st.builds(
            ast.Label,
            label=st.integers(0, (1 << 20) - 1),
            tc=st.integers(0, 7),
            ttl=st.integers(0, 255),
            bottom=st.booleans(),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
OF_KIND: dict[type, st.SearchStrategy[Any]] = {
    ast.Auto: AUTO,
    ast.Number: NUMBERS,
    ast.Symbol: SYMBOLS,
    ast.Or: NUMERIC,
    ast.Text: TEXTS,
    ast.Items: st.builds(ast.Items, items=st.lists(NUMERIC | TEXTS, max_size=3).map(tuple)),
    ast.Linger: st.builds(ast.Linger, onoff=NUMERIC, linger=NUMERIC),
    ast.EpollEvent: st.builds(
        ast.EpollEvent, events=NUMERIC, member=st.sampled_from(["fd", "ptr", "u32", "u64"]), data=NUMERIC
    ),
    ast.MsgHdr: MSGHDR,
    ast.SockAddr: st.builds(
        ast.SockAddr,
        sa_family=SYMBOLS,
        port=st.builds(ast.Number, value=st.integers(0, 65535)),
        addr=st.sampled_from(["192.0.2.1", "fd3d::1"]),
    ),
    ast.Address: st.builds(ast.Address, addr=st.sampled_from(["192.0.2.1", "fd3d:fa7b:d17d::1"])),
    ast.Gre: GRE,
    ast.Mpls: MPLS,
}
POLL_LIST = st.builds(
    ast.Items,
    items=st.lists(st.builds(ast.PollFd, fd=NUMERIC, events=NUMERIC, revents=NUMERIC), max_size=2).map(tuple),
)


@st.composite
def calls(draw: st.DrawFn) -> ast.Call:
    """A call of any of the 32, with arguments that it may have."""
    name = draw(st.sampled_from(sorted(SIGNATURES)))
    least, kinds = SIGNATURES[name]
    count = draw(st.integers(least, len(kinds)))
    args = []
    for kind in kinds[:count]:
        args.append(
            draw(POLL_LIST if name == "poll" and kind == (ast.Items,) else st.one_of([OF_KIND[k] for k in kind]))
        )
    errno = draw(st.none() | st.sampled_from(sorted(constants.ERRNO)))
    note = draw(st.sampled_from(["", "Operation now in progress", "flags O_RDWR"]))
    return ast.Call(name=name, args=tuple(args), result=draw(NUMERIC), errno=errno, note=note)


U32 = st.integers(0, (1 << 32) - 1)
OPTION: st.SearchStrategy[TcpOption] = st.one_of(
    st.builds(Mss, st.integers(0, 65535)),
    st.builds(Wscale, st.integers(0, 255)),
    st.just(SackPerm()),
    st.builds(Sack, st.lists(st.tuples(U32, U32), min_size=1, max_size=3).map(tuple)),
    st.builds(Timestamp, U32, U32),
    st.just(Eol()),
    st.builds(Md5, st.binary(min_size=16, max_size=16)),
    st.builds(Fastopen, st.binary(max_size=16), st.booleans()),
    st.builds(AccEcn, st.integers(0, 1), st.lists(st.integers(0, (1 << 24) - 1), min_size=1, max_size=3).map(tuple)),
)


def padded(options: list[TcpOption]) -> tuple[TcpOption, ...]:
    """As many of the options as fit, filled up with nop."""
    out: list[TcpOption] = []
    for o in options:
        if sum(len(x.wire()) for x in [*out, o]) <= 40:
            out.append(o)
    return (*out, *[Nop()] * (-sum(len(x.wire()) for x in out) % 4))


@st.composite
def ranges(draw: st.DrawFn) -> ast.Range:
    seq, length = draw(U32), draw(st.integers(0, 65535))
    return ast.Range(seq=seq, end=(seq + length) & 0xFFFFFFFF, length=length)


PORTS = st.none() | st.builds(ast.Ports, source=st.integers(0, 65535), dest=st.integers(0, 65535))


@st.composite
def segments(draw: st.DrawFn, outbound: bool) -> ast.Tcp:
    ace = draw(st.none() | st.integers(0, 7))
    letters = draw(st.sets(st.sampled_from("FSRPU" if ace is not None else "FSRPUEWA")))
    options = draw(st.lists(OPTION, max_size=4).map(padded))
    return ast.Tcp(
        flags="".join(x for x in "FSRPUEWA" if x in letters),
        ack_flag=ace is not None or draw(st.booleans()),
        ace=ace,
        range=draw(ranges()),
        ack=draw(st.none() | U32),
        win=draw(st.integers(0, 65535) if not outbound else st.none() | st.integers(0, 65535)),
        urg=draw(st.none() | st.integers(0, 65535)),
        options=None if outbound and draw(st.booleans()) else options,
        spi=draw(st.none() | U32),
        ports=draw(PORTS),
    )


@st.composite
def icmps(draw: st.DrawFn) -> ast.Icmp:
    kind, code = draw(
        st.sampled_from([("unreachable", "frag_needed"), ("packet_too_big", None), ("echo_reply", "code_7")])
    )
    quoted = st.builds(ast.Quoted, protocol=st.sampled_from(["udp", "raw"]), length=st.integers(0, 999))
    tcp = ranges().map(lambda r: ast.Quoted(protocol="tcp", length=r.length, range=r))
    return ast.Icmp(
        type=kind,
        code=code,
        mtu=draw(st.none() | U32) if kind != "echo_reply" else None,
        id=draw(st.none() | st.integers(0, 65535)),
        quoted=draw(st.none() | quoted | tcp),
    )


def infos(outbound: bool) -> st.SearchStrategy[ast.IpInfo]:
    ecn = st.sampled_from([e for e in ast.Ecn if outbound or e is not ast.Ecn.ECT01])
    return st.one_of(
        st.builds(ast.IpInfo, ecn=ecn, flowlabel=st.none() | st.integers(0, (1 << 20) - 1)),
        st.builds(ast.IpInfo, tos=st.integers(0, 255)),
        st.builds(ast.IpInfo, ttl=st.integers(0, 255)),
    )


@st.composite
def packets(draw: st.DrawFn, outbound: bool) -> ast.Packet:
    layers = st.one_of(
        st.builds(
            ast.IpLayer,
            version=st.just(4),
            source=st.just("192.0.2.1"),
            dest=st.just("192.168.0.1"),
            info=st.none() | infos(outbound),
        ),
        st.builds(ast.IpLayer, version=st.just(6), source=st.just("fd3d::1"), dest=st.just("::2")),
        GRE,
        MPLS,
    )
    udp = st.builds(ast.Udp, length=st.integers(0, 65535), ports=PORTS)
    return ast.Packet(
        direction=ast.Direction.OUT if outbound else ast.Direction.IN,
        layers=tuple(draw(st.lists(layers, max_size=2))),
        info=draw(st.none() | infos(outbound)),
        body=draw(st.one_of(segments(outbound), udp, icmps())),
    )


PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="`\\}\x00"), max_size=30)
COMMANDS = st.builds(ast.Command, text=PLAIN)
CODES = st.builds(ast.Code, text=PLAIN.map(str.strip))


@st.composite
def events(draw: st.DrawFn) -> ast.Event:
    """An event at a time of a form that it may have, relative to the one before."""
    form = draw(st.sampled_from(ast.Form))
    start = draw(st.integers(0, 10**12))
    end = start + draw(st.integers(0, 10**9))
    if form in (ast.Form.ANY, ast.Form.RANGE):
        action: ast.Action = draw(packets(outbound=True))
    elif form is ast.Form.BLOCKING:
        action = draw(calls())
    else:
        action = draw(st.one_of(packets(outbound=True), packets(outbound=False), calls(), COMMANDS, CODES))
    if form is ast.Form.ANY:
        return ast.Event(time=ast.Time(form=form), action=action)
    bounded = form in (ast.Form.RANGE, ast.Form.BLOCKING)
    return ast.Event(time=ast.Time(start=start, relative=True, form=form, end=end if bounded else None), action=action)


OPTIONS = st.sampled_from(
    [
        ast.Option(name="ip_version", value="ipv6"),
        ast.Option(name="ip_version", value="ipv4-mapped-ipv6"),
        ast.Option(name="mtu", value="1520"),
        ast.Option(name="local_ip", value="fd3d:0a0b:17d6::1"),
        ast.Option(name="remote_ip", value="192.0.2.1"),
        ast.Option(name="strict_segments"),
        ast.Option(name="define", define="THING", value="5"),
    ]
)
FIRST = ast.Event(
    time=ast.Time(),
    action=ast.Call(
        name="socket",
        args=(ast.Auto(), ast.Symbol(name="SOCK_STREAM"), ast.Symbol(name="IPPROTO_TCP")),
        result=ast.Number(value=3),
    ),
)
SCRIPTS = st.builds(
    ast.Script,
    source=st.just(Source("", "")),
    options=st.lists(OPTIONS, max_size=3).map(tuple),
    init=st.none() | COMMANDS,
    events=st.lists(events(), max_size=4).map(lambda x: (FIRST, *x)),
    cleanup=st.none() | COMMANDS,
)
