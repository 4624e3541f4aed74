"""Results of other harnesses -> records: lm-eval, lighteval, Inspect.

May import: core, statistics, tasks, models, suites, scoring. Never torch.
Face: pair.
"""
