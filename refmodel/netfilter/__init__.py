"""netfilter: hooks, tables, connection tracking, NAT (Linux 6.12 as reference).

`netfilter.Netfilter` is what a namespace has of it. The TCP tracker and the token bucket are proved machines (`tcp`,
`limit`); all else are the kernel's functions on the kernel's objects. A reading order: `core` (hooks), `tables`,
`matches`, `targets`, `reject` (rulesets), `tuples`, `conn`, `conntrack`, `proto`, `tcp_state`, `tcp_window`, `tcp`
(connections), `nat`, `nat_proto`.
"""

from refmodel.netfilter import limit, tcp, tcp_properties

__all__ = ["limit", "tcp", "tcp_properties"]
