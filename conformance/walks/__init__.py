"""Packets' walks: shown as text, diagrams and pages, and held against what a live kernel did."""
