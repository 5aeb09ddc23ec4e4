"""The folder of a run: what is written to it and how it is read.

`folder`, `configuration`, `jsonl`, `entries`, `results`, `examples`, `records` and `commands` need
JSON, YAML and text alone. `checkpoint` needs torch, `logbook` needs TensorBoard.
"""
