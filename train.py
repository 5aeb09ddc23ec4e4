"""Train a translator: `python train.py norm=layer`. `--help` lists every setting."""

from seq2seq.app.commands import train

if __name__ == "__main__":
    train()
