"""Score a checkpoint, decide, write a certificate; sign, verify and export it.

May import: every room but cli.
Face: certify, verify, export. `checks/` has what verify compares, `formats/` what export writes.
"""
