"""The command of seq2seq/benchmark: `python scripts/benchmark.py --help` explains it."""

from seq2seq.benchmark.command_line import benchmark

if __name__ == "__main__":
    benchmark()
