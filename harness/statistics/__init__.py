"""Intervals, verdicts, several tasks and seeds, power: numpy and scipy, no files.

May import: core.
Face: verdict, multiplicity, seeds, power, flips.
"""
