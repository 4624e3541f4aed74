"""Execute a plan: train, score, resume; in this process, in worker processes or on Ray.

May import: all rooms up to divergence, and trainers.
Face: run.
"""
