from __future__ import annotations

import json
import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.speech.clips import CLIPS_DIRECTORY, SpeechError, load_clips, packet_levels
from testbed.speech.opus_file import (
    PACKET_SAMPLES,
    RATE_HZ,
    decode_opus,
    encode_opus,
    read_packets,
    write_opus,
)

BOTS = ("alice", "bob", "carol")
README = Path(__file__).parents[3] / "models" / "whisper-words-ct2" / "README.md"
ENTRY = {
    "file": "a.wav",
    "speaker": "alice",
    "text": "good morning",
    "words": [
        {"word": "good", "start_s": 0.1, "end_s": 0.3},
        {"word": "morning", "start_s": 0.3, "end_s": 0.8},
    ],
}


def _wav(path: Path, *, seconds: float = 1.0, rate_hz: int = 16_000) -> None:
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = (8000 * np.sin(2 * np.pi * 440 * times_s)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(tone.tobytes())


def _folder(tmp_path: Path, *entries: dict[str, Any]) -> Path:
    _wav(tmp_path / "a.wav")
    (tmp_path / "index.json").write_text(json.dumps({"clips": list(entries)}))
    return tmp_path


def test_the_bundled_clips_load_and_use_only_words_that_the_model_knows() -> None:
    clips = load_clips(CLIPS_DIRECTORY, speakers=BOTS)
    vocabulary = set(
        re.findall(r"[a-z]+", README.read_text().split("## Vocabulary")[1].split("\n\n")[1])
    )
    assert len(vocabulary) == 97
    for clip in (clip for own in clips.values() for clip in own):
        assert set(clip.text.split()) <= vocabulary
        assert 3 <= len(clip.words) <= 8
        assert 1.9 <= clip.duration_s <= 3.5
        assert " ".join(word.text for word in clip.words) == clip.text


def test_the_bundled_clips_speak_with_one_trained_voice_per_bot() -> None:
    index = json.loads((CLIPS_DIRECTORY / "clips.json").read_text())
    voices = {(clip["speaker"], clip["voice"]) for clip in index["clips"]}
    assert len(voices) == len({voice for _, voice in voices}) == len(BOTS)
    for _, voice in voices:
        assert re.fullmatch(r"(en-us|gmw/en|en-gb-x-rp)(\+(m[1-7]|f[1-4]))?", voice)


def test_the_bundled_clips_are_small() -> None:
    assert sum(path.stat().st_size for path in CLIPS_DIRECTORY.iterdir()) < 600_000


def test_word_times_of_the_bundled_clips_are_where_the_sound_is() -> None:
    for clip in load_clips(CLIPS_DIRECTORY, speakers=BOTS)["bob"]:
        loud_s = np.flatnonzero(np.abs(clip.samples) > 0.02) / RATE_HZ
        assert clip.words[0].start_s == pytest.approx(loud_s[0], abs=0.05)
        assert clip.words[-1].end_s == pytest.approx(loud_s[-1], abs=0.1)


def test_wav_clips_of_another_rate_become_opus_packets_of_the_same_sound(tmp_path: Path) -> None:
    clips = load_clips(_folder(tmp_path, ENTRY), speakers=("alice",))["alice"]
    assert len(clips[0].packets) == 50
    spectrum = np.abs(np.fft.rfft(clips[0].samples[:RATE_HZ]))
    assert np.argmax(spectrum) == 440


def test_clips_without_a_speaker_are_dealt_in_turn(tmp_path: Path) -> None:
    anonymous = {key: value for key, value in ENTRY.items() if key != "speaker"}
    clips = load_clips(_folder(tmp_path, anonymous, anonymous, anonymous), speakers=BOTS)
    assert [len(clips[bot]) for bot in BOTS] == [1, 1, 1]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"speaker": "zoe"},
            marks=pytest.mark.documents("speech-of-your-own-that-the-demo-cannot-use/6"),
        ),
        pytest.param(
            {"file": "../a.wav"},
            marks=pytest.mark.documents("speech-of-your-own-that-the-demo-cannot-use/8"),
        ),
        pytest.param(
            {"text": ""},
            marks=pytest.mark.documents("speech-of-your-own-that-the-demo-cannot-use/9"),
        ),
        pytest.param(
            {"text": "good evening"},
            marks=pytest.mark.documents("speech-of-your-own-that-the-demo-cannot-use/10"),
        ),
        pytest.param(
            {"words": []},
            marks=pytest.mark.documents("speech-of-your-own-that-the-demo-cannot-use/11"),
        ),
        pytest.param(
            {"words": [{"word": "good"}]},
            marks=pytest.mark.documents("speech-of-your-own-that-the-demo-cannot-use/12"),
        ),
        pytest.param(
            {"text": "good", "words": [{"word": "good", "start_s": 0.5, "end_s": 1.5}]},
            marks=pytest.mark.documents("speech-of-your-own-that-the-demo-cannot-use/13"),
        ),
        pytest.param(
            {"words": [{"word": "good", "start_s": 0.5, "end_s": 0.4}]},
            marks=pytest.mark.documents("speech-of-your-own-that-the-demo-cannot-use/13"),
        ),
        pytest.param(
            {"file": "b.wav"},
            marks=pytest.mark.documents("speech-of-your-own-that-the-demo-cannot-use/14"),
        ),
    ],
)
def test_a_clip_that_cannot_be_used_is_named_with_the_wanted_form(
    tmp_path: Path, changes: dict[str, Any], documented: Any
) -> None:
    with pytest.raises(SpeechError) as refused:
        load_clips(_folder(tmp_path, ENTRY | changes), speakers=("alice",))
    documented.marked(str(refused.value))


