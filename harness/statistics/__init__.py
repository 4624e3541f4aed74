"""Intervals, verdicts, several tasks and seeds, power: numpy and scipy, no files.

May import: core.
Face: estimate, verdict, multiplicity, seeds, pairwise, power, flips.
"""
