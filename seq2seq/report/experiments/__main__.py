"""Print the names of the experiments in their order: python -m seq2seq.report.experiments."""

from . import EXPERIMENTS

print(*EXPERIMENTS)
