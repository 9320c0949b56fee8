"""The model against the live kernel: random input on both sides, and what differs."""
