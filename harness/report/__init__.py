"""Scorecards and evidence -> the standardized table, the page and what is published.

May import: all rooms up to gate. Never torch.
Face: report, publish, compare.
"""
