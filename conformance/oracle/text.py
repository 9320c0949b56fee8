"""Segments and addresses as text."""

from conformance.check.tcp import address, line

__all__ = ["address", "line"]
