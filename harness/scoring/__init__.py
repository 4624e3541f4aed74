"""A model and tasks -> one record per item: packed scorer, decoder, stored results.

May import: core, statistics, tasks, models.
Face: evaluate, stored, backend, decoding.
"""
