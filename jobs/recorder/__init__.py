"""The recording job: joins a call, mixes and draws it, uploads an MP4. README.md shows the media's path.

Entered through `python -m jobs.recorder`.
"""
