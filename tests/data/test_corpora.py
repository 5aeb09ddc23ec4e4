import gzip
import hashlib
import http.server
import io
import random
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from test_splitting import RULE, oracle

from seq2seq.app import composition
from seq2seq.config import DataConfig, GrammarSplit, Origin, SplitConfig, SplitRule
from seq2seq.data import corpora
from seq2seq.data.corpora import (
    is_here,
    locate,
    read_parallel,
    read_split,
    split_pairs,
    splits,
    tsv_pairs,
)
from seq2seq.data.splitting import split_by_components
from seq2seq.errors import DataError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PUBLISHED = [
    "multi30k_de_en",
    "multi30k_en_de",
    "multi30k_en_fr",
    "multi30k_fr_en",
    "tatoeba_en_zh",
    "tatoeba_zh_en",
    "tatoeba_de_en",
    "tatoeba_fr_en",
    "small_en_ja",
    "iwslt15_en_vi",
]


@pytest.fixture(autouse=True)
def no_mirror_by_chance(monkeypatch):
    monkeypatch.delenv(corpora.MIRROR_VARIABLE, raising=False)


def config_of(name, *overrides):
    composition.register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return composition.composed(compose("train", overrides=[f"data={name}", *overrides])).data


def sha256(text):
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def own(tmp_path, **files):
    """Write a corpus of files: train="a\nb\n|x\ny\n" writes both sides of train."""
    config = DataConfig(name="mine", root=str(tmp_path / "prepared"))
    for split, text in files.items():
        sides = [
            str(write(tmp_path / f"{split}.{i}", side)) for i, side in enumerate(text.split("|"))
        ]
        setattr(config, split, SplitConfig(*sides))
    return config


# -- reading ---


def test_gzip_is_told_by_content(tmp_path):
    packed = write(tmp_path / "plain.txt", gzip.compress(b"a\nb\n"))
    plain = write(tmp_path / "packed.gz", "x\ny\n")
    assert read_parallel([str(packed), str(plain)]) == [["a", "b"], ["x", "y"]]


def test_different_line_counts_are_named(tmp_path):
    config = own(tmp_path, train="a\nb\nc\n|x\ny\n")
    with pytest.raises(DataError, match=r"train\.0 has 3 lines, .*train\.1 has 2"):
        read_split(config, "train")


def test_an_empty_corpus_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"train\.0: empty"):
        read_split(own(tmp_path, train="|"), "train")
    with pytest.raises(DataError, match="empty"):
        read_split(own(tmp_path, train=""), "train")
    config = own(tmp_path, train="a\n|b\n")
    (tmp_path / "train.1").unlink()
    with pytest.raises(DataError, match=r"train\.1: no such file"):
        read_split(config, "train")
    (tmp_path / "train.1").mkdir()
    with pytest.raises(DataError, match=r"train\.1: cannot be read"):
        read_split(config, "train")


def test_tsv(tmp_path):
    config = own(tmp_path, train="a\tx\nb c\ty z\tattribution\r\n")
    assert read_split(config, "train") == (["a", "b c"], ["x", "y z"])
    with pytest.raises(
        DataError,
        match=r"train\.0:2: found 1 tab-separated columns in 'no tab here'; expected source in column 1",
    ):
        read_split(own(tmp_path, train="a\tx\nno tab here\n"), "train")


def test_a_split_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"has no split 'test'; expected one of train"):
        locate(own(tmp_path, train="a\tx\n"), "test")
    with pytest.raises(DataError, match=r"data\.train\.source=FILE data\.train\.target=FILE"):
        locate(DataConfig(name="files"), "train")


def test_a_checksum_given_for_own_files_is_checked(tmp_path):
    config = own(tmp_path, train="a\n|x\n")
    config.train.source_sha256, config.train.target_sha256 = sha256("a\n"), sha256("y\n")
    found, expected = sha256("x\n"), sha256("y\n")
    with pytest.raises(
        DataError, match=rf"train\.1: wrong checksum: .*{found}, expected {expected}"
    ):
        locate(config, "train")


# -- holding out ---


def test_without_valid_a_part_is_held_out_that_never_moves(tmp_path):
    lines = [f"sentence {i}\tsatz {i}" for i in range(2000)]
    config = own(tmp_path, train="\n".join(lines) + "\n")
    config.valid_share = 0.1
    train, valid = (set(split_pairs(config, name)) for name in ("train", "valid"))
    assert not train & valid
    assert train | valid == {tuple(line.split("\t")) for line in lines}
    assert 140 < len(valid) < 260
    shuffled = lines + [f"new {i}\tneu {i}" for i in range(500)]
    random.Random(1).shuffle(shuffled)
    later = set(split_pairs(own(tmp_path, train="\n".join(shuffled)), "valid"))
    config.valid_share = DataConfig().valid_share
    assert later & {tuple(line.split("\t")) for line in lines} == set(
        split_pairs(own(tmp_path, train="\n".join(lines)), "valid")
    )


