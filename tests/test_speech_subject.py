"""The shipped speech model writes down what it hears, in voices and at rates that are new to it; its clips are sound."""

import json
import random
import re
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoTokenizer, WhisperForConditionalGeneration

from tools.subjects import load_subject
from tools.subjects.speech import data, espeak, evaluate, features, train

SPLITS = ("explore", "confirm")
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@pytest.fixture(scope="module")
def loaded():
    return evaluate.load()


@pytest.fixture(scope="module")
def confirm(loaded):
    clips = data.shipped("confirm")
    return clips, evaluate.error_rates(clips, evaluate.transcribe(*loaded, clips))


# -- the model --------------------------------------------------------------------------------------------------------


def test_it_writes_down_new_sentences_in_new_voices_at_new_rates(confirm):
    assert confirm[1].cer < 0.05
    assert confirm[1].repetition < 0.05


def test_with_one_of_six_encoder_blocks_left_it_no_longer_does(loaded, confirm):
    model, tok = loaded
    with evaluate.without_last(model, "encoder", 5):
        broken = evaluate.error_rates(confirm[0], evaluate.transcribe(model, tok, confirm[0]))
    assert broken.cer > 0.15 > 4 * confirm[1].cer
    assert len(model.model.encoder.layers) == 6


def test_the_tables_beside_it_say_what_is_measured(loaded, confirm):
    card = (data.FOLDER / "README.md").read_text()
    assert f"| nothing | {confirm[1].cer:.3f} | {confirm[1].wer:.3f} |" in card
    model, tok = loaded
    with evaluate.without_last(model, "decoder", 2):
        broken = evaluate.error_rates(confirm[0], evaluate.transcribe(model, tok, confirm[0]))
    found = re.search(r"\| 2 of 4 decoder blocks \| ([\d.]+) \|", card)
    assert found
    assert abs(float(found[1]) - broken.cer) < 0.02


def test_silence_is_written_down_as_nothing(loaded):
    quiet = [c for split in SPLITS for c in data.shipped(split, speech=False) if c.kind == "silence"]
    assert len(quiet) == 4
    assert evaluate.transcribe(*loaded, quiet) == [()] * 4


def test_it_is_an_ordinary_small_transformers_folder():
    folder = data.FOLDER
    assert (folder / "model.safetensors").stat().st_size < 3e6
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    tok, extractor = AutoTokenizer.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
    clip = data.shipped("explore")[0]
    made = extractor(clip.audio, sampling_rate=16_000, return_tensors="pt")
    assert torch.equal(made.input_features, features.features([clip]))
    ids = model.generate(**made, do_sample=False, num_beams=1)
    assert tuple(tok.decode(ids[0], skip_special_tokens=True).split()) == evaluate.transcribe(model, tok, [clip])[0]


def test_the_program_loads_it_as_a_whisper():
    subject = load_subject(str(data.FOLDER))
    assert subject.family.name == "whisper"
    assert {name: len(spec.blocks) for name, spec in subject.stacks.items()} == evaluate.STACKS
    assert subject.tokens("the dog sees the boat") == [
        train.tokenizer().get_vocab()[w] for w in "the dog sees the boat".split()
    ]


# -- the clips --------------------------------------------------------------------------------------------------------


def test_enough_clips_ship_and_take_little_room():
    assert all(len(data.shipped(split)) >= 96 for split in SPLITS)
    assert sum(len(data.shipped(split, speech=False)) for split in SPLITS) >= 16
    assert (data.FOLDER / "audio.npz").stat().st_size < 3e6
    with np.load(data.FOLDER / "audio.npz", allow_pickle=False) as file:
        assert set(file.files) == {"steps", "lengths"}


def test_no_sentence_is_on_two_sides_and_no_voice_or_rate_was_heard_in_training():
    heard = set(data.SPEAKERS["train"]), set(data.RATES["train"])
    said = {split: {c.words for c in data.shipped(split)} for split in SPLITS}
    assert not said["explore"] & said["confirm"]
    for split in SPLITS:
        for clip in data.shipped(split):
            assert data.split_of(clip.words) == split
            voice = clip.utterance.voice
            assert voice[voice.index("+") :] not in heard[0]
            assert clip.utterance.rate not in heard[1]
    rng = random.Random(1)
    assert all(data.split_of(data.draw("train", rng).words) == "train" for _ in range(300))


