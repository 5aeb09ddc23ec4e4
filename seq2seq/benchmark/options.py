"""The options of the benchmark: their defaults, and which of them have no effect beside others."""

import argparse
from typing import Any

Options = argparse.Namespace
DEFAULTS: dict[str, Any] = {
    "size": "full",
    "rounds": 5,
    "device": "cpu",
    "minutes": 7,
    "data": "grammar_en_zh",
    "norms": "none,batch,layer,rms",
    "precisions": ["fp32"],
    "processes": 2,
    "updates": 8,
    "sentences": 256,
    "trained": 200,
    "pairs": [50_000, 500_000, 5_000_000],
    "set": [],
}
"""The values of options that are not given, in all commands."""
OWN_DEFAULTS: dict[str, dict[str, Any]] = {"layers": {"rounds": 11}, "scaling": {"updates": 20}}
"""Other ones, by command."""
SMALL_DEFAULTS: dict[str, Any] = {"updates": 2, "sentences": 8, "pairs": [200, 400]}
"""Those of --size small."""
OWN_SMALL_DEFAULTS: dict[str, dict[str, Any]] = {"scaling": {"updates": 3}}
IDLE: dict[tuple[str, str | None], tuple[str, ...]] = {
    ("profile", None): ("rounds", "norms", "feeding", "precisions", "figure"),
    ("device", "cuda"): ("figure", "compile"),
    ("device", "cpu"): ("minutes",),
}
"""An option and its value (None: any) -> the options that then have no effect."""
TRANSLATORS = ("train", "decode", "memory", "startup", "processes", "all")
TIMED = ("train", "decode", "memory", "all")
CHOSEN: dict[str, tuple[tuple[str, ...], str]] = {
    "norm": (TRANSLATORS, "--norms or --profile"),
    "data": ((*TRANSLATORS, "scaling"), "--data; scaling makes its text up"),
    "trainer.threads": ((*TRANSLATORS, "scaling"), "--threads"),
    "trainer.precision": (TIMED, "--precisions of train and decode"),
    "decode.beam_size": (("decode",), "no beam: greedy search and beam 5 are measured"),
}
"""A setting -> the commands that choose it, so that --set cannot, and what is expected instead."""
PROFILED = ("trainer.precision", "decode.beam_size")
"""Those that a profile takes from --set."""


def default(command: str, option: str, size: str = "full") -> Any:
    """Return the value of an option that is not given to a command; None where it has none."""
    found = DEFAULTS | OWN_DEFAULTS.get(command, {})
    if size == "small":
        found = found | SMALL_DEFAULTS | OWN_SMALL_DEFAULTS.get(command, {})
    return found.get(option)


def completed(options: Options) -> Options:
    """Return the options with their defaults, and `given`, the names of those that were given.

    ValueError for one that has no effect.
    """
    typed = vars(options)
    given = frozenset(name for name, value in typed.items() if value not in (None, False, []))
    size = typed.get("size") or DEFAULTS["size"]
    found = {
        name: default(options.what, name, size) if value is None else value
        for name, value in typed.items()
    }
    complete = Options(**found, given=given)
    check_effects(complete)
    return complete


def check_effects(options: Options) -> None:
    """Raise ValueError for an option, or a setting of --set, that has no effect beside others."""
    for (option, value), idle in IDLE.items():
        found = getattr(options, option, None)
        if found is not None and value in (None, found) and not options.given.isdisjoint(idle):
            raise ValueError(f"--{option} {found}: expected {none_of(idle)}")
    profiles = getattr(options, "profile", None) is not None
    for override in getattr(options, "set", ()):
        key = override.partition("=")[0]
        commands, expected = CHOSEN.get(key, ((), ""))
        if options.what in commands and not (profiles and key in PROFILED):
            raise ValueError(f"--set {override}: has no effect; expected {expected}")


def none_of(names: tuple[str, ...]) -> str:
    """Return in words that none of these options is expected."""
    shown = [f"--{name}" for name in names]
    if len(shown) < 3:
        return "neither " + " nor ".join(shown) if shown[1:] else f"no {shown[0]}"
    return "none of " + ", ".join(shown)
