"""Where jobs and clients are kept: the port in `base.py`, a memory store, and SQL."""
