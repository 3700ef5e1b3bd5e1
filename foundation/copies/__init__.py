"""Copies of jobs' files on another machine: where they lie and how they are written (docs/copies.md).

Jobs write them, the job service reads those of jobs whose host is lost.
"""
