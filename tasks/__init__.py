"""Frozen retention tasks and targets: one folder is one task."""
