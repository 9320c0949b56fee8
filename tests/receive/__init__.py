"""The receive side: proofs, seeded faults, behaviour, and GRO against the live kernel."""
