"""What all rooms share: errors, paths, records and suite as data, storage, escaping, formatting.

May import: no other room. Never torch.
Face: records, scorecards, storage, schema, verdicts, paths.
"""
