"""Training: one update, the loop around it, validation, and the end of a run."""
