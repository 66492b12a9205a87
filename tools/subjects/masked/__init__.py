"""The built-in masked subject: a small BERT trained by `train.py` on sentences whose trees and senses are known."""
