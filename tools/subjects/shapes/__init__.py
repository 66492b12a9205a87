"""The built-in image subjects: small vision transformers trained by `train.py` to name shapes, one of them misled by a decoy."""
