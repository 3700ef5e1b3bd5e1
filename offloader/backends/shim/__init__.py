"""The shim: a tiny process that owns one job's process, its log and its exit code.

Run as `python -I -S <this directory> OPTIONS command…`, so everything here imports the standard library
alone, and little of that. Files and signals: docs/job-contract.md 6.
"""
