"""Frozen tasks: find, read, verify, freeze; contamination of training data.

May import: core.
Face: catalogue, lock, pack, freeze, training_data.
"""
