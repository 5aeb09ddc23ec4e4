"""The sentences of the built-in grammar: correct, varied, and with every construction."""

import contextlib
import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from grammar_files import GRAMMAR_FILE

from seq2seq.data.grammar import Grammar, Pair
from seq2seq.data.grammar.rules import Alternative

pytest_plugins = ["grammar_fixtures"]


# -- their content ---


def test_every_rule_and_word_is_used(grammar: Grammar) -> None:
    rng = random.Random(21)
    unused = {a.line for a in grammar.alternatives}
    for _ in range(20_000):
        if not unused:
            break
        unused -= {a.line for a in grammar.derive(rng, 20)[1]}
    assert unused == set()


def test_there_are_300_content_words(grammar: Grammar) -> None:
    tables = {
        "Noun",
        "Kin",
        "Name",
        "Mass",
        "Bare",
        "Place",
        "Verb",
        "PlainVerb",
        "GiveVerb",
        "TurnVerb",
        "Adjective",
    }
    entries = {next(iter(a.outputs.values())) for a in grammar.alternatives if a.category in tables}
    assert len(entries) >= 300


def test_sentences_are_well_formed(splits: dict[str, list[Pair]]) -> None:
    for pair in (pair for pairs in splits.values() for pair in pairs):
        assert re.fullmatch(r"[A-Z][A-Za-z0-9,' -]*[.?]", pair.source), pair
        assert pair.source.endswith("?") == pair.target.endswith("？"), pair
        assert re.fullmatch(r"[\u4e00-\u9fffT，]+[。？]", pair.target), pair
        assert not re.search(
            r"  | ,|(?i:\ba [aeio])|(?i:\ban [^aeiouh])|\bthe the\b", pair.source
        ), pair
        assert not re.search(
            r"了了|的的|在在|没.*没有.{0,2}了|不没|没不|吗[^？]|，[，。]", pair.target
        ), pair


@pytest.mark.parametrize(
    ("noun", "measure"),
    [
        *[
            ("book", "本"),
            ("letter", "封"),
            ("newspaper", "份"),
            ("map", "张"),
            ("car", "辆"),
            ("cat", "只"),
        ],
        *[
            ("dog", "条"),
            ("coat", "件"),
            ("dress", "条"),
            ("horse", "匹"),
            ("tree", "棵"),
            ("chair", "把"),
        ],
        *[
            ("hat", "顶"),
            ("computer", "台"),
            ("painting", "幅"),
            ("airplane", "架"),
            ("student", "个"),
        ],
        *[
            ("teacher", "位"),
            ("pig", "头"),
            ("pen", "支"),
            ("article", "篇"),
            ("lamp", "盏"),
            ("soldier", "名"),
        ],
    ],
)
def test_measure_words(grammar: Grammar, noun: str, measure: str) -> None:
    entries = [
        a for a in grammar.alternatives if a.category == "Noun" and a.outputs["sg"] == (noun,)
    ]
    assert [a.outputs["mw"] for a in entries] == [(measure,)]


def test_measure_words_agree_with_their_noun(grammar: Grammar) -> None:
    """After a demonstrative, the measure word is the one of the noun that follows."""
    entries = [a.outputs for a in grammar.alternatives if a.category == "Noun"]
    nouns = {str(outputs["zh"][0]): str(outputs["mw"][0]) for outputs in entries}
    rng = random.Random(31)
    found = 0
    for _ in range(4000):
        pair = grammar.sample(rng, 8)
        match = re.fullmatch(r"(?:This|That) ([a-z]+) is .*", pair.source)
        if match and (zh := re.match(r"[这那](.)(.*)", pair.target)):
            noun = max((noun for noun in nouns if zh[2].startswith(noun)), key=len, default=None)
            if noun:
                assert zh[1] == nouns[noun], pair
                found += 1
    assert found > 20


