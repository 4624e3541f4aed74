"""Intervals, verdicts, several tasks and seeds, power: numpy and scipy, no files.

May import: core.
Face: estimate, verdict, multiplicity, power, flips; methods.seeds and methods.pairwise.
"""
