"""The command of seq2seq/app/export.py: `python scripts/export.py --help` explains it."""

from seq2seq.app.commands import export

if __name__ == "__main__":
    export()
