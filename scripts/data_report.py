"""The command of seq2seq/app/data_report.py: `python scripts/data_report.py --help` explains it."""

from seq2seq.app.commands import data_report

if __name__ == "__main__":
    data_report()
