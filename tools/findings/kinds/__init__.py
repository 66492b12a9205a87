"""One file a kind of finding: what must hold for it, against which control, and how it is said."""
