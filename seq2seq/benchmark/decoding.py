"""Search as contestants: greedy and with a beam, of the rival and of our translator by norm."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean

import numpy as np
from torch import nn

from ..config import Config, DecodeConfig, Precision
from ..data.shortlist import Shortlist, shortlist_for
from ..data.tokenizer import Tokenizers
from ..device import autocast
from ..runs.checkpoint import group, load_checkpoint
from ..runs.folder import Run
from ..translation.loading import load_translator
from ..translation.search import search_in_batches
from .contestants import PRODUCTS, Contestant, variant, with_settings
from .floor import Floor, search_products
from .plain import PlainTranslator, as_plain, vocabulary_of
from .plain_search import search_in_batches as plain_search
from .timing import Speed, Task, interleaved_speeds
from .trained import trained_run
from .training import CPU
from .workload import Workload

BEAMS = (1, 5)
Sentences = list[list[int]]
"""Ids of each sentence, without eos."""
Search = Callable[[Sentences, DecodeConfig], Sentences]


def plain_translator(run: Run, config: Config) -> PlainTranslator:
    """Return the plain translator with the weights of a run without a norm."""
    model = PlainTranslator(config, vocabulary_of(Tokenizers.load(run.folder)))
    weights = group(load_checkpoint(run.checkpoint("best"))[0], "model")
    model.load_state_dict(as_plain(weights, config.model.input_feeding))
    return model.eval()


def new_search(
    contestant: Contestant, run: Run, words: Shortlist | None = None
) -> tuple[nn.Module, Search]:
    """Return a contestant's trained translator and its search, in the order of the sentences.

    Ours searches among the words of a shortlist, if there is one.
    """
    if contestant.norm is None:
        plain = plain_translator(run, contestant.config)
        return plain, lambda sentences, config: plain_search(plain, sentences, config)[0]
    model, _ = load_translator(run, CPU)
    model.load_kernels()

    def search(sentences: Sentences, config: DecodeConfig) -> Sentences:
        found = dict(search_in_batches(model, sentences, config, shortlist=words))
        return [found[i][0].ids for i in range(len(sentences))]

    return model, search


def search_floor(
    work: Workload, plain: PlainTranslator, rival: Config, config: DecodeConfig
) -> Task:
    """Return the task of the products of a search with as many rows as the rival's search has."""
    size, beam = config.sentences, config.beam_size
    lengths = np.array([len(sentence) + 1 for sentence in longest_first(work.sentences)])
    products = []
    for number, steps in enumerate(plain_search(plain, work.sentences, config)[1]):
        rows = [int((steps > t).sum()) * (beam if t else 1) for t in range(int(steps.max()))]
        batch = lengths[number * size : (number + 1) * size]
        vocabulary = work.prepared.tokenizers.target.vocab_size
        products += list(search_products(rival.model, vocabulary, batch, rows))
    return Floor(rival.trainer.precision).task(products)


def longest_first(sentences: Sentences) -> Sentences:
    """Return sentences by falling length, as both searches order them."""
    return sorted(sentences, key=lambda sentence: -len(sentence))


def in_float32(contestant: Contestant) -> Contestant:
    """Return a contestant whose products are in float32."""
    config = contestant.config
    settings = with_settings(config, config.model.input_feeding, Precision.fp32)
    return replace(contestant, config=settings)


def in_precision(search: Search, precision: Precision) -> Search:
    """Return a search whose products have a precision."""

    def run(sentences: Sentences, config: DecodeConfig) -> Sentences:
        with autocast(CPU, precision):
            return search(sentences, config)

    return run


def searches_of(
    work: Workload, found: Sequence[Contestant], runs: Mapping[str, Run]
) -> dict[str, Search]:
    """Return the searches by name; ours also with a shortlist, where decode.shortlist asks for it.

    Without one a search is exact, whatever decode.shortlist is.
    """
    searches, words = {}, shortlist_for(work.config.decode, work.prepared)
    for contestant in found:
        name, precision = contestant.name, contestant.config.trainer.precision
        searches[name] = in_precision(new_search(contestant, runs[name])[1], precision)
        if words is not None and contestant.norm is not None:
            short = new_search(contestant, runs[name], words)[1]
            searches[f"{name}, shortlist"] = in_precision(short, precision)
    return searches


def decoding_speeds(
    work: Workload, found: Sequence[Contestant], updates: int, rounds: int
) -> dict[str, list[Speed]]:
    """Measure greedy and beam search in sentences a second: the tables, by their titles.

    The translators have been trained by so many updates, in float32 whatever they search in.
    """
    runs = {c.name: trained_run(in_float32(c), work.prepared, updates) for c in found}
    searches = searches_of(work, found, runs)
    tables = {}
    for beam in BEAMS:
        config = replace(work.config.decode, beam_size=beam)
        first = longest_first(work.sentences)[: config.sentences]
        timed: dict[str, tuple[Task, Task]] = {
            name: (partial(search, first, config), partial(search, work.sentences, config))
            for name, search in searches.items()
        }
        for rival in (contestant for contestant in found if contestant.norm is None):
            plain = plain_translator(runs[rival.name], rival.config)
            with autocast(CPU, rival.config.trainer.precision):
                alone = search_floor(work, plain, rival.config, config)
            timed[variant(PRODUCTS, rival.config)] = (alone, alone)
        speeds = interleaved_speeds(timed, len(work.sentences), rounds)
        for speed in speeds:
            if speed.name in searches:
                speed.pieces = mean(map(len, searches[speed.name](work.sentences, config)))
        title = f"{beam_name(beam)}, {work.config.data.name}: {len(work.sentences)} sentences"
        tables[f"{title} in batches of {config.sentences}"] = speeds
    return tables


def beam_name(beam: int) -> str:
    """Return what a beam is called in titles."""
    return "greedy" if beam == 1 else f"beam {beam}"
