"""Speech by the espeak-ng library, with the times of its words.

Runs as a program of its own: `speak` starts it anew for each list, because the library carries the state of its voice from
one utterance to the next; only a fresh process says the same thing in the same way. It needs numpy and the library alone.
"""

import ctypes
import json
import subprocess
import sys
from ctypes import POINTER, Structure, c_char_p, c_int, c_short, c_uint, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIBRARIES = ("libespeak-ng.so.1", "libespeak-ng.so", "libespeak-ng.1.dylib", "libespeak-ng.dll")
SYNCHRONOUS, RATE, PITCH, CHARACTERS, UTF8 = 2, 1, 3, 1, 1  # constants of speak_lib.h
END_OF_LIST, WORD = 0, 1


class SpeechError(RuntimeError):
    """Speech cannot be made: espeak-ng or one of its voices is missing."""


@dataclass(frozen=True)
class Spoken:
    """What the library said. samples: int16, (time,) at `rate` per second; starts: the sample at which each word starts."""

    samples: NDArray[np.int16]
    rate: int
    starts: tuple[int, ...]


class _Event(Structure):
    _fields_ = (
        ("type", c_int), ("unique_identifier", c_uint), ("text_position", c_int), ("length", c_int),
        ("audio_position", c_int), ("sample", c_int), ("user_data", c_void_p), ("id", c_int * 2),
    )  # fmt: skip


def speak(asked: list[tuple[str, str, int, int]]) -> list[Spoken]:
    """Say (text, voice, words per minute, pitch 0 to 99) one after the other in a fresh process.

    The same list gives the same samples with the same version of espeak-ng. Raises SpeechError.
    """
    command = [sys.executable, str(Path(__file__))]
    done = subprocess.run(command, input=json.dumps(asked).encode(), capture_output=True)  # noqa: S603 (this file)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise SpeechError(lines[-1] if lines else f"espeak-ng ended with code {done.returncode}")
    head, _, body = done.stdout.partition(b"\n")
    said: list[Spoken] = []
    at = 0
    for one in json.loads(head):
        samples = np.frombuffer(body, np.int16, one["length"], at)
        at += samples.nbytes
        said.append(Spoken(samples, one["rate"], tuple(one["starts"])))
    return said


def _library() -> ctypes.CDLL:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    sys.exit("espeak-ng is not installed: it is needed to make new speech (on Debian: apt-get install espeak-ng)")


def _main() -> None:
    """Read the list from standard input; write one line of JSON and then all samples to standard output."""
    library = _library()
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, None, 0)
    if rate <= 0:
        sys.exit("espeak-ng is installed without its voices (espeak-ng-data)")
    pieces: list[NDArray[np.int16]] = []
    starts: dict[int, int] = {}

    def take(wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        i = 0
        while events[i].type != END_OF_LIST:
            if events[i].type == WORD and events[i].text_position:  # counted from 1; an event at 0 follows some texts
                starts.setdefault(events[i].text_position, int(events[i].sample))
            i += 1
        return 0

    callback = ctypes.CFUNCTYPE(c_int, POINTER(c_short), c_int, POINTER(_Event))(take)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName.argtypes = [c_char_p]
    head: list[dict[str, Any]] = []
    body: list[bytes] = []
    for text, voice, speed, pitch in json.load(sys.stdin):
        pieces.clear()
        starts.clear()
        if library.espeak_SetVoiceByName(voice.encode()):
            sys.exit(f"espeak-ng has no voice {voice!r}")
        library.espeak_SetParameter(RATE, speed, 0)
        library.espeak_SetParameter(PITCH, pitch, 0)
        data = text.encode() + b"\0"
        library.espeak_Synth(data, len(data), 0, CHARACTERS, 0, UTF8, None, None)
        samples = np.concatenate(pieces)
        head.append({"length": len(samples), "rate": rate, "starts": [starts[p] for p in sorted(starts)]})
        body.append(samples.tobytes())
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + b"".join(body))


if __name__ == "__main__":
    _main()
