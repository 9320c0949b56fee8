"""Captures whose truth is known: two whole TCPs, a faulty wire, and taps that see what a real tap would see.

`truth` makes them from seeds, `judge` holds a checker against what truly happened, `vantage` turns any capture into
what another tap would have written. Nothing here is judged by the model's own rules: the whole TCP says which function
sent each frame and what its host counted, and the tap is the only thing between that and the checker.
"""
