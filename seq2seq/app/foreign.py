"""Options of other toolkits, and what does the same here.

The tables are those of "Coming from Marian or fairseq" in docs/commands.md.
"""

import re
from collections.abc import Collection

OPTIONS = {
    "--beam-size": "--beam N",
    "--nbest": "--n-best N",
    "--lenpen": "--length-penalty X",
    "--normalize": "--length-penalty X",
    "--unnormalized": "--length-penalty 0",
    "--max-len-a": "--max-length Ax+B",
    "--max-len-b": "--max-length Ax+B",
    "--max-length-factor": "--max-length Ax",
    "--min-len": "--min-length N",
    "--no-repeat-ngram-size": "--no-repeat-ngram N",
    "--block-ngram-repeat": "--no-repeat-ngram N",
    "--sampling": "--sample",
    "--output-sampling": "--sample --top-k K",
    "--sampling-topk": "--top-k K",
    "--random-sampling-topk": "--top-k K",
    "--random-sampling-temp": "--temperature T",
    "--mini-batch": "--batch-size N (sentences)",
    "--maxi-batch": "--batch-size N (sentences)",
    "--max-sentences": "--batch-size N (sentences)",
    "--max-tokens": "--batch-size N (sentences)",
    "--buffer-size": "--batch-size N (sentences)",
    "--mini-batch-words": "--batch-size N (sentences)",
    "--cpu-threads": "--threads N",
    "--num-workers": "--threads N",
    "--cpu": "--device cpu",
    "--gpu": "--device cuda",
    "--devices": "--device cuda",
    "--fp16": "--precision bf16",
    "--bf16": "--precision bf16",
    "--word-scores": "no such option; --scores prints the score of a whole translation",
    "--max-length-crop": "no option: no line is too long",
    "--skip-invalid-size-inputs-valid-test": "no option: no line is too long",
    "--print-alignment": "--json-lines",
    "--report-align": "--json-lines",
    "--alignment": "--json-lines",
    "--gen-subset": "--split NAME (evaluate.py)",
    "--sacrebleu": "no option: evaluate.py scores with sacreBLEU",
    "--scoring": "no option: evaluate.py scores with sacreBLEU",
    "--score-reference": "score.py RUN --source FILE --target FILE",
    "--models": "the run's folder, as first argument",
    "--model": "the run's folder, as first argument",
    "--path": "the run's folder, as first argument",
    "--vocabs": "no option: a run's folder has its vocabularies",
    "--source-lang": "no option: a run's folder has its languages",
    "--target-lang": "no option: a run's folder has its languages",
    "--remove-bpe": "no option: translations are plain text",
    "--post-process": "no option: translations are plain text",
    "--input": "< FILE (translate.py reads standard input)",
    "--src": "< FILE (translate.py reads standard input)",
    "--output": "> FILE (translate.py writes standard output)",
    "--sampling-topp": "no such option; --sample --top-k K samples among the likeliest pieces",
    "--unkpen": "no such option; --replace-unk copies unknown words",
    "--allow-unk": "no option: <unk> is always allowed; --replace-unk copies unknown words",
    "--diverse-beam-groups": "no such option; --sample --n-best N gives different translations",
    "--skip-cost": "no option: scores are printed only with --scores",
    "--quiet": "no option: nothing else is printed",
}
"""An option of Marian, fairseq or OpenNMT-py -> what does the same here."""
SHORT = {"-b": "--beam-size", "-n": "--normalize", "-m": "--models", "-v": "--vocabs"} | {
    "-i": "--input",
    "-o": "--output",
    "-d": "--devices",
}
"""Marian's short names."""


OF_TRANSLATE = "--n-best"
"""An option of the only command that reads standard input."""


def ours(option: str, own: Collection[str]) -> str | None:
    """Return what does the same as another toolkit's option; None for an unknown one.

    It is also None where a command with these `own` options has none that the answer names, unless
    the answer names another command. Underscores count as hyphens, and a value after = does not
    count.
    """
    name = option.partition("=")[0].replace("_", "-")
    answer = OPTIONS.get(SHORT.get(name, name))
    if answer is None:
        return None
    if answer.startswith(("<", ">")):
        return answer if OF_TRANSLATE in own else None
    names_command = re.search(r"\w\.py\b", answer) is not None
    return (
        answer if names_command or set(re.findall(r"--[a-z][a-z-]*", answer)) <= set(own) else None
    )
