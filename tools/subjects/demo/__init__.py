"""The built-in demo subject: a small GPT-2 trained by `train.py` on tasks with known answers."""
