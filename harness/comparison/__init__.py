"""Records of a base and a candidate -> changes, scorecards, methods against each other.

May import: core, statistics, tasks, models, suites, scoring. Never torch.
Face: compare, changes, pairing, methods.
"""
