"""The folders of `MODELS_DIR` as files: listed, verified, made from what others publish.

`python -m jobs.transcriber.model_files` is behind `offloader models`. Listing and verifying read files only:
no engine is loaded.
"""
