"""One cell's training: the jobs of its stages, their checkpoints, and what was damaged since."""