HAND_WRITTEN = {
    "Does she smoke?": "她抽烟吗？",
    "She has smoked.": "她抽过烟。",
    "She has not yet smoked.": "她还没抽烟。",
    "She did not smoke in the park.": "她没在公园里抽烟。",
    "She is smoking in the park.": "她正在公园里抽烟。",
    "Who has never eaten an egg?": "谁从来没吃过鸡蛋？",
    "She bought the books.": "她买了那些书。",
    "He wore a red coat yesterday.": "他昨天穿了一件红色的大衣。",
    "He wore a red hat yesterday.": "他昨天戴了一顶红色的帽子。",
    "Yesterday, she bought a useful book.": "昨天她买了一本有用的书。",
    "Where did she buy that book?": "她是在哪里买那本书的？",
    "Which book did she buy?": "她买了哪本书？",
    "How many cats did you see?": "你看见了多少只猫？",
    "She will put the book on the table.": "她会把书放在桌子上。",
    "She did not put that book on the table.": "她没把那本书放在桌子上。",
    "He sent two letters to the doctor.": "他给医生寄了两封信。",
    "He gave the letter to the doctor.": "他把信送给了医生。",
    "Every teacher has bought this book.": "每位老师都买过这本书。",
    "All the teachers sing.": "所有老师都唱歌。",
    "The book is older than that newspaper.": "书比那份报纸旧。",
    "The book is not as old as that newspaper.": "书没有那份报纸那么旧。",
    "The book is not old.": "书不旧。",
    "The book is very old.": "书非常旧。",
    "There is a book on the table.": "桌子上有一本书。",
    "Mary's father does not have a car.": "玛丽的爸爸没有汽车。",
    "We are reading a book that the teacher wrote.": "我们正在读一本老师写的书。",
    "They think that Tom will come to the park.": "他们觉得汤姆会来公园。",
    "If he sings, we will swim with him.": "如果他唱歌，我们就会跟他一起游泳。",
    "When he cried, she sang.": "他哭的时候，她唱了歌。",
    "He cried because she sang.": "因为她唱了歌，所以他哭了。",
    "After he sang, she cried.": "他唱了歌以后，她哭了。",
    "She did not buy a book.": "她没买书。",
    "She does not want to buy a book.": "她不想买书。",
    "She wants to buy a book.": "她想买一本书。",
    "When will she buy that book?": "她什么时候会买那本书？",
    "Where will she buy that book?": "她会在哪里买那本书？",
    "She has been to the park.": "她去过公园。",
    "She has already gone to the park.": "她已经去了公园。",
    "This book that Tom wrote is boring.": "汤姆写的这本书很无聊。",
    "The two books that Tom wrote are boring.": "汤姆写的那两本书很无聊。",
    "Tom is not polite.": "汤姆没有礼貌。",
    "Tom is not young.": "汤姆不年轻。",
    "Tom is a writer.": "汤姆是作家。",
    "Tom is a famous writer.": "汤姆是一位有名的作家。",
    "How much tea did he drink?": "他喝了多少茶？",
    "He drank a lot of tea.": "他喝了很多茶。",
    "He drank two cups of tea.": "他喝了两杯茶。",
    "The tea is a little hot.": "茶有点儿热。",
    "He still likes her.": "他仍然喜欢她。",
    "The cat is running in the park.": "猫正在公园里跑。",
    "She is running in the park.": "她正在公园里跑步。",
}


@pytest.mark.parametrize(("source", "target"), HAND_WRITTEN.items())
def test_hand_written_pairs_are_derived(grammar: Grammar, source: str, target: str) -> None:
    """The rules and entries of a sentence give it the expected translation."""
    vocabulary = {*re.findall(r"[a-z'-]+|[.,?]", source.lower().replace("'s", " 's")), "-", "a"}
    few = replace(grammar, alternatives=needed(grammar, vocabulary))
    rng = random.Random(41)
    for _ in range(40_000):
        with contextlib.suppress(ValueError):  # a rule needs a word that is missing
            pair = few.sample(rng, 14)
            if pair.source == source:
                assert pair.target == target
                return
    pytest.fail(f"{source!r} never came")


def needed(grammar: Grammar, vocabulary: set[str]) -> tuple[Alternative, ...]:
    """Return the alternatives that can be written with these words only, and whose parts can."""
    kept = tuple(a for a in grammar.alternatives if may_write(a, vocabulary))
    while True:
        categories = {a.category for a in kept} | ({"number"} if "two" in vocabulary else set())
        fewer = tuple(a for a in kept if all(child.category in categories for child in a.children))
        if len(fewer) == len(kept):
            return kept
        kept = fewer


