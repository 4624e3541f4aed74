"""What answers the tasks: our trie scorer, llama.cpp, or any model of lm-eval, behind one protocol.

May import: core, tasks, models, and scoring's backend.
Face: protocol, opening.
"""
