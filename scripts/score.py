"""The command of seq2seq/app/score.py: `python scripts/score.py --help` explains it."""

from seq2seq.app.commands import score

if __name__ == "__main__":
    score()