def may_write(a: Alternative, vocabulary: set[str]) -> bool:
    """Return whether a rule's English, or one English column of an entry, has only these words."""
    columns = [output for name, output in a.outputs.items() if name == "en" or not a.children]
    texts = [{word.lower() for word in column if isinstance(word, str)} for column in columns]
    if a.children:
        return all(text <= vocabulary for text in texts)
    english = [text for text in texts if any(word.isascii() and word != "-" for word in text)]
    return not english or any(text <= vocabulary for text in (texts[0], *english))


# Mistakes that a reader of English or Chinese would notice: none of them may occur.
ENGLISH_MISTAKES = {
    "the speaker is not an object of the speaker's own action": r"(?i)\b(i|we)\b[^,.?]*\b(me|us)\b",
    "a subject's pronoun as an object": r"\b(introduc\w+|with|to|for|than|as) (I|he|she|we|they)\b",
    "two 'that' in a row": r"\bthat that\b",
    "'because' or 'when' behind a that-clause could belong to either clause": (
        r"\b(said|heard|discovered|forgot|explained|thinks?|believes?) that\b[^,]*"
        r" (because|when|before (?!yesterday))"
    ),
    "a time behind an infinitive could belong to either verb": (
        r"\b(wants?|likes?|plans?|hopes?|needs?|asked \\w+|forced \\w+) to (?:(?! because | that |"
        r" who )[^,])* "
        r"(yesterday|tomorrow|every (day|week|year)|(last|next) \w+)[.?]"
    ),
    "the object case in a subject": r"(?i)\bboth\b[^,.?]* and (him|me|us|them)\b",
    "a hope that something is or should be": (
        r"\bhopes? that (?:(?! who | that )[^,])*\b(is|are|must|should|did)\b"
    ),
    "one 'is' before a plural": r"(?i)\bthere is (?!an? )|\bthere are an? ",
    "a wh-question about 'ever'": r"(?i)^(who|why|what|which|how|when|where)\b.*\bever\b",
}


CHINESE_MISTAKES = {
    "a conjunction twice": (
        r"但是虽然|虽然[^。而所]*但是[^。而所]*，但是|所以因为|因为[^。]*所以[^，。]*，所以"
    ),
    "会 before 什么时候": r"会什么时候",
    "谁也 is nobody": r"谁也",
    "在 before a state": r"正?在(喜欢|讨厌|需要|想要|认识|相信|尊敬|记得|懂|想念)",
    "了 under negation": r"(没|没有|不)(?:看见|买|吃|写|喝|读|找到)了",
    "a result that cannot be reached is 找不到": r"不能(找到|看见|收到|遇到|抓住)",
    "有-adjectives are negated with 没": r"不有",
    "two 比 in a row": r"比比",
    "a counted object under negation": r"(没|从来不|不会|不能)(买|吃|写|喝|读|有|画|卖)过?一[^些]",
    "a degree in a comparison": r"比[^，。？的]*(非常|相当|真的很|有点儿)",
    "过 after 经过": r"经过过",
}


@pytest.mark.parametrize(
    ("side", "name"), [*[(0, n) for n in ENGLISH_MISTAKES], *[(1, n) for n in CHINESE_MISTAKES]]
)
def test_known_mistakes_do_not_occur(splits: dict[str, list[Pair]], side: int, name: str) -> None:
    pattern = (ENGLISH_MISTAKES, CHINESE_MISTAKES)[side][name]
    for pair in (pair for pairs in splits.values() for pair in pairs):
        assert not re.search(pattern, pair.target if side else pair.source), (name, pair)


def test_only_yes_no_questions_end_in_ma(splits: dict[str, list[Pair]]) -> None:
    questions = [pair for pairs in splits.values() for pair in pairs if pair.source.endswith("?")]
    assert len(questions) > 100
    for pair in questions:
        wh = re.match(r"(Who|What|Which|When|Where|Why|How)\b", pair.source)
        assert pair.target.endswith("吗？") != bool(wh), pair


