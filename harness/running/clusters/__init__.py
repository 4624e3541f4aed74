"""Cells on a cluster: tasks of Ray, jobs of Slurm."""
