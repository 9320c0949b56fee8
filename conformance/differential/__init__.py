"""Differentials: random setups and questions, the model's answers held against the running kernel's."""
