"""Speech: a recording that an encoder reads, and its words, which a decoder writes. Whisper and its kind."""

import io
import json
import wave
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tools.ports.port import Encoded, PortError, Shown
from tools.ports.seq2seq import SequenceToSequence, start_token
from tools.ports.text import check_words
from tools.subjects import Subject
from tools.tasks import Example, Signal, Task

ENGLISH = "<|en|>"
KEPT = 4096  # recordings whose features are kept


class Speech(SequenceToSequence):
    """Inputs: `audio`, one channel as float32 at the model's own rate, and for a model of several languages `into`, the token of
    the one that is spoken. Spans are in milliseconds.
    """

    name = "speech"
    reads = ("audio",)

    def source(self, subject: Subject, example: Example) -> tuple[tuple[Any, ...], int, Any]:
        """Log-mel features (bins, frames) of the recording, padded with silence to the length that the model hears."""
        audio = example.inputs.get("audio")
        if not isinstance(audio, Signal) or audio.data.ndim != 1:
            raise PortError(f"{example.shown!r} has no audio: {subject.name} hears recordings of one channel")
        extractor = _extractor(subject)
        if audio.rate not in (None, extractor.sampling_rate):
            raise PortError(
                f"{audio.name} has {audio.rate} samples a second, and {subject.name} hears {extractor.sampling_rate}: convert it, "
                f"for example with ffmpeg -i in.wav -ac 1 -ar {extractor.sampling_rate} -c:a pcm_s16le out.wav"
            )
        return (audio.sha,), self._positions(subject), _features(extractor, audio)

    def prefix(self, subject: Subject, example: Example) -> tuple[int, ...]:
        """What the decoder is given first, as transformers' own generation gives it.

        Its start; of a model that knows several languages the token of `into`, of the language that its generation settings
        name, or of English, and the token that asks to transcribe; then the one that asks for no times, where there is one.
        """
        start, given = start_token(subject), getattr(subject.model, "generation_config", None)
        languages: dict[str, int] = getattr(given, "lang_to_id", None) or {}
        named = str(example.inputs.get("into") or getattr(given, "language", None) or ENGLISH)
        language = named if named in languages or not languages else f"<|{named}|>"
        if "into" in example.inputs and language not in languages:
            known = f"it knows {', '.join(languages)}" if languages else "it knows one language"
            raise PortError(f"into: {named!r} is no language token of {subject.name}; {known}")
        told = [languages[language]] if language in languages else []
        if told:
            asks: dict[str, int] = getattr(given, "task_to_id", None) or {}
            task = getattr(given, "task", None) or "transcribe"
            told += [asks[task]] if task in asks else []
        times = getattr(given, "no_timestamps_token_id", None)
        return (start, *told, *([] if times is None else [int(times)]))

    def _positions(self, subject: Subject) -> int:
        return int(subject.model.config.max_source_positions)

    def sources(self, subject: Subject, read: Sequence[Any]) -> dict[str, Tensor]:
        """(batch, bins, frames) in the model's type."""
        return {"input_features": torch.stack(list(read)).to(subject.device, subject.dtype)}

    def noise_source(
        self, subject: Subject, length: int, generator: torch.Generator
    ) -> tuple[tuple[Any, ...], int, Any]:
        """Random features: what the model makes of them is no word."""
        config, n = subject.model.config, self._positions(subject)
        drawn = torch.randn(config.num_mel_bins, 2 * n, generator=generator)
        return (str(float(drawn[0, 0])),), n, drawn

    def span(self, subject: Subject, example: Example, role: str, stack: str, *, twin: bool = False) -> list[int]:
        """The encoder's positions whose stretch of time meets the span."""
        if stack != self.reading(subject):
            raise PortError(f"anchor {role!r} lies in the recording, which {self.reading(subject)} hears, not {stack}")
        spans = (example.twin_spans or example.spans) if twin else (example.spans or example.twin_spans)
        if role not in spans or len(spans[role]) != 2:
            known = ", ".join(["answer", *spans])
            raise PortError(
                f"anchor {role!r}: {example.shown!r} has no such span of time; its anchors are {known}, and -1, -2"
            )
        start, end = spans[role]
        step, n = milliseconds(subject), self._positions(subject)
        found = [i for i in range(n) if i * step < end and (i + 1) * step > start]
        if not found:
            raise PortError(
                f"anchor {role!r}: {start} to {end} ms lie after the {n * step:.0f} ms that the model hears"
            )
        return found

    def show(self, subject: Subject, example: Example, *, twin: bool = False) -> Shown | None:
        """What the model hears as a picture, low notes at the bottom, and the recording itself."""
        audio = ((example.twin_inputs or {}) if twin else example.inputs).get("audio")
        if not isinstance(audio, Signal):
            return None
        heard = _features(_extractor(subject), audio).numpy()[::-1]
        out, level = io.BytesIO(), np.clip((heard - heard.min()) / max(float(np.ptp(heard)), 1e-6), 0, 1)
        made = Image.fromarray((255 * (1 - level)).astype(np.uint8))
        made.resize((2 * made.width, 2 * made.height), Image.Resampling.NEAREST).save(out, "PNG")
        return Shown(audio.name, out.getvalue(), _wav(audio, _extractor(subject).sampling_rate))

    def check(self, subject: Subject, task: Task, examples: Sequence[Example]) -> None:
        """Refuse words that the tokenizer does not know."""
        super().check(subject, task, examples)
        check_words(subject, task, examples)

    def source_labels(self, subject: Subject, encoded: Encoded) -> list[str]:
        """The time at which each position begins."""
        step = milliseconds(subject)
        return [f"{i * step / 1000:.2f}s" for i in range(encoded.lengths[encoded.reads])]


def _wav(audio: Signal, rate: int) -> bytes:
    """The recording in 8 bits a sample."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(rate)
        file.writeframes((127.5 * (np.clip(audio.data, -1, 1) + 1)).round().astype(np.uint8).tobytes())
    return out.getvalue()


def milliseconds(subject: Subject) -> float:
    """How long a stretch of the recording one encoder position stands for: two frames, as the second convolution strides."""
    extractor = _extractor(subject)
    return 2000 * extractor.hop_length / extractor.sampling_rate


def _extractor(subject: Subject) -> Any:
    """Transformers' own feature extractor with the subject's settings. PortError where there are none."""
    if not subject.processor:
        raise PortError(f"{subject.name} came without preprocessor_config.json, which says how it hears")
    return _made(json.dumps(subject.processor, sort_keys=True))


@lru_cache(maxsize=8)
def _made(settings: str) -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(**{k: v for k, v in json.loads(settings).items() if k != "feature_extractor_type"})


@lru_cache(maxsize=KEPT)
def _features(extractor: Any, audio: Signal) -> Tensor:
    """(bins, frames), float32."""
    made = extractor(
        np.asarray(audio.data, dtype=np.float32), sampling_rate=extractor.sampling_rate, return_tensors="np"
    )
    return torch.from_numpy(made["input_features"][0]).float()


PORT = Speech()
