"""What a corpus holds, before anything is trained on it.

`survey` counts, `advice` says what to do about it, `figure` draws the lengths.
"""
