"""The command of seq2seq/app/prepare.py: `python scripts/prepare_data.py --help` explains it."""

from seq2seq.app.commands import prepare

if __name__ == "__main__":
    prepare()
