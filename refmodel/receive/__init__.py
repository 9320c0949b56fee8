"""The core's receive side: backlog, NAPI and GRO, taps and the hand-over to the protocols.

Read backlog, then napi, gro, gro_inet, gro_transport, and core.
"""
