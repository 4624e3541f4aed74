"""The command line: one file is one family of verbs.

May import: every room.
Face: main.
"""
