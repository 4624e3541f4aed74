"""Several checkpoints from base to release in one certificate: every step, and the whole way.

May import: what certificate may.
Face: certify, verify.
"""
