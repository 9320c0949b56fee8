"""IPv4: packets in, out and through; options, fragments, reassembly, super-segments, ICMP.

Read in this order: `header` (the bytes), `input` and `listed`, `forward`, `output`, `append` (datagrams that are put
together), `fragment`, `reasm` with `ipq` (what it decides), `options`, `gso`, `icmp` and `icmprcv`, `limits`, `ident`.
`net` is what IP keeps, `env` what it asks of its neighbours.
"""
