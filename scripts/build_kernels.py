"""The command of seq2seq/app/build_kernels.py: its --help explains it."""

from seq2seq.app.commands import build_kernels

if __name__ == "__main__":
    build_kernels()
