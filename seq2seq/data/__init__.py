"""From text to batches, in one way: text -> clean text -> pieces -> ids -> batches.

`corpora` finds the text, `text` and `tokenizer` turn it into ids, `preparation` stores them, and
`dataset` and `batches` read them. Nothing here imports torch until the first batch is made.
"""