@pytest.mark.documents(
    "speech-of-your-own-that-the-demo-cannot-use/15",
    "speech-of-your-own-that-the-demo-cannot-use/16",
)
def test_a_file_that_is_no_sound_or_too_long_is_named(
    tmp_path: Path, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _folder(tmp_path, ENTRY)
    with monkeypatch.context() as patch:
        patch.setattr("testbed.speech.clips._MAX_CLIP_S", 0.5)
        with pytest.raises(SpeechError) as too_long:
            load_clips(folder, speakers=("alice",))
    documented("speech-of-your-own-that-the-demo-cannot-use/16", str(too_long.value))
    (folder / "a.wav").write_bytes(b"not a sound")
    with pytest.raises(SpeechError) as no_sound:
        load_clips(folder, speakers=("alice",))
    documented("speech-of-your-own-that-the-demo-cannot-use/15", str(no_sound.value))


@pytest.mark.documents(
    "speech-of-your-own-that-the-demo-cannot-use",
    "speech-of-your-own-that-the-demo-cannot-use/2",
    "speech-of-your-own-that-the-demo-cannot-use/3",
    "speech-of-your-own-that-the-demo-cannot-use/4",
    "speech-of-your-own-that-the-demo-cannot-use/5",
)
def test_folders_without_a_usable_index_are_refused(tmp_path: Path, documented: Any) -> None:
    def refusal(folder: Path) -> str:
        with pytest.raises(SpeechError) as refused:
            load_clips(folder, speakers=BOTS)
        return str(refused.value)

    documented("speech-of-your-own-that-the-demo-cannot-use", refusal(tmp_path / "none"))
    documented("speech-of-your-own-that-the-demo-cannot-use/2", refusal(tmp_path))
    for number, index in ((3, "{"), (4, '{"clips": []}'), (5, '{"clips": [7]}')):
        (tmp_path / "a.json").write_text(index)
        documented(f"speech-of-your-own-that-the-demo-cannot-use/{number}", refusal(tmp_path))


@pytest.mark.documents("speech-of-your-own-that-the-demo-cannot-use/7")
def test_a_bot_without_clips_is_named(tmp_path: Path, documented: Any) -> None:
    with pytest.raises(SpeechError) as refused:
        load_clips(_folder(tmp_path, ENTRY), speakers=("alice", "bob"))
    documented("speech-of-your-own-that-the-demo-cannot-use/7", str(refused.value))


def test_encoded_sound_is_decoded_at_the_same_place() -> None:
    samples = np.zeros(RATE_HZ, np.float32)
    times_s = np.arange(RATE_HZ // 4) / RATE_HZ
    samples[RATE_HZ // 2 : RATE_HZ * 3 // 4] = 0.4 * np.sin(2 * np.pi * 500 * times_s)
    heard = decode_opus(encode_opus(samples))
    correlation = np.correlate(heard[20_000:40_000], samples[22_000:38_000])
    assert np.argmax(correlation) == pytest.approx(2000, abs=5)


def test_a_written_file_gives_back_its_packets_as_they_are(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, RATE_HZ).astype(np.float32)
    write_opus(tmp_path / "a.opus", samples)
    packets = read_packets(tmp_path / "a.opus")
    assert packets is not None
    assert len(decode_opus(packets)) == len(packets) * PACKET_SAMPLES


def test_levels_are_minus_dbov_of_each_packet() -> None:
    loud = np.full(PACKET_SAMPLES, 1.0, np.float32)
    quiet = np.full(PACKET_SAMPLES, 0.01, np.float32)
    silence = np.zeros(PACKET_SAMPLES, np.float32)
    assert packet_levels(np.concatenate([loud, quiet, silence])) == (0, 40, 127)
