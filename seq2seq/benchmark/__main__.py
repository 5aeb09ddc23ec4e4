"""The command of scripts/benchmark.py, where the project is installed."""

from .command_line import benchmark

if __name__ == "__main__":
    benchmark()
