"""The command of seq2seq/app/compare.py: `python scripts/compare.py --help` explains it."""

from seq2seq.app.commands import compare

if __name__ == "__main__":
    compare()