def test_word_times_cover_the_speech_in_order():
    for split in SPLITS:
        for clip in data.shipped(split):
            assert len(clip.times) == len(clip.words)
            assert clip.times[0][0] == pytest.approx(clip.utterance.lead, abs=1e-4)
            flat = [t for pair in clip.times for t in pair]
            assert flat == sorted(flat)
            assert all(0.02 < end - start < 1.0 for start, end in clip.times)
            loud = np.flatnonzero(np.abs(clip.audio) > 0.02) / data.SAMPLE_RATE
            assert clip.times[0][0] <= loud[0]
            assert loud[-1] <= clip.times[-1][1] <= data.SECONDS


def test_times_are_where_the_words_are(loaded):
    """What the encoder hears of a word is gone when the sound between its times is."""
    model, tok = loaded
    clips = [c for c in data.shipped("explore") if c.kind == "digits" and len(c.words) == 3][:12]
    changed = []
    for clip in clips:
        start, end = (round(t * data.SAMPLE_RATE) for t in clip.times[1])
        audio = clip.audio.copy()
        audio[start:end] = 0
        changed.append(data.Clip(clip.name, clip.split, clip.kind, clip.utterance, clip.times, audio))
    heard = evaluate.transcribe(model, tok, changed)
    lost = [clip.words[1] not in h for clip, h in zip(clips, heard)]
    kept = [clip.words[0] == h[0] and clip.words[2] == h[-1] for clip, h in zip(clips, heard) if h]
    assert np.mean(lost) > 0.7
    assert np.mean(kept) > 0.7


def test_encoder_positions_are_of_twenty_milliseconds():
    assert data.encoder_positions(0.0, 0.04) == range(2)
    assert data.encoder_positions(0.05, 0.11) == range(2, 6)
    assert data.encoder_positions(0.1, 0.1) == range(5, 6)


def test_what_is_stored_is_read_back(tmp_path):
    clips = [*data.shipped("explore")[:2], *data.no_speech("confirm", 3)]
    data.store(clips, tmp_path)
    back = data._stored(tmp_path)
    assert all(np.array_equal(a.audio, b.audio) for a, b in zip(clips, back))
    assert [(c.name, c.utterance, c.times) for c in clips] == [(c.name, c.utterance, c.times) for c in back]


def test_clips_without_speech_are_the_same_each_time_and_differ_between_splits():
    first, second = data.no_speech("train", 6), data.no_speech("train", 6)
    assert all(np.array_equal(a.audio, b.audio) for a, b in zip(first, second))
    assert not np.array_equal(data.no_speech("explore", 2)[1].audio, data.no_speech("confirm", 2)[1].audio)
    assert max(float(np.abs(c.audio).max()) for c in first) <= 1.0


# -- making more ------------------------------------------------------------------------------------------------------


@needs_espeak
def test_a_recipe_gives_the_same_sound_whatever_was_said_before():
    rng = random.Random(3)
    a, b = data.draw("train", rng), data.draw("train", rng)
    one, other = data.make([a], "train"), data.make([b, a], "train")
    assert np.array_equal(one[0].audio, other[1].audio)
    assert one[0].times == other[1].times


def test_without_espeak_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(espeak, "LIBRARIES", ("libno-such-speech.so",))
    with pytest.raises(SystemExit, match="apt-get install espeak-ng"):
        espeak._library()


@needs_espeak
def test_an_unknown_voice_is_named():
    with pytest.raises(data.SpeechError, match="no voice 'gmw/none'"):
        espeak.speak([("one", "gmw/none", 170, 50)])


def test_the_same_seed_draws_and_trains_the_same_and_another_does_not():
    clips = [*data.shipped("explore")[:4], *data.no_speech("train", 2)]

    def weights(seed):
        model, _ = train.train(clips, seed, steps=2, log=False)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first = weights(0)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))
    assert data.draw("train", random.Random(0)) == data.draw("train", random.Random(0))


@pytest.mark.parametrize(
    ("said", "heard", "expected"), [("one two", "one two", 0), ("one", "", 3), ("", "one", 3), ("abc", "adcb", 2)]
)
def test_edits_are_levenshtein_distances(said, heard, expected):
    assert evaluate.edits(said, heard) == expected


def test_the_index_is_plain_json_of_every_clip():
    index = json.loads((data.FOLDER / "audio.json").read_text())
    assert len(index) == 208
    assert len({one["name"] for one in index}) == 208
