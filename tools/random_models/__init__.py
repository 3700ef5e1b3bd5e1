"""Whisper models of the real sizes with random weights: for measuring time, they understand nothing.

python -m tools.random_models [tiny base small] [--ggml] [--target .cache/random-models]
"""
