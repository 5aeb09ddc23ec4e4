"""From text to batches: corpora, tokenizers, clean-up, encoded datasets."""
