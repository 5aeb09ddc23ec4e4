"""Train a translator: `python -m seq2seq.train norm=layer`. `--help` lists every setting."""

from .app.commands import train

if __name__ == "__main__":
    train()
