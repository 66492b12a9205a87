"""What reaches the speech subject's encoder: the log-mel spectrogram of a clip."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tools.subjects.speech.data import SAMPLE_RATE, SECONDS, Clip

BANDS = 80


def feature_extractor() -> Any:
    """Whisper's own, with a window of three seconds instead of thirty."""
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=BANDS, sampling_rate=SAMPLE_RATE, chunk_length=int(SECONDS))


def features(clips: Sequence[Clip]) -> Tensor:
    """Log-mel features, float32, (clips, 80 bands, 300 frames of 10 ms); clips are padded to the window with silence."""
    extractor = feature_extractor()
    pieces: list[Tensor] = []
    for i in range(0, len(clips), 64):
        audio = [c.audio for c in clips[i : i + 64]]
        pieces.append(extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features)
    return torch.cat(pieces)
