"""Translation with a trained model: search, text to text, likelihood and scores."""
