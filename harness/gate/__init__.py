"""Records or scorecards and a policy -> a verdict, and what CI shows of it.

May import: all rooms up to comparison and divergence. Never torch.
Face: decide, command, ci.
"""
