"""A modality that the project does not know: one family file and one port file, put where such files are found."""