def test_with_valid_nothing_is_held_out(tmp_path):
    config = own(tmp_path, train="".join(f"a{i}\tb{i}\n" for i in range(300)), valid="c\td\n")
    assert len(list(split_pairs(config, "train"))) == 300
    assert list(split_pairs(config, "valid")) == [("c", "d")]


# -- published corpora: mirror and download ---

TEXTS = {
    "train.de": "ein\nzwei\n",
    "train.en": "one\ntwo\n",
    "test.de": "drei\n",
    "test.en": "three\n",
}


def published(tmp_path, **options):
    def split(name):
        return SplitConfig(
            f"{name}.de.gz",
            f"{name}.en.gz",
            sha256(TEXTS[f"{name}.de"]),
            sha256(TEXTS[f"{name}.en"]),
        )

    return DataConfig(
        name="pub",
        origin=Origin.published,
        root=str(tmp_path / "prepared"),
        mirror_folder="pub-folder",
        train=split("train"),
        test=split("test"),
        **options,
    )


CHECKED = SplitConfig("train.en.gz", "train.zh.gz", "0", "0")
"""A split with checksums, which published texts need."""


@pytest.fixture
def small_mirror(tmp_path):
    for name, text in TEXTS.items():
        write(tmp_path / "mirror" / "pub-folder" / f"{name}.gz", gzip.compress(text.encode()))
    return tmp_path / "mirror"


