"""Before a run: how many items, and which tasks notice damage.

May import: all rooms up to gate.
Face: power_table, sensitivity.
"""
