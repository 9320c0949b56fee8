"""Routing: the forwarding information base of IPv4 and IPv6, addresses, policy rules, route choice on output and input.

Read `types`, then `leaf` (how one route is looked at), `trie`, `rules`, `semantics`, `devinet`, `frontend`, `route`.
"""

from refmodel.fib import leaf

__all__ = ["leaf"]
