"""What our transcriber adds to the model's own work, and its time beside whisper.cpp's.

    make bench-speech [BENCH_ARGS="--quick"]
    python -m benchmarks.speech_cost [--quick] [--rounds 5] [--without-whisper-cpp]

Models of the real dimensions with random weights (tools.random_models), 80 tokens of text for each 30 s.
Ratios within one run, median of 5. whisper.cpp comes from PyPI (pywhispercpp), into a virtual environment
under .cache.
"""
