"""The command of seq2seq/app/evaluate.py: `python scripts/evaluate.py --help` explains it."""

from seq2seq.app.commands import evaluate

if __name__ == "__main__":
    evaluate()
