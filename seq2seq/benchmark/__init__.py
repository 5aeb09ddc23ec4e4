"""Speed and memory of layers and translators, compared in the same process and moment."""
