"""The whole of Linux's TCP, deterministic in virtual time: the kernel's functions under the kernel's names.

The law: one `Net` is one network namespace with its clock, timers, sysctls, counters and sockets. Whatever happens to
it is one of four things: a system call, a packet that arrives, a timer that fires, a change of a sysctl. Each runs to
its end at one instant, and what leaves is a `Packet` in `Net.out`, marked with the function that sent it. The same
events at the same times give the same run: nothing here reads a clock, draws a random number or does I/O.

The connection machine of `refmodel.tcp` says in rules, proved, what any Linux may do; this package says what Linux
does. Its arithmetic is the proved steps' own, and whatever it sends the connection machine must accept.

Files stand as in net/ipv4: `sock` (struct tcp_sock and sk_buff), `net` (namespace, timers, counters), `output`,
`transmit` (tcp_output.c), `ack`, `sack`, `recovery`, `rate` (the sender's half of tcp_input.c, tcp_recovery.c,
tcp_rate.c), `rcv`, `data`, `rcvbuf` (the receiver's half), `listen`, `minisocks`, `syncookies`, `fastopen`, `ipv4`,
`route`, `md5` (how segments find a socket and connections begin), `timer` (tcp_timer.c), `ca`, `bbr` (congestion
control), `inet`, `sendmsg`, `recvmsg`, `sockopt`, `info`, `errqueue`, `poll`, `calls` (system calls), `host` (all of it
together).
"""

# The modules call each other as the kernel's files do, so they import each other: this is where the circle is entered.
from refmodel.tcp.whole import calls

__all__ = ["calls"]
