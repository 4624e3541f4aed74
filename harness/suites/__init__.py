"""YAML -> a checked suite -> a plan of cells; which methods exist.

May import: core, statistics, tasks, models.
Face: loading, plan, methods.
"""
