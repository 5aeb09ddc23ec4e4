"""The command of seq2seq/app/translate.py: `python scripts/translate.py --help` explains it."""

from seq2seq.app.commands import translate

if __name__ == "__main__":
    translate()
