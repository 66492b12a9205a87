"""What a run came to, written from the record alone: the text, its numbers and its figures."""
