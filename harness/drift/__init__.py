"""How far and where the weights moved.

May import: core, statistics, tasks, models, suites, scoring.
Face: measure.
"""
