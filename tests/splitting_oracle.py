"""A slow reading of the rule that divides one file of pairs into splits."""

import hashlib
import unicodedata
from collections.abc import Sequence

from seq2seq.config import SplitRule
from seq2seq.data.splitting import Pair

RULE = SplitRule(salt="test:v1:", train_share=0.6, valid_share=0.2)


def oracle_key(sentence: str) -> str:
    """Return a key that is equal for sentences which differ only in case, spaces or punctuation."""
    text = unicodedata.normalize("NFKC", sentence).casefold()
    kept = ""
    for char in text:
        if unicodedata.category(char).startswith(("L", "M", "N")):
            kept += char
    return kept if kept else sentence.strip()


def oracle(pairs: Sequence[Pair], rule: SplitRule) -> dict[str, list[Pair]]:
    """Spread the smallest name along shared keys until nothing changes."""
    unique = []
    for pair in pairs:
        if pair not in unique:
            unique.append(pair)
    names = [oracle_key(pair[0 if rule.name_side == "source" else 1]) for pair in unique]
    changed = True
    while changed:
        changed = False
        for i, a in enumerate(unique):
            for j, b in enumerate(unique):
                linked = oracle_key(a[0]) == oracle_key(b[0]) or oracle_key(a[1]) == oracle_key(
                    b[1]
                )
                if linked and names[j] < names[i]:
                    names[i], changed = names[j], True
    divided: dict[str, list[Pair]] = {"train": [], "valid": [], "test": []}
    for pair, name in zip(unique, names, strict=True):
        h = int(hashlib.sha256((rule.salt + name).encode()).hexdigest()[:16], 16) / 2**64
        below_valid = h < rule.train_share + rule.valid_share
        divided["train" if h < rule.train_share else "valid" if below_valid else "test"].append(
            pair
        )
    return divided
