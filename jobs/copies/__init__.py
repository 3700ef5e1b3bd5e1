"""Copies of a job's directory on another machine, made while the job runs (docs/copies.md)."""
