"""Published corpora: from a mirror, by download, and divided from one upstream file."""

import gzip
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from corpus_files import config_of, own, sha256, write
from splitting_oracle import RULE, oracle
from typed import present

from seq2seq.config import DataConfig, SplitConfig, SplitRule, TextOrigin
from seq2seq.data import published as published_texts
from seq2seq.data.columns import Columns, tsv_pairs
from seq2seq.data.corpora import (
    is_here,
    locate,
    read_split,
    split_pairs,
    splits,
)
from seq2seq.data.splitting import split_by_components
from seq2seq.errors import DataError

Server = tuple[str, Path, list[str]]
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
def no_mirror_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(published_texts.MIRROR_VARIABLE, raising=False)


# -- published corpora: mirror and download ---

TEXTS = {
    "train.de": "ein\nzwei\n",
    "train.en": "one\ntwo\n",
    "test.de": "drei\n",
    "test.en": "three\n",
}


def published(tmp_path: Path, **options: Any) -> DataConfig:
    def split(name: str) -> SplitConfig:
        return SplitConfig(
            f"{name}.de.gz",
            f"{name}.en.gz",
            sha256(TEXTS[f"{name}.de"]),
            sha256(TEXTS[f"{name}.en"]),
        )

    return DataConfig(
        name="pub",
        origin=TextOrigin.published,
        root=str(tmp_path / "prepared"),
        mirror_folder="pub-folder",
        train=split("train"),
        test=split("test"),
        **options,
    )


CHECKED = SplitConfig("train.en.gz", "train.zh.gz", "0", "0")
"""A split with checksums, which published texts need."""


@pytest.fixture
def small_mirror(tmp_path: Path) -> Path:
    for name, text in TEXTS.items():
        write(tmp_path / "mirror" / "pub-folder" / f"{name}.gz", gzip.compress(text.encode()))
    return tmp_path / "mirror"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serve tmp_path/site on this machine; yield its address, its folder and the requested paths."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
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
def test_a_mirror_is_used(
    tmp_path: Path, small_mirror: Path, by_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_environment:
        monkeypatch.setenv(published_texts.MIRROR_VARIABLE, str(small_mirror))
        config = published(tmp_path)
    else:
        config = published(tmp_path, mirror=str(small_mirror))
    assert is_here(config, "train")
    assert read_split(config, "train") == (["ein", "zwei"], ["one", "two"])


def test_own_files_are_never_fetched(tmp_path: Path, small_mirror: Path) -> None:
    assert is_here(own(tmp_path, train="a\n|x\n"), "train")
    assert not is_here(own(tmp_path, train="a\n|x\n"), "test")
    config = published(tmp_path)
    config.train = SplitConfig("./mine.de", "./mine.en", sha256("x"), sha256("y"))
    assert is_here(config, "train")


def test_a_wrong_checksum_is_refused(tmp_path: Path, small_mirror: Path) -> None:
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


def test_a_file_that_a_mirror_lacks_is_named(tmp_path: Path, small_mirror: Path) -> None:
    (small_mirror / "pub-folder" / "train.en.gz").unlink()
    with pytest.raises(DataError, match=r"pub-folder/train\.en\.gz: no such file"):
        locate(published(tmp_path, mirror=str(small_mirror)), "train")
    with pytest.raises(DataError, match="nowhere/pub-folder: no such folder in the mirror"):
        locate(published(tmp_path, mirror=str(tmp_path / "nowhere")), "train")


def test_a_local_file_of_the_same_name_is_not_used_for_a_published_one(
    tmp_path: Path, small_mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.de.gz", "mein\nzeug\n")
    config = published(tmp_path, mirror=str(small_mirror))
    assert read_split(config, "train")[0] == ["ein", "zwei"]
    config.train.source = "./train.de.gz"
    assert read_split(config, "train")[0] == ["mein", "zeug"]


def test_without_a_mirror_and_an_address_the_error_names_the_settings(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"cannot be downloaded by itself; set data\.mirror=DIR or SEQ2SEQ_DATA_MIRROR",
    ):
        locate(published(tmp_path), "train")


@pytest.mark.parametrize("is_gzip", [True, False])
def test_downloads_are_checked_kept_and_not_repeated(
    tmp_path: Path, server: Server, is_gzip: bool
) -> None:
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


def test_a_wrong_download_is_refused_and_not_kept(tmp_path: Path, server: Server) -> None:
    address, site, _ = server
    for name, text in TEXTS.items():
        write(site / f"{name}.gz", text)
    write(site / "train.en.gz", "<html>sorry</html>\n")
    config = published(tmp_path, upstream=address)
    with pytest.raises(DataError, match=r"train\.en\.gz: wrong checksum"):
        locate(config, "train")
    write(site / "train.en.gz", TEXTS["train.en"])
    assert read_split(config, "train")[1] == ["one", "two"]


def test_a_failed_download_names_the_address_and_the_setting_that_helps(
    tmp_path: Path, server: Server
) -> None:
    address, _, _ = server
    with pytest.raises(
        DataError, match=r"http.*/train\.de\.gz: cannot be downloaded .*data\.mirror=DIR"
    ):
        locate(published(tmp_path, upstream=address), "train")
    with pytest.raises(DataError, match=r"cannot be downloaded \(Connection refused\); data"):
        locate(published(tmp_path, upstream="http://127.0.0.1:1/"), "train")
    assert not list((tmp_path / "prepared").rglob("*.gz"))


# -- the split of one upstream file ---


def upstream_tsv() -> str:
    lines = [f"Sentence {i}.\t句子{i}。\tCC-BY\n" for i in range(120)]
    return "\ufeff" + "".join(lines) + "Sentence 3.\t句子3。\tagain\n\n"


@pytest.mark.parametrize("zipped", [True, False])
def test_an_upstream_file_is_fetched_and_split(
    tmp_path: Path, server: Server, zipped: bool
) -> None:
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
        origin=TextOrigin.published,
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
    rule = present(config.upstream_split)
    rule.train_share /= 2
    assert not is_here(config, "test"), "it has to be divided again"
    rule.train_share *= 2
    assert asked == ["/all.bin"]
    config.test.source_sha256 = sha256("else")
    with pytest.raises(DataError, match=r"test\.en\.gz: wrong checksum"):
        locate(config, "test")


def test_an_upstream_file_is_checked_by_its_git_hash(tmp_path: Path, server: Server) -> None:
    address, site, _ = server
    write(site / "all.txt", upstream_tsv())
    blob = upstream_tsv().encode()
    git = hashlib.sha1(f"blob {len(blob)}\0".encode() + blob).hexdigest()
    config = DataConfig(
        name="split",
        origin=TextOrigin.published,
        root=str(tmp_path),
        upstream=address + "all.txt",
        upstream_split=SplitRule(**{**vars(RULE), "git_blob": git}),
        train=CHECKED,
    )
    for name in ("train", "valid", "test"):  # checksums of a mirror with fewer pairs
        setattr(
            config,
            name,
            SplitConfig(f"{name}.en.gz", f"{name}.zh.gz", sha256("less"), sha256("less")),
        )
    assert len(read_split(config, "train")[0]) > 40
    config.name, present(config.upstream_split).git_blob = "other", "0" * 40
    with pytest.raises(
        DataError, match=f"all\\.txt: wrong checksum: git hash {git}, expected {'0' * 40}"
    ):
        locate(config, "train")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"a\tb\nonly one column\n",
            r"all\.txt:2: found 1 tab-separated column in 'only one column'; "
            "expected source in column 1 and target in column 2",
        ),
        (b"a\tb\nc\t\xe4\xf6\n", r"all\.txt:2: invalid UTF-8 at byte 3 \(0xe4\)"),
    ],
)
def test_a_damaged_upstream_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(tsv_pairs(write(tmp_path / "all.txt", data), Columns()))


