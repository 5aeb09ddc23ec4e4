"""Score given translations: the log-probability of each by a run's model, by forced decoding.

    python scripts/score.py RUN --source test.de --target test.en > scores.tsv

A line out for each line in: its log-probability in nats, a tab, and its length in tokens. Both
count the symbol that ends a sentence. The file's perplexity goes to standard error. Where the
project is installed, `seq2seq-score` is the same command.
"""

import argparse
import json
import math
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..config import DecodeConfig
from ..files import write_text
from ..shown import counted
from .arguments import output_file, parser, setting
from .options import add_hardware_options, open_run

if TYPE_CHECKING:
    from ..translation.likelihood import Likelihood


def options() -> argparse.Namespace:
    """Parse the command line."""
    command = parser(__doc__)
    command.add_argument("run", metavar="RUN", help="the folder of a run")
    command.add_argument("--source", required=True, metavar="FILE", help="source text, by line")
    command.add_argument(
        "--target", required=True, metavar="FILE", help="its translations to score, by line"
    )
    command.add_argument(
        "--batch-size",
        type=setting(DecodeConfig, "batch_size"),
        default=64,
        metavar="N",
        help="sentences scored together (default: 64)",
    )
    command.add_argument(
        "--json",
        type=output_file,
        metavar="FILE",
        help="also write the results there, with the totals",
    )
    add_hardware_options(command)
    return command.parse_args()


def summary(found: "list[Likelihood]") -> dict[str, Any]:
    """Return the totals over all lines; perplexity is exp(-log-probability / tokens)."""
    from ..runs.entries import perplexity  # needs packages, which --help does not

    tokens = sum(line.tokens for line in found)
    log_probability = math.fsum(line.log_probability for line in found)
    return {
        "sentences": len(found),
        "tokens": tokens,
        "unknown": sum(line.unknown for line in found),
        "log_probability": log_probability,
        "perplexity": perplexity(-log_probability / tokens),
    }


def main() -> None:
    """Parse the command line, score each pair of lines, print."""
    asked = options()  # first: --help needs no package
    from ..data.corpora import read_parallel

    source, target = read_parallel([asked.source, asked.target])
    session = open_run(asked.run, asked)
    from ..translation.likelihood import likelihoods  # with torch, for which no mistake waits

    found = likelihoods(session, source, target, asked.batch_size)
    for line in found:
        print(f"{line.log_probability:.4f}\t{line.tokens}")
    totals = summary(found)
    unknown = f", {totals['unknown']:,} of them <unk>" if totals["unknown"] else ""
    print(
        f"perplexity {totals['perplexity']:.4f} over {counted(totals['tokens'], 'token')}{unknown}"
        f" in {counted(totals['sentences'], 'line')}; each line's end counts as a token",
        file=sys.stderr,
    )
    if asked.json is not None:
        lines = [asdict(line) for line in found]
        named = {"run": asked.run, "source": asked.source, "target": asked.target}
        content = json.dumps(named | totals | {"lines": lines}, indent=2, ensure_ascii=False)
        write_text(asked.json, content + "\n")
