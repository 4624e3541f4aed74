"""Measure the project beside its peers.

May import: every room but cli.
Face: bench.
"""
