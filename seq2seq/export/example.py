"""Translate lines: python translate.py < input.txt > output.txt."""

import argparse
import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession, SessionOptions

from .text import Text, read_json


class Translator:
    """The networks of a folder, and a search for the best translation of a sentence."""

    def __init__(self, folder: Path, kind: str = "") -> None:
        self.settings = read_json(folder / "settings.json")
        names = [folder / f"{name}{kind}.onnx" for name in ("encoder", "decoder_step")]
        options = SessionOptions()
        options.intra_op_num_threads = 1  # for so few rows at a time
        self.encoder, self.step = (InferenceSession(name, options) for name in names)
        self.outputs = [output.name for output in self.encoder.get_outputs()]

    def search(self, src: list[int], beam: int) -> tuple[float, float, list[int]]:
        """Return score, log-probability and ids of the best translation; a beam of 1 is greedy."""
        bos, eos = self.settings["bos_id"], self.settings["eos_id"]
        penalty, (times, more) = self.settings["length_penalty"], self.settings["max_length"]
        longest = max(1, int(min(len(src) * times + more, 2**31)))
        ids, length = np.array([[*src, eos]]), np.array([len(src) + 1])
        encoded = self.encoder.run(None, {"src": ids, "src_lengths": length})
        arrays = {n: x.repeat(beam, 0) for n, x in zip(self.outputs, encoded, strict=True)}
        words, sums, texts = np.full(beam, bos), np.full(beam, -np.inf, "f"), [list[int]()] * beam
        sums[0], ended = 0, list[tuple[float, float, list[int]]]()
        for step in range(longest):
            log_p, state = self.step.run(None, arrays | {"words": words, "step": 0 * words + step})
            total = (log_p + sums[:, None]).ravel().astype(float)  # hypothesis and next word
            best = np.argpartition(-total, 2 * beam)[: 2 * beam]
            best = best[np.lexsort((best, -total[best]))]
            scores, (rows, words) = total[best], np.divmod(best, log_p.shape[1])
            for i in np.flatnonzero((words[:beam] == eos) & (scores[:beam] > -np.inf)):
                ended.append((scores[i] / (step + 1) ** penalty, scores[i], texts[rows[i]]))
            on = np.flatnonzero(words != eos)[:beam]  # those that do not end
            sums, words, arrays["state"] = scores[on].astype("f"), words[on], state[rows[on]]
            texts = [[*texts[row], int(word)] for row, word in zip(rows[on], words, strict=True)]
            if ended and (len(ended) >= beam or max(ended)[0] >= float(sums[0]) / longest**penalty):
                return max(ended)
        scores = (sums.astype(float) / longest**penalty).tolist()  # others compete as they are
        return max([*ended, *zip(scores, sums.tolist(), texts, strict=True)])


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--beam", type=int, help="hypotheses per sentence; 1: greedy")
    options.add_argument("--int8", action="store_true", help="compute with 8 bits")
    asked, here = options.parse_args(), Path(__file__).resolve().parent
    text, networks = Text(here), Translator(here, ".int8" * asked.int8)
    for line in sys.stdin.buffer:
        ids = text.encode(line.decode("utf-8"))
        best = networks.search(ids, asked.beam or networks.settings["beam_size"])[2] if ids else []
        print(text.decode(best), flush=True)
