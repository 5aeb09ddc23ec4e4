"""A trained translator leaves Python: its networks as ONNX, its tokenizers, an example program."""
