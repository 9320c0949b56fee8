"""The whole of Linux's TCP, deterministic in virtual time: the kernel's functions under the kernel's names.

The law: one `Net` is one network namespace with its clock, timers, sysctls, counters and sockets. Whatever happens to
it is one of four things: a system call, a packet that arrives, a timer that fires, a change of a sysctl. Each runs to
its end at one instant, and what leaves is a `Packet` in `Net.out`, marked with the function that sent it. The same
events at the same times give the same run: nothing here reads a clock, draws a random number or does I/O.

The connection machine of `refmodel.tcp` says in rules, proved, what any Linux may do; this package says what Linux
does. Its arithmetic is the proved steps' own, and whatever it sends the connection machine must accept.

Files stand as in net/ipv4: `const`, `skb`, `sock`, `tcp_h` (the objects and the headers' short functions), `net`
(namespace, timers, counters), `output`, `retransmit`, `mtu`, `transmit`, `options`, `connect` (tcp_output.c), `ack`,
`acktag`, `sack`, `shift`, `recovery`, `undo`, `rack`, `rate`, `rttm` (the sender's half of tcp_input.c, tcp_recovery.c,
tcp_rate.c), `rcv`, `rcvstate`, `data`, `prune`, `rcvbuf` (the receiver's half), `accecn`, `listen`, `minisocks`,
`syncookies`, `fastopen`, `ipv4`, `reply`, `icmp`, `hashtables`, `bind`, `route`, `secure`, `md5` (how segments find a
socket and connections begin), `timer` (tcp_timer.c), `ca`, `bbr`, `fq` (congestion control, pacing), `inet`, `stream`,
`sendmsg`, `recvmsg`, `sockopt`, `tcpopt`, `ipopt`, `info`, `errqueue`, `poll`, `epoll`, `files`, `splice`, `calls`
(system calls), `pair` (two hosts on a wire), `invariants`, `history` (what is always true).
"""

# The modules call each other as the kernel's files do, so they import each other: this is where the circle is entered.
from refmodel.tcp.whole import calls

__all__ = ["calls"]
