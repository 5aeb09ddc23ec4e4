"""The folder of a run: what is written to it and how it is read."""
