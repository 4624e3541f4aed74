"""One public file is one post-training method; `_*.py` hold what all methods share."""
