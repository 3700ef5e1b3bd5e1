"""Judges a recorded and transcribed call by its content: pure functions over files and the truth.

Recording time is seconds since the recording's start; the truth is on the monotonic clock. `evidence.py`
brings the two together, `checks.py` says what is good enough and why.
"""
