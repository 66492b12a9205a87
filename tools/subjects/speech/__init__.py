"""The built-in speech subject: a small Whisper trained by `train.py` on synthetic speech with known words and word times."""