@pytest.fixture
def server(tmp_path):
    """Serve tmp_path/site on this machine; give its address, its folder and the requested paths."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    (tmp_path / "site").mkdir()
    handler = partial(Handler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/", tmp_path / "site", asked
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_mirror_is_used(tmp_path, small_mirror, by_environment, monkeypatch):
    if by_environment:
        monkeypatch.setenv(corpora.MIRROR_VARIABLE, str(small_mirror))
        config = published(tmp_path)
    else:
        config = published(tmp_path, mirror=str(small_mirror))
    assert is_here(config, "train")
    assert read_split(config, "train") == (["ein", "zwei"], ["one", "two"])


def test_own_files_are_never_fetched(tmp_path, small_mirror):
    assert is_here(own(tmp_path, train="a\n|x\n"), "train")
    assert not is_here(own(tmp_path, train="a\n|x\n"), "test")
    config = published(tmp_path)
    config.train = SplitConfig("./mine.de", "./mine.en", sha256("x"), sha256("y"))
    assert is_here(config, "train")


def test_a_wrong_checksum_is_refused(tmp_path, small_mirror):
    path = write(small_mirror / "pub-folder" / "train.en.gz", "one\nTWO\n")
    with pytest.raises(DataError) as error:
        locate(published(tmp_path, mirror=str(small_mirror)), "train")
    for part in (
        str(path),
        "wrong checksum",
        sha256("one\nTWO\n"),
        "expected " + sha256(TEXTS["train.en"]),
    ):
        assert part in str(error.value)


def test_what_a_mirror_lacks_is_named(tmp_path, small_mirror):
    (small_mirror / "pub-folder" / "train.en.gz").unlink()
    with pytest.raises(DataError, match=r"pub-folder/train\.en\.gz: no such file"):
        locate(published(tmp_path, mirror=str(small_mirror)), "train")
    with pytest.raises(DataError, match="nowhere/pub-folder: no such folder in the mirror"):
        locate(published(tmp_path, mirror=str(tmp_path / "nowhere")), "train")


def test_a_file_of_that_name_here_is_not_taken_for_the_published_one(
    tmp_path, small_mirror, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.de.gz", "mein\nzeug\n")
    config = published(tmp_path, mirror=str(small_mirror))
    assert read_split(config, "train")[0] == ["ein", "zwei"]
    config.train.source = "./train.de.gz"
    assert read_split(config, "train")[0] == ["mein", "zeug"]


def test_without_mirror_and_address_the_error_says_so(tmp_path):
    with pytest.raises(
        DataError,
        match=r"cannot be downloaded by itself; set data\.mirror=DIR or SEQ2SEQ_DATA_MIRROR",
    ):
        locate(published(tmp_path), "train")


@pytest.mark.parametrize("is_gzip", [True, False])
def test_downloads_are_checked_kept_and_not_repeated(tmp_path, server, is_gzip):
    address, site, asked = server
    for name, text in TEXTS.items():
        write(
            site / (f"{name}.gz" if is_gzip else name),
            gzip.compress(text.encode()) if is_gzip else text,
        )
    config = published(tmp_path, upstream=address, upstream_is_gzip=is_gzip)
    assert not is_here(config, "train")
    for _ in range(2):
        assert read_split(config, "train") == (["ein", "zwei"], ["one", "two"])
    assert is_here(config, "train")
    assert not is_here(config, "test")
    assert sorted(asked) == sorted(
        {"/train.de.gz", "/train.en.gz"} if is_gzip else {"/train.de", "/train.en"}
    )


def test_a_wrong_download_is_refused_and_not_kept(tmp_path, server):
    address, site, _ = server
    for name, text in TEXTS.items():
        write(site / f"{name}.gz", text)
    write(site / "train.en.gz", "<html>sorry</html>\n")
    config = published(tmp_path, upstream=address)
    with pytest.raises(DataError, match=r"train\.en\.gz: wrong checksum"):
        locate(config, "train")
    write(site / "train.en.gz", TEXTS["train.en"])
    assert read_split(config, "train")[1] == ["one", "two"]


def test_a_failed_download_names_the_address_and_the_way_out(tmp_path, server):
    address, _, _ = server
    with pytest.raises(
        DataError, match=r"http.*/train\.de\.gz: cannot be downloaded .*data\.mirror=DIR"
    ):
        locate(published(tmp_path, upstream=address), "train")
    with pytest.raises(DataError, match="cannot be downloaded"):
        locate(published(tmp_path, upstream="http://127.0.0.1:1/"), "train")
    assert not list((tmp_path / "prepared").rglob("*.gz"))


# -- the split of one upstream file ---


def upstream_tsv():
    lines = [f"Sentence {i}.\t句子{i}。\tCC-BY\n" for i in range(120)]
    return "\ufeff" + "".join(lines) + "Sentence 3.\t句子3。\tagain\n\n"


@pytest.mark.parametrize("zipped", [True, False])
def test_an_upstream_file_is_fetched_and_split(tmp_path, server, zipped):
    address, site, asked = server
    data = upstream_tsv().encode()
    if zipped:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("folder/all.txt", data)
        data = buffer.getvalue()
    write(site / "all.bin", data)
    expected = oracle([(f"Sentence {i}.", f"句子{i}。") for i in range(120)], RULE)
    config = DataConfig(
        name="split",
        origin=Origin.published,
        root=str(tmp_path),
        upstream=address + "all.bin",
        upstream_split=SplitRule(**{**vars(RULE), "file": "folder/all.txt"}),
        train=CHECKED,
    )
    for name in ("train", "valid", "test"):
        sides = ["".join(pair[side] + "\n" for pair in expected[name]) for side in (0, 1)]
        setattr(config, name, SplitConfig(f"{name}.en.gz", f"{name}.zh.gz", *map(sha256, sides)))
    assert not is_here(config, "test")
    for name in ("test", "train", "valid"):
        assert list(zip(*read_split(config, name), strict=True)) == expected[name]
    assert is_here(config, "test")
    config.upstream_split.train_share /= 2
    assert not is_here(config, "test"), "it has to be divided again"
    config.upstream_split.train_share *= 2
    assert asked == ["/all.bin"]
    config.test.source_sha256 = sha256("else")
    with pytest.raises(DataError, match=r"test\.en\.gz: wrong checksum"):
        locate(config, "test")


def test_an_upstream_file_is_checked_by_its_git_hash(tmp_path, server):
    address, site, _ = server
    write(site / "all.txt", upstream_tsv())
    blob = upstream_tsv().encode()
    git = hashlib.sha1(f"blob {len(blob)}\0".encode() + blob).hexdigest()
    config = DataConfig(
        name="split",
        origin=Origin.published,
        root=str(tmp_path),
        upstream=address + "all.txt",
        upstream_split=SplitRule(**{**vars(RULE), "git_blob": git}),
        train=CHECKED,
    )
    for name in ("train", "valid", "test"):  # the checksums of a mirror that holds less
        setattr(
            config,
            name,
            SplitConfig(f"{name}.en.gz", f"{name}.zh.gz", sha256("less"), sha256("less")),
        )
    assert len(read_split(config, "train")[0]) > 40
    config.name, config.upstream_split.git_blob = "other", "0" * 40
    with pytest.raises(
        DataError, match=f"all\\.txt: wrong checksum: git hash {git}, expected {'0' * 40}"
    ):
        locate(config, "train")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"a\tb\nonly one column\n",
            r"all\.txt:2: found 1 tab-separated columns in 'only one column'; "
            "expected source in column 1 and target in column 2",
        ),
        (b"a\tb\nc\t\xe4\xf6\n", r"all\.txt:2: invalid UTF-8 at byte 3 \(0xe4\)"),
    ],
)
def test_a_damaged_upstream_file_is_named(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        list(tsv_pairs(write(tmp_path / "all.txt", data), RULE))


def test_a_zip_without_the_member(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("other.txt", "a\tb\n")
    with pytest.raises(DataError, match=r"a\.zip: the zip archive has no member 'deu\.txt'"):
        list(tsv_pairs(tmp_path / "a.zip", SplitRule(file="deu.txt")))


# -- the grammar ---


def test_the_built_in_corpus_is_drawn_once(tmp_path, monkeypatch):
    config = config_of("grammar_en_zh", f"data.root={tmp_path}")
    assert {name: size.count for name, size in config.grammar_splits.items()} == {
        "train": 20000,
        "valid": 1000,
        "test": 1000,
        "test_long": 1000,
    }
    config.grammar = str(CONFIGS.parent / config.grammar)
    config.grammar_splits = {
        "train": GrammarSplit(60, 1, 12),
        "test_long": GrammarSplit(10, 21, 40),
    }
    assert not is_here(config, "train")
    src, tgt = read_split(config, "train")
    assert is_here(config, "train")
    assert len(src) == len(tgt) == 60
    assert max(len(line.split()) for line in src) <= 12
    assert all(21 <= len(line.split()) <= 40 for line in read_split(config, "test_long")[0])
    monkeypatch.setattr(corpora, "generate_splits", lambda *_: pytest.fail("drawn again"))
    assert read_split(config, "train") == (src, tgt)


def test_a_missing_grammar_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.txt: no such file; expected a grammar"):
        locate(
            config_of(
                "grammar_en_zh", f"data.root={tmp_path}", f"data.grammar={tmp_path}/nothing.txt"
            ),
            "train",
        )


# -- the configurations ---


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_text_has_a_checksum_and_a_place(name):
    config = config_of(name)
    assert config.name == name
    languages = name.rpartition("_")[0].rpartition("_")[2], name.rpartition("_")[2]
    assert (config.source_language, config.target_language) == languages
    for split in splits(config).values():
        assert len(split.source_sha256) == len(split.target_sha256) == 64
        assert split.source_sha256 != split.target_sha256
        assert f".{languages[0]}.gz" in split.source
        assert f".{languages[1]}.gz" in split.target
    if config.upstream is not None:
        assert any(
            len(part) == 40 and set(part) <= set("0123456789abcdef")
            for part in config.upstream.split("/")
        )


def test_iwslt_says_that_its_training_text_has_to_be_brought():
    with pytest.raises(
        DataError, match=r"has no split 'train'.*supply its training text: data\.train\.source=FILE"
    ):
        locate(config_of("iwslt15_en_vi"), "train")


def test_iwslt_takes_own_training_text(tmp_path):
    train = [write(tmp_path / f"train.{side}", "a\nb\n") for side in ("en", "vi")]
    config = config_of(
        "iwslt15_en_vi", f"data.train.source={train[0]}", f"data.train.target={train[1]}"
    )
    assert read_split(config, "train") == (["a", "b"], ["a", "b"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_mirror_holds_every_corpus(name, mirror):
    config = config_of(name, f"data.mirror={mirror}")
    for split in splits(config):
        assert all(path.exists() for path in locate(config, split))


@pytest.mark.parametrize(
    "name", ["tatoeba_en_zh", "tatoeba_zh_en", "tatoeba_de_en", "tatoeba_fr_en"]
)
def test_splitting_the_mirror_again_puts_every_pair_where_it_is(name, mirror):
    """Dividing the mirror's pairs again gives the mirror's splits.

    The mirror's English-Chinese copy lacks 1,000 of the published pairs. That could cut a component
    in two, but here it moves no pair. Of the other corpora the mirror holds every pair.
    """
    config = config_of(name, f"data.mirror={mirror}")
    expected = {split: list(split_pairs(config, split)) for split in ("train", "valid", "test")}
    english = 0 if config.source_language == "en" else 1
    pairs = sorted(
        (pair for part in expected.values() for pair in part), key=lambda pair: len(pair[english])
    )
    divided = split_by_components(pairs, config.upstream_split)
    assert {split: set(part) for split, part in divided.items()} == {
        split: set(part) for split, part in expected.items()
    }
