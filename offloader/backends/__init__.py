"""What can run a job: one module per backend behind the port of `base.py`, imported only when chosen."""
