"""netfilter: hooks, tables, connection tracking, NAT (Linux 6.12 as reference).

`netfilter.Netfilter` is what a namespace has of it. The TCP tracker, an entry's life and the token bucket are proved
machines (`tcp`, `entry`, `limit`); all else are the kernel's functions on the kernel's objects.
"""
