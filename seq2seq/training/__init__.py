"""Training: one update, the loop around it, validation, and how a run ends."""
