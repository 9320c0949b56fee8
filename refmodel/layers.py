"""Imports every layer, which fills the registry."""

import refmodel.bridge
import refmodel.dev.dql
import refmodel.dev.watchdog
import refmodel.fib.fnhe
import refmodel.fib.leaf
import refmodel.fib.policy
import refmodel.fib.source
import refmodel.ip.fragment
import refmodel.ip.ident
import refmodel.ip.ipq
import refmodel.ip.limits
import refmodel.ip6.frag
import refmodel.neigh
import refmodel.neigh.arp
import refmodel.neigh.ndisc
import refmodel.netfilter.limit
import refmodel.netfilter.tcp
import refmodel.nic
import refmodel.phy
import refmodel.ptr_ring
import refmodel.receive.backlog_properties
import refmodel.receive.gro_flow_properties
import refmodel.sched.account
import refmodel.sched.bands
import refmodel.sched.bucket
import refmodel.sched.nolock
import refmodel.softirq_properties
import refmodel.tcp.cubic
import refmodel.tcp.delack
import refmodel.tcp.machine
import refmodel.tcp.nagle
import refmodel.tcp.prr
import refmodel.tcp.rtt
import refmodel.tcp.scoreboard
import refmodel.tcp.window
import refmodel.udp.corking

__all__ = ["refmodel"]
