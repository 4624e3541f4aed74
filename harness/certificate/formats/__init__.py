"""A certificate's numbers as other tools write them: one file per format, and what all work from.

May import: whatever `certificate` may.
Face: the functions that `certificate/export.py` names in `FORMATS`.
"""