def test_a_zip_without_the_member(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("other.txt", "a\tb\n")
    with pytest.raises(DataError, match=r"a\.zip: the zip archive has no member 'deu\.txt'"):
        list(tsv_pairs(tmp_path / "a.zip", Columns(), member="deu.txt"))


# -- the configurations ---


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_text_has_a_checksum_and_a_place(name: str) -> None:
    config = config_of(name)
    assert config.name == name
    languages = name.rpartition("_")[0].rpartition("_")[2], name.rpartition("_")[2]
    assert (config.source_language, config.target_language) == languages
    for split in splits(config).values():
        assert len(present(split.source_sha256)) == len(present(split.target_sha256)) == 64
        assert split.source_sha256 != split.target_sha256
        assert f".{languages[0]}.gz" in present(split.source)
        assert f".{languages[1]}.gz" in present(split.target)
    if config.upstream is not None:
        assert any(
            len(part) == 40 and set(part) <= set("0123456789abcdef")
            for part in config.upstream.split("/")
        )


def test_iwslt_asks_for_its_training_text() -> None:
    with pytest.raises(
        DataError, match=r"has no split 'train'.*supply its training text: data\.train\.source=FILE"
    ):
        locate(config_of("iwslt15_en_vi"), "train")


def test_iwslt_takes_own_training_text(tmp_path: Path) -> None:
    train = [write(tmp_path / f"train.{side}", "a\nb\n") for side in ("en", "vi")]
    config = config_of(
        "iwslt15_en_vi", f"data.train.source={train[0]}", f"data.train.target={train[1]}"
    )
    assert read_split(config, "train") == (["a", "b"], ["a", "b"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_mirror_holds_every_corpus(name: str, mirror: Path) -> None:
    config = config_of(name, f"data.mirror={mirror}")
    for split in splits(config):
        assert all(path.exists() for path in locate(config, split))


@pytest.mark.parametrize(
    "name", ["tatoeba_en_zh", "tatoeba_zh_en", "tatoeba_de_en", "tatoeba_fr_en"]
)
def test_splitting_the_mirror_again_moves_no_pair(name: str, mirror: Path) -> None:
    """Dividing the mirror's pairs again gives the mirror's splits.

    The mirror's English-Chinese copy lacks 1,000 of the published pairs. That could divide a
    component, but it moves no pair here. The mirror has every pair of the other corpora.
    """
    config = config_of(name, f"data.mirror={mirror}")
    expected = {split: list(split_pairs(config, split)) for split in ("train", "valid", "test")}
    english = 0 if config.source_language == "en" else 1
    pairs = sorted(
        (pair for part in expected.values() for pair in part), key=lambda pair: len(pair[english])
    )
    divided = split_by_components(pairs, present(config.upstream_split))
    assert {split: set(part) for split, part in divided.items()} == {
        split: set(part) for split, part in expected.items()
    }
