"""How well speech is understood: word errors, times and speakers, after the call and live.

    make bench-accuracy [BENCH_ARGS="--quick"]      python -m benchmarks.speech_accuracy; needs libespeak-ng1
    make test-model MODELS_DIR=… [MODEL_ARGS="…"]   python -m benchmarks.speech_accuracy.trial; any model

The first one speaks with espeak-ng what the bundled model of 97 words knows; the second one takes recordings
with their texts. Both go through the transcriber's own captures, ears, engine and captions, in virtual time.
"""
