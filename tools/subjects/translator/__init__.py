"""The built-in translators: two small M2M-100 models that `train.py` taught four invented languages of one meaning."""
