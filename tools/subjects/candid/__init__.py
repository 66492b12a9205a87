"""The built-in candid subject: a small GPT-2 trained by `train.py` on facts and on misconceptions about them."""
