"""Routing: the forwarding information base, addresses, policy rules, route choice on output and input, exceptions.

Read `types`, then the machines `leaf` (a table lookup), `policy` (the rules), `source` (a packet that comes in) and
`fnhe` (path MTU and redirects); then the functions that use them: `lookup`, `semantics`, `trie`, `frontend`, `devinet`,
`select`, `exceptions`, `route`, `asked`, `getroute`. IPv6: `types6`, `addrconf`, `fib6_tables`, `fib6`, `getroute6`.
"""

from refmodel.fib import devinet, exceptions, fnhe, frontend, getroute, leaf, policy, route, source
from refmodel.fib.net import Fib

__all__ = ["Fib", "devinet", "exceptions", "fnhe", "frontend", "getroute", "leaf", "policy", "route", "source"]
