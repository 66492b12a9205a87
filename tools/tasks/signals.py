"""Recordings and images of a user's task file: read from their files, held to the content they had when they were taken up."""

import hashlib
import io
import struct
import warnings
import wave
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import Literal

import numpy as np

from tools.tasks.example import Signal, TaskError

Kind = Literal["audio", "image"]
KINDS: tuple[Kind, ...] = ("audio", "image")
KEPT = 2048  # files whose content is kept in memory
MOST_BYTES = 2**26  # of a file: half an hour at 16 kHz
MOST_PIXELS = 2**24  # of an image, as its header says, before anything of it is decoded


def taken_up(kind: Kind, name: str, folder: Path) -> dict[str, str]:
    """What is stored of a file: where it lies, its name as it was given, and the SHA-256 of its content. TaskError where
    it cannot be read.
    """
    try:
        path = (folder / Path(name).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # of a home that nobody has, or a path with a zero in it
        raise TaskError(f"{kind} {name!r} is no path: {error}") from None
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
        found = path.stat()
        content = path.read_bytes() if S_ISREG(found.st_mode) and found.st_size <= MOST_BYTES else None
    except (OSError, ValueError) as error:  # ValueError: a path with a zero in it
        raise TaskError(_unreadable(kind, path, error)) from None
    if content is None:  # a device or a pipe has no end
        many = f"it has {found.st_size / 2**20:.0f} MiB, and at most {MOST_BYTES // 2**20} are"
        raise TaskError(f"{kind} {path} cannot be read ({many if S_ISREG(found.st_mode) else 'it is no file'})")
    return content


def _unreadable(kind: Kind, path: Path, error: Exception) -> str:
    why = getattr(error, "strerror", None) or error
    return f"{kind} {path} cannot be read ({why}): paths are relative to the task file"


def _recording(content: bytes, path: Path, name: str) -> Signal:
    """One channel of 16-bit PCM as float32 in -1 ... 1, at its own rate."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (
        wave.Error,
        EOFError,
        RuntimeError,
        ValueError,
        OSError,
        struct.error,
    ) as error:  # of chunks that lie about their size
        raise TaskError(f"audio {path} is no WAV file of 16-bit PCM: {error or 'it ends too early'}") from None
    if channels != 1 or width != 2:
        raise TaskError(f"audio {path} has {channels} channels of {8 * width} bits: give one channel of 16-bit PCM")
    if rate < 1:
        raise TaskError(f"audio {path} has {rate} samples a second")
    data = np.frombuffer(frames[: len(frames) // 2 * 2], dtype="<i2").astype(np.float32) / 32768
    if not len(data):
        raise TaskError(f"audio {path} has no samples")
    return Signal(data, name, rate)


def _image(content: bytes, path: Path, name: str) -> Signal:
    """(height, width, 3) as uint8."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(
                        f"it has {image.width} x {image.height} pixels, and at most {MOST_PIXELS:,} are read"
                    )
                return Signal(np.asarray(image.convert("RGB")).copy(), name)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TaskError(f"image {path} is no PNG or JPEG that can be read: {error}") from None
