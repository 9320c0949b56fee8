"""IPv6: input, extension headers, reassembly, forwarding, output, fragments, ICMPv6 and its routes.

Read net, input, exthdrs, frag and reasm, then forward, output, icmp and icmprcv; route is the table.
"""
