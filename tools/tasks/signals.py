"""Recordings and images of a user's task file: read from their files, held to the content they had when they were taken up."""

import hashlib
import io
import wave
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from tools.tasks.example import Signal, TaskError

Kind = Literal["audio", "image"]
KINDS: tuple[Kind, ...] = ("audio", "image")
KEPT = 2048  # files whose content is kept in memory


def taken_up(kind: Kind, name: str, folder: Path) -> dict[str, str]:
    """What is stored of a file: where it lies, its name as it was given, and the SHA-256 of its content. TaskError where
    it cannot be read.
    """
    path = (folder / Path(name).expanduser()).resolve()
    found = {"path": str(path), "name": name, "sha": hashlib.sha256(_content(kind, path)).hexdigest()}
    signal(kind, found)
    return found


def signal(kind: Kind, stored: dict[str, str]) -> Signal:
    """The recording or image that was stored; TaskError where its file is gone, or is another one by now."""
    path = Path(stored["path"])
    try:
        stat = path.stat()
    except OSError as error:
        why = f"{kind} {path} is gone ({error.strerror}): put the file back, or begin a new run"
        raise TaskError(why) from None
    return _read(kind, path, stored["name"], stored["sha"], (stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=KEPT)
def _read(kind: Kind, path: Path, name: str, sha: str, _: tuple[int, int]) -> Signal:
    content = _content(kind, path)
    if hashlib.sha256(content).hexdigest() != sha:
        raise TaskError(f"{kind} {path} has changed since the task was read: put the file back, or begin a new run")
    return _recording(content, path, name) if kind == "audio" else _image(content, path, name)


def _content(kind: Kind, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TaskError(_unreadable(kind, path, error)) from None


def _unreadable(kind: Kind, path: Path, error: OSError) -> str:
    return f"{kind} {path} cannot be read ({error.strerror}): paths are relative to the task file"


def _recording(content: bytes, path: Path, name: str) -> Signal:
    """One channel of 16-bit PCM as float32 in -1 ... 1, at its own rate."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise TaskError(f"audio {path} is no WAV file of 16-bit PCM: {error or 'it ends too early'}") from None
    if channels != 1 or width != 2:
        raise TaskError(f"audio {path} has {channels} channels of {8 * width} bits: give one channel of 16-bit PCM")
    data = np.frombuffer(frames[: len(frames) // 2 * 2], dtype="<i2").astype(np.float32) / 32768
    if not len(data):
        raise TaskError(f"audio {path} has no samples")
    return Signal(data, name, rate)


def _image(content: bytes, path: Path, name: str) -> Signal:
    """(height, width, 3) as uint8."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            return Signal(np.asarray(image.convert("RGB")).copy(), name)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TaskError(f"image {path} is no PNG or JPEG that can be read: {error}") from None
