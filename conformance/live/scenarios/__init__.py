"""The scenarios by name: small functions that make a real kernel do one thing."""

from conformance.live.scenarios.registry import SCENARIOS, Scenario, find, scenario

__all__ = ["SCENARIOS", "Scenario", "find", "scenario"]
