"""The hypotheses of the sentences in a search, without the model: which go on, which have ended.

B active sentences, K hypotheses each, M candidates for their next words. The rows of a step are
B * K: the hypotheses of a sentence lie together.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import DecodeConfig

ENDED = np.dtype(
    [
        ("row", np.int64),  # its row after the last of its words
        ("end", np.int64),  # the step after that of its last word
        ("ended", np.bool_),  # false: cut at the largest length
        ("log_prob", np.float64),  # in nats
        ("score", np.float64),  # log_prob / length ** length_penalty; the length counts eos
    ]
)
"""What is known of a finished hypothesis; its words are in the history."""


@dataclass
class Candidates:
    """The best next words of each sentence, best first; log_probs are -inf where there are none."""

    log_probs: NDArray[np.float32]  # (B, M) of hypothesis and word, in nats
    parents: NDArray[np.int64]  # (B, M) row of the hypothesis
    words: NDArray[np.int64]  # (B, M)


class Beams:
    """The active sentences of a search, as a table with a row for each. They may join at any step.

    Its columns:
        sentence  position among all sentences
        limit     largest length of a translation
        start     step of the first word
        log_prob  (K,) of the unfinished hypotheses so far, in nats; -inf where there are fewer.
                  Before the first word there is one, the first
        count     finished hypotheses
        finished  (3K,) what is known of them: fewer than K, then up to K that end at a step, and up
                  to K that are cut there
    """

    def __init__(self, config: DecodeConfig, n_best: int, draws: bool) -> None:
        """Start without sentences; with `draws` each hypothesis is drawn independently."""
        self.config, self.n_best, self.draws = config, n_best, draws
        size = config.beam_size
        self.table = np.zeros(
            0,
            [
                ("sentence", np.int64),
                ("limit", np.int64),
                ("start", np.int64),
                ("log_prob", np.float32, (size,)),
                ("count", np.int64),
                ("finished", ENDED, (3 * size,)),
            ],
        )

    def __len__(self) -> int:
        return len(self.table)

    def begin(self, sentences: NDArray[np.int64], limits: NDArray[np.int64]) -> None:
        """Take in the first sentences, each with one empty hypothesis."""
        self.table = np.zeros(len(sentences), self.table.dtype)
        self.table["sentence"], self.table["limit"] = sentences, limits
        self.table["finished"]["score"] = -np.inf

    def join(self, others: "Beams", taken: slice, start: int, row: int) -> None:
        """Take in others that have just got their first words, as if at step `start`.

        `row` is the row in the history before the first word of their first hypothesis.
        """
        new = others.table[taken].copy()
        new["start"] = start
        new["finished"]["end"] += start
        new["finished"]["row"] = row + self.config.beam_size * np.arange(len(new))[:, None]
        self.table = np.concatenate([self.table, new])

    def keep(self, places: NDArray[np.int64]) -> None:
        """Keep the sentences of these places alone, in this order."""
        self.table = self.table[places]

    def advance(
        self, candidates: Candidates, step: int, eos_id: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Finish the hypotheses that end, extend the best others; return parents and words (B, K).

        Of the candidates only the best K may end.
        """
        size = self.config.beam_size
        log_probs, parents, words = candidates.log_probs, candidates.parents, candidates.words
        ends = words == eos_id
        ending = ends & np.isfinite(log_probs)
        ending[:, size:] = False
        self._finish(ending, log_probs, parents, step, ended=True)
        log_probs = np.where(ends, np.float32(-np.inf), log_probs)
        if not self.draws:  # those that do not end, best first
            order = np.argsort(ends, axis=1, kind="stable")[:, :size]
            log_probs = np.take_along_axis(log_probs, order, axis=1)
            parents = np.take_along_axis(parents, order, axis=1)
            words = np.take_along_axis(words, order, axis=1)
        self.table["log_prob"] = log_probs
        return parents, words

    def retire(self, step: int) -> tuple[NDArray[np.int64], int]:
        """Move the sentences that are over, after the words of `step`, behind the others.

        They have K finished hypotheses, or n_best that none of the others can beat, or cannot go
        on: they have the largest length, or no hypothesis with a next word. Those that cannot go on
        finish their hypotheses as they are. Returns the new order of places, and how many go on.
        """
        lengths, alive = step - self.table["start"] + 1, np.isfinite(self.table["log_prob"])
        decided = self._decided()
        over = decided | (lengths >= self.table["limit"]) | ~alive.any(axis=1)
        order, kept = kept_first(over), len(over) - int(over.sum())
        if kept < len(over):
            self.keep(order)
            cut = alive[order] & (over & ~decided)[order, None]
            rows = np.arange(alive.size).reshape(alive.shape)
            self._finish(cut, self.table["log_prob"], rows, step + 1, ended=False)
        return order, kept

    def best(self, place: int) -> NDArray[Any]:
        """Return the n_best finished hypotheses of the sentence in a place, best first."""
        found = self.table["finished"][place, : self.table["count"][place]]
        order = np.argsort(-found["score"], kind="stable")
        return found[order[: self.n_best]]

    def _decided(self) -> NDArray[np.bool_]:
        """Return which sentences (B,) have K finished hypotheses, or n_best that none can beat.

        The score of a hypothesis is highest if it costs nothing more and is as long as allowed.
        """
        counts = self.table["count"]
        decided: NDArray[np.bool_] = counts >= self.config.beam_size
        enough = counts >= self.n_best
        if self.draws or not enough.any():
            return decided
        within = np.sort(self.table["finished"]["score"], axis=1)[:, -self.n_best]
        longest = self.table["limit"].astype(np.float64) ** self.config.length_penalty
        reachable = self.table["log_prob"].max(axis=1) / longest
        decided |= enough & (within >= reachable)
        return decided

    def _finish(
        self,
        which: NDArray[np.bool_],
        log_probs: NDArray[np.float32],
        rows: NDArray[np.int64],
        end: int,
        ended: bool,
    ) -> None:
        """Add hypotheses (B, M) to the finished ones; `end` is the step after their last word."""
        if not which.any():
            return
        at = which.nonzero()
        place = (self.table["count"][:, None] + which.cumsum(axis=1) - 1)[at]
        new = np.zeros(len(place), ENDED)
        new["log_prob"], new["row"], new["end"], new["ended"] = log_probs[at], rows[at], end, ended
        lengths = (end - self.table["start"][at[0]] + ended).astype(np.float64)
        new["score"] = new["log_prob"] / lengths**self.config.length_penalty
        self.table["finished"][at[0], place] = new
        self.table["count"] += which.sum(axis=1)


def kept_first(over: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return an order of places in which those that are over come last, and few others move."""
    kept = len(over) - int(over.sum())
    order = np.arange(len(over))
    holes, movers = np.flatnonzero(over[:kept]), kept + np.flatnonzero(~over[kept:])
    order[holes], order[movers] = movers, holes
    return order
