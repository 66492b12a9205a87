"""The built-in Othello subject: a small GPT-2 trained by `train.py` to predict the moves of random games."""
