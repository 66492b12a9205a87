"""The built-in translators: two small Marian models that `train.py` taught four invented languages of one meaning."""
