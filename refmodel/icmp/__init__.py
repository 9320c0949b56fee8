"""ICMP and ICMPv6 (net/ipv4/icmp.c, net/ipv6/icmp.c): messages that arrive, answers, errors that are sent."""