def test_subjects_that_need_dou_have_it(splits: dict[str, list[Pair]]) -> None:
    for pair in (pair for pairs in splits.values() for pair in pairs):
        assert not re.search(r"所有(?![^，。？]*都)", pair.target), pair
        if re.match(
            r"(Every (?!day|week|month|year|morning|evening|weekend|\w+day\b)|All the |Both )",
            pair.source,
        ):
            assert "都" in pair.target, pair


def test_objects_after_ba_are_definite(splits: dict[str, list[Pair]]) -> None:
    pairs = [pair for pairs in splits.values() for pair in pairs if " that " not in pair.source]
    assert sum("把" in pair.target for pair in pairs) > 100
    for pair in pairs:
        assert not re.search(
            r"把(一些|很多|好几|[一两三四五六七八九十][本只条件张个位])", pair.target
        ), pair


def test_objects_are_in_the_object_case(grammar: Grammar) -> None:
    """Only a subject may be in the nominative, so any other part that may be a person has a case."""
    for a in grammar.alternatives:
        for child in a.children:
            if child.category == "Phrase" and a.category not in ("Subject", "State"):
                assert "case" in child.features, f"{GRAMMAR_FILE}:{a.line}: {child.name}"


# What a model learns only from many examples: side, pattern, and its smallest count in 3,000 sentences.
FEATURES = {
    "perfective 了": (1, r"了", 600),
    "experience 过": (1, r"(?<!经)过(?!了)", 60),
    "progressive 在": (1, r"正在|还在|没在|正|还", 150),
    "negation 不": (1, r"不", 250),
    "negation 没": (1, r"没(?!有)", 100),
    "disposal 把": (1, r"把", 250),
    "comparison 比": (1, r"比", 100),
    "yes/no question": (1, r"吗？", 150),
    "wh-question": (0, r"^(Who|What|Which|When|Where|Why|How)\b.*\?", 150),
    "relative clause": (0, r"\b(who|that) (?!.*because).*(ed|s|is|are|did|will)\b", 300),
    "that-clause": (
        0,
        r"\b(said|told \w+|knows?|thinks?|believes?|heard|explained) (\w+ )?that\b",
        60,
    ),
    "coordination": (0, r", (and|but|so) ", 150),
    "subordination": (0, r"(?i)\b(if|although|because|when|before|after)\b", 400),
    "clock time": (1, r"[早上中下晚]午?[上]?[一二三四五六七八九十两]+点", 60),
    "date": (1, r"月[一二三四五六七八九十]+号", 60),
    "ten-thousands": (1, r"万", 20),
    "zero inside a number": (1, r"[百千万]零", 15),
    "fronted time": (0, r"^[^,]*, (?!but|and|so)", 150),
    "every and all with 都": (1, r"都", 300),
    "infinitive": (0, r"\b(wants?|plans?|hopes?|likes?|needs?|asked|told \w+|help\w*) to\b", 35),
}


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_covered(splits: dict[str, list[Pair]], name: str) -> None:
    side, pattern, least = FEATURES[name]
    texts = [(pair.source, pair.target)[side] for pair in splits["train"]]
    assert sum(bool(re.search(pattern, text)) for text in texts) >= least


def test_long_sentences_are_varied(splits: dict[str, list[Pair]]) -> None:
    """Long sentences have different constructions, and none has many clauses of one kind."""
    long = [pair.source for pair in splits["test_long"]]
    openings = Counter(source.split()[0] for source in long)
    assert max(openings.values()) <= 0.25 * len(long), openings.most_common(3)
    clauses = r"\b(if|although|because|when|before|after|so|and|but|who|that|why)\b"
    kinds = [{word.lower() for word in re.findall(clauses, source, re.I)} for source in long]
    assert sum(len(kind) >= 3 for kind in kinds) >= 0.7 * len(long)
    for word in (
        "if",
        "although",
        "because",
        "when",
        "before",
        "after",
        "so",
        "and",
        "but",
        "who",
        "that",
    ):
        assert 0.1 <= sum(word in kind for kind in kinds) / len(long) <= 0.8, word
    for source in long:
        assert (
            len(re.findall(r"\b(said|knows?|thinks?|believes?|told \w+|heard) that\b", source)) <= 5
        ), source
