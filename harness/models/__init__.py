"""A checkpoint on disk: find it, refuse what is unsafe, identify it, load it.

May import: core.
Face: bases, loading, identity, compatibility.
"""
