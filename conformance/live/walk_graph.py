"""The kernel's walk of a packet from function_graph: every call, nested as it was, inlined ones excepted.

It wants a kernel of one's own, since it takes the machine's one function tracer: a guest.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from conformance.live.walk_trace import KernelCall, TraceError, Tracer, tracefs, without_suffix

FILTER: Final = (
    *("ip_*", "__ip_*", "ip4_*", "inet_*", "__inet_*", "ipv4_*", "raw_*", "icmp_*", "__icmp_*", "tcp_*", "__tcp_*"),
    *("udp_*", "__udp_*", "udp4_*", "sock_*", "__sock_*", "sk_*", "__sk_*", "skb_*", "__skb_*", "___skb_*", "neigh_*"),
    *("__neigh_*", "___neigh_*", "arp_*", "dev_*", "__dev_*", "*netif*", "*napi*", "net_rx_action", "net_tx_action"),
    *("process_backlog", "enqueue_to_backlog", "eth_*", "sch_direct_xmit", "*qdisc*", "pfifo_fast_*", "fib_*"),
    *("__fib_*", "nf_*", "__nf_*", "ipt_*", "iptable_*", "nft_*", "xt_*", "conntrack*", "consume_skb", "kfree_skb*"),
    *("gro_*", "__release_sock", "release_sock", "lock_sock*", "__lock_sock*", "validate_xmit_*", "loopback_xmit"),
    *(f"__x64_sys_{c}" for c in ("sendto", "recvfrom", "sendmsg", "recvmsg", "connect", "accept", "accept4")),
    *("__sys_*", "handle_softirqs", "__do_softirq", "do_softirq*", "__local_bh_enable_ip", "irq_exit_rcu"),
    *(
        "raise_softirq*",
        "__raise_softirq*",
        "run_timer_softirq",
        "call_timer_fn",
        "__handle_irq_event_percpu",
        "handle_irq_event",
        "handle_edge_irq",
    ),
    *("__common_interrupt", "napi_threaded*", "dst_*", "rt_*", "__netdev_*", "netdev_*", "dql_*", "__wake_up*"),
)
MODULES: Final = (
    "e1000e",
    "virtio_net",
    "veth",
    "tun",
    "nf_conntrack",
    "nf_nat",
    "ip_tables",
    "xt_MASQUERADE",
    "xt_nat",
)
SOFTIRQ: Final = ("__do_softirq", "handle_softirqs", "net_rx_action", "net_tx_action", "run_timer_softirq")
"""Where the work of a softirq begins; the first two are inlined where an interrupt's end comes to them."""
HARDIRQ: Final = (
    "__common_interrupt",
    "handle_edge_irq",
    "handle_irq_event",
    "__handle_irq_event_percpu",
    "irq_exit_rcu",
)
_LINE: Final = re.compile(r"^\s*(?P<time>\d+\.\d+) \|\s+(?P<cpu>\d+)\)\s+(?P<task>.+)-(?P<pid>\d+)\s+\|  (?P<rest>.*)$")
_CALL: Final = re.compile(r"^(?P<indent> *)(?P<name>[\w.]+)(?: \[\w+\])?\(\)(?: \{|;)")


class Graph(Tracer):
    """The machine's function tracer, drawing calls."""

    how = "function_graph"

    def calls(self, pids: set[int], devices: set[str], begun: int) -> tuple[KernelCall, ...]:
        """All calls since `begun` (ns of CLOCK_MONOTONIC) on this machine."""
        return tuple(c for c in parse_graph(self.text) if c.time >= begun)


@contextmanager
def grapher(kilobytes: int = 32768) -> Iterator[Graph]:
    """The function tracer of this machine, set to the network's functions, and back to nothing afterwards.

    Raises TraceError where the kernel has no function_graph.
    """
    with tracefs() as root:
        if "function_graph" not in (root / "available_tracers").read_text():
            raise TraceError("this kernel has no function_graph")
        settings = {"tracing_on": "0", "buffer_size_kb": str(kilobytes), "trace_clock": "mono"}
        settings |= {f"options/funcgraph-{o}": "1" for o in ("abstime", "proc", "cpu", "irqs")}
        settings |= {f"options/funcgraph-{o}": "0" for o in ("overhead", "duration")}
        try:
            choose(root)
            # The options of a tracer stand there once it is chosen.
            (root / "current_tracer").write_text("function_graph")
            for name, value in settings.items():
                (root / name).write_text(value)
            yield Graph(root)
        finally:
            (root / "current_tracer").write_text("nop")
            (root / "set_ftrace_filter").write_text("")


def choose(root: Path) -> None:
    """Sets the filter to the network's functions, those of its modules among them."""
    (root / "set_ftrace_filter").write_text("")
    for pattern in (*FILTER, *(f"*:mod:{m}" for m in MODULES)):
        with (root / "set_ftrace_filter").open("a") as f:
            try:
                f.write(pattern)
                f.flush()
            except OSError:
                if ":mod:" not in pattern and "*" not in pattern:
                    continue  # this kernel has no such function
    if not (root / "set_ftrace_filter").read_text().strip():
        raise TraceError("none of the network's functions can be traced")


def traced(root: Path) -> list[str]:
    """The functions that are traced: those of the network that this kernel has out of line."""
    lines = (root / "set_ftrace_filter").read_text().splitlines()
    return sorted({without_suffix(line.split()[0]) for line in lines if line})


def parse_graph(text: str) -> list[KernelCall]:
    """The calls of a trace file of function_graph with abstime and proc, in order."""
    out: list[KernelCall] = []
    open_calls: dict[tuple[int, int], list[str]] = {}
    for line in text.splitlines():
        m = _LINE.match(line)
        call = _CALL.match(m["rest"]) if m is not None else None
        if m is None or call is None:
            continue
        depth = len(call["indent"]) // 2
        stack = open_calls.setdefault((int(m["pid"]), int(m["cpu"]) if m["pid"] == "0" else -1), [])
        del stack[depth:]
        stack.append(without_suffix(call["name"]))
        sec, _, usec = m["time"].partition(".")
        time = (int(sec) * 1_000_000 + int(usec[:6].ljust(6, "0"))) * 1000
        context, at = context_of(stack)
        chain, within = tuple(stack[at:]), tuple(stack[:at])
        out.append(KernelCall(time, context, chain, "call", m["task"].strip(), within, -1, int(m["cpu"])))
    return out


def context_of(stack: Sequence[str]) -> tuple[str, int]:
    """Who does the work at the end of a stack, and where in it that begins."""
    for i in range(len(stack) - 1, -1, -1):
        if stack[i] in SOFTIRQ:
            while i > 0 and stack[i - 1] in SOFTIRQ:
                i -= 1
            return "softirq", i
        if stack[i] in HARDIRQ:
            while i > 0 and stack[i - 1] in HARDIRQ:
                i -= 1
            return "hardirq", i
    return "process", 0
