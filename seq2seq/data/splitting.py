"""Division of one published file of pairs into train, valid and test.

No sentence is in two splits, in either language, not even with other case or punctuation.
"""

import hashlib
import unicodedata
from collections.abc import Iterable
from itertools import chain

from ..config import SplitRule

Pair = tuple[str, str]


def sentence_key(sentence: str) -> str:
    """Return a sentence without case, spacing and punctuation.

    The key holds the letters, marks and digits of the case-folded NFKC form. A sentence that has
    none of these is its own key.
    """
    folded = unicodedata.normalize("NFKC", sentence).casefold()
    key = "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")
    return key or sentence.strip()


def split_by_components(pairs: Iterable[Pair], rule: SplitRule) -> dict[str, list[Pair]]:
    """Return train, valid and test of a file of pairs, in the file's order.

    Repeated pairs are dropped. Sentences with the same key, and the two sides of a pair, belong to
    one component. The smallest key on the side `rule.name_side` names the component. `assign` draws
    the split of the whole component from that name.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    kept = list(dict.fromkeys(pairs))
    keys = [(f"s{sentence_key(src)}", f"t{sentence_key(tgt)}") for src, tgt in kept]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(chain.from_iterable(keys)))}
    sources, targets = ([numbers[both[side]] for both in keys] for side in (0, 1))
    size = len(numbers)
    graph = coo_array(([True] * len(keys), (sources, targets)), shape=(size, size))
    components = connected_components(graph, directed=False)[1][sources].tolist()
    names = dict[int, str]()
    side = 0 if rule.name_side == "source" else 1
    for component, both in zip(components, keys, strict=True):
        names[component] = min(names.get(component, both[side][1:]), both[side][1:])
    divided: dict[str, list[Pair]] = {"train": [], "valid": [], "test": []}
    for pair, component in zip(kept, components, strict=True):
        divided[assign(names[component], rule)].append(pair)
    return divided


def assign(name: str, rule: SplitRule) -> str:
    """Return the split of a component: its hash with the salt, as a fraction, meets the shares."""
    digest = hashlib.sha256((rule.salt + name).encode("utf-8")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < rule.train_share:
        return "train"
    return "valid" if place < rule.train_share + rule.valid_share else "test"
