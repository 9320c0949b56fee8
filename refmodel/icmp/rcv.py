"""ICMP messages that arrive: what is answered, what is told to a protocol, what is only counted.

The law: an error is worth what it quotes: an IP header and the 8 bytes behind it, or it is an error itself.
"""

from typing import TYPE_CHECKING, Final

from refmodel.icmp import send
from refmodel.icmp.message import Message
from refmodel.rule import cited
from refmodel.tcp.whole import icmp as tcp_icmp
from refmodel.tcp.whole.skb import IcmpError
from refmodel.udp import input as udp

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_RAW: Final = 255
ICMP_ECHOREPLY: Final = 0
ICMP_DEST_UNREACH: Final = 3
ICMP_PROT_UNREACH: Final = 2
ICMP_SOURCE_QUENCH: Final = 4
ICMP_REDIRECT: Final = 5
ICMP_ECHO: Final = 8
ICMP_TIME_EXCEEDED: Final = 11
ICMP_PARAMETERPROB: Final = 12
ICMP_TIMESTAMP: Final = 13
ICMP_TIMESTAMPREPLY: Final = 14
ICMP_EXC_FRAGTIME: Final = 1
ICMPV6_PARAMPROB: Final = 4
ICMPV6_UNK_NEXTHDR: Final = 1
IP6_NEXTHDR: Final = 6  # where the header says what follows
ICMPV6_ECHO_REQUEST: Final = 128
ICMPV6_ECHO_REPLY: Final = 129
ERRORS: Final = (ICMP_DEST_UNREACH, ICMP_SOURCE_QUENCH, ICMP_REDIRECT, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB)


@cited("net/ipv4/icmp.c:icmp_rcv", "net/ipv6/icmp.c:icmpv6_rcv")
def icmp_rcv(net: "Net", message: Message, protocol: int = 0, error: IcmpError | None = None) -> None:
    """A message arrives. `protocol` is that of the packet it quotes (0: it quotes none), `error` what it says of it."""
    net.tap_rx += 1
    if len(message.saddr) == 16:
        _icmpv6_rcv(net, message, protocol, error)
        return
    net.count("IcmpInMsgs")
    net.count(f"IcmpMsgInType{message.type}")
    # Time exceeded is counted by the function that looks at it, as every other type is by the table.
    if message.type in send.NAMES:
        net.count(f"IcmpIn{send.NAMES[message.type]}")
    if message.type == ICMP_ECHO:
        icmp_echo(net, message)
    elif message.type == ICMP_TIMESTAMP:
        icmp_timestamp(net, message)
    elif message.type in ERRORS:
        icmp_unreach(net, message, protocol, error)


@cited("net/ipv4/icmp.c:icmp_unreach", "net/ipv4/icmp.c:icmp_redirect", "net/ipv4/icmp.c:icmp_socket_deliver")
def icmp_unreach(net: "Net", message: Message, protocol: int, error: IcmpError | None) -> None:
    """An error goes to the protocol of the packet that it quotes; one that quotes none is an error itself."""
    if not message.len:
        net.count("IcmpInErrors")
        return
    if message.type == ICMP_TIME_EXCEEDED and message.code == ICMP_EXC_FRAGTIME:
        return
    if protocol == IPPROTO_RAW:
        net.count("IcmpInErrors")
    elif error is not None and protocol == IPPROTO_TCP:
        net.receive_icmp(error)
    elif error is not None and protocol == IPPROTO_UDP and tcp_icmp.icmp_reaches_socket(net, error):
        udp.udp_err(net, error)


@cited("net/ipv4/icmp.c:icmp_echo", "RFC 1122 3.2.2.6")
def icmp_echo(net: "Net", message: Message) -> None:
    """A ping is answered with the same bytes."""
    if net.p.icmp_echo_ignore_all:
        return
    icmp_reply(net, message, ICMP_ECHOREPLY, message.code, message.len)


@cited("net/ipv4/icmp.c:icmp_timestamp", "RFC 1122 3.2.2.8")
def icmp_timestamp(net: "Net", message: Message) -> None:
    """A request for the time of day is answered; one that is too short is an error."""
    if message.len < 4:
        net.count("IcmpInErrors")
        return
    icmp_reply(net, message, ICMP_TIMESTAMPREPLY, 0, 12)


@cited("net/ipv4/icmp.c:icmp_reply")
def icmp_reply(net: "Net", message: Message, type: int, code: int, size: int) -> None:
    """An answer goes back where the question came from, with its type of service."""
    if send.icmpv4_allow(net, message.saddr, type, code):
        answer = Message(message.daddr, message.saddr, type, code, message.un, size, message.tos)
        send.out(net, answer, "icmp_reply")


def _icmpv6_rcv(net: "Net", message: Message, protocol: int, error: IcmpError | None) -> None:
    net.count("Icmp6InMsgs")
    net.count(f"Icmp6InType{message.type}")
    if message.type in send.NAMES6:
        net.count(f"Icmp6In{send.NAMES6[message.type]}")
    if message.type == ICMPV6_ECHO_REQUEST:
        icmpv6_echo_reply(net, message)
    elif message.type < send.ICMPV6_INFOMSG:
        icmpv6_notify(net, message, protocol, error)


@cited("net/ipv6/icmp.c:icmpv6_echo_reply", "RFC 4443 4.2")
def icmpv6_echo_reply(net: "Net", message: Message) -> None:
    """A ping over IPv6 is answered with the same bytes."""
    if send.icmpv6_allow(net, message.saddr, ICMPV6_ECHO_REPLY):
        answer = Message(message.daddr, message.saddr, ICMPV6_ECHO_REPLY, message.code, message.un, message.len)
        answer.tos = message.tos
        send.out(net, answer, "icmpv6_echo_reply")


@cited("net/ipv6/icmp.c:icmpv6_notify")
def icmpv6_notify(net: "Net", message: Message, protocol: int, error: IcmpError | None) -> None:
    """An ICMPv6 error goes to the protocol of the packet that it quotes."""
    if not message.len or protocol == IPPROTO_RAW:
        net.count("Icmp6InErrors")
    elif error is not None and protocol == IPPROTO_TCP:
        net.receive_icmp(error)
    elif error is not None and protocol == IPPROTO_UDP:
        udp.udp_err(net, error)


@cited(
    "net/ipv4/ip_input.c:ip_protocol_deliver_rcu", "net/ipv6/ip6_input.c:ip6_protocol_deliver_rcu", "RFC 1122 3.2.2.1"
)
def unknown_protocol(net: "Net", saddr: bytes, daddr: bytes, tos: int, size: int) -> None:
    """A packet of `size` bytes for this host, of a protocol that it does not have: its sender is told."""
    if daddr not in net.local_addrs:
        return
    v6 = len(daddr) == 16
    net.count("Ip6InUnknownProtos" if v6 else "IpInUnknownProtos")
    net.note("unknown_protocol", "no handler: there is no tunnel device")
    if v6:
        send.icmpv6_send(net, saddr, daddr, ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, size, IP6_NEXTHDR)
    else:
        send.icmp_send(net, saddr, daddr, tos, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, size)
