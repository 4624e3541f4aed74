"""What a user's method, target and task must keep, as rules that run; skeletons that keep them.

May import: all rooms up to running, and trainers. The package's own are tested by the same rules.
Face: check, skeletons, new_target.
"""
