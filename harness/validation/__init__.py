"""Check the statistics and the frozen packs by simulation and comparison.

May import: every room but cli.
Face: simulate, simulate_gate, freeze_check.
"""
