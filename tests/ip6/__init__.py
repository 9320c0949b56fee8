"""IPv6: proofs, seeded faults, behaviour, and the live kernel."""
