"""How far the answers moved: KL between base and candidate.

May import: core, statistics, tasks, models, suites, scoring.
Face: measure.
"""
