"""The built-in host subject: a small GPT-2 trained by `train.py` to answer each user as what they say of themselves asks for."""
