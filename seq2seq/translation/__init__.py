"""From a trained model to text: search, detokenized translations, scores."""
