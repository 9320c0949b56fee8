"""The physical layer."""
