"""The files of one upstream file: divided, checked, deleted where they are wrong, never the user's."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
from corpus_files import config_of, sha256, write
from splitting_oracle import RULE, oracle

from seq2seq.config import DataConfig, SplitConfig, SplitRule, TextOrigin
from seq2seq.data import published
from seq2seq.data.corpora import is_here, locate, read_split
from seq2seq.errors import DataError

PAIRS = [(f"Satz {i}.", f"Sentence {i}.") for i in range(60)]
PARTS = oracle(PAIRS, RULE)
PORTAL = b"<html>Please log in</html>\n"


def zipped(text: str) -> bytes:
    """Return a zip archive of one text."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("deu.txt", text)
    return packed.getvalue()


GOOD = zipped("".join(f"{de}\t{en}\n" for de, en in PAIRS))


class Upstream:
    """A stand-in for the network: what it holds is written where pooch writes a download."""

    def __init__(self, content: bytes) -> None:
        self.content, self.asked = content, 0

    def retrieve(self, url: str, fname: str, path: Path, **_: object) -> None:
        self.asked += 1
        write(path / fname, self.content)


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """Replace the network by a stand-in, without a mirror."""
    found = Upstream(GOOD)
    monkeypatch.delenv(published.MIRROR_VARIABLE, raising=False)
    monkeypatch.setattr("pooch.retrieve", found.retrieve)
    return found


def corpus(tmp_path: Path, git_blob: str | None = None) -> DataConfig:
    """Return a corpus that is divided from a zip archive; with a git hash it has a mirror's sums."""

    def split(name: str) -> SplitConfig:
        texts = ["".join(f"{pair[side]}\n" for pair in PARTS[name]) for side in (0, 1)]
        sums = [sha256("a mirror's" if git_blob else text) for text in texts]
        return SplitConfig(f"{name}.de.gz", f"{name}.en.gz", *sums)

    return DataConfig(
        name="divided",
        origin=TextOrigin.published,
        root=str(tmp_path / "prepared"),
        upstream="https://example.org/deu-eng.zip",
        upstream_split=SplitRule(**{**vars(RULE), "file": "deu.txt", "git_blob": git_blob}),
        train=split("train"),
        valid=split("valid"),
        test=split("test"),
    )


def downloaded(tmp_path: Path) -> list[str]:
    """Return the names of what the folder of downloads holds."""
    return sorted(path.name for path in (tmp_path / "prepared/divided/download").iterdir())


# -- the user's own files ---


def test_own_files_are_never_written(tmp_path: Path, upstream: Upstream) -> None:
    config = corpus(tmp_path)
    mine = [write(tmp_path / f"mine.{side}", f"my {side}\n") for side in ("de", "en")]
    config.train.source, config.train.target = map(str, mine)
    assert len(read_split(config, "valid")[0]) == len(PARTS["valid"])
    assert [file.read_text() for file in mine] == ["my de\n", "my en\n"]
    assert read_split(config, "train") == (["my de"], ["my en"])
    assert [name for name in downloaded(tmp_path) if name.startswith("train")] == []


@pytest.mark.parametrize("name", ["../../../mine.de", "./mine.de", "{}/mine.de"])
def test_nothing_outside_the_folder_is_written(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = corpus(tmp_path)
    mine = write(tmp_path / "mine.de", "mine\n")
    config.train.source = name.format(tmp_path)
    locate(config, "valid")
    assert mine.read_text() == "mine\n"
    assert "train.en.gz" in downloaded(tmp_path)
    assert not list(tmp_path.rglob("*/mine.de"))


def test_own_files_of_a_corpus_that_can_be_downloaded(tmp_path: Path, upstream: Upstream) -> None:
    """A later run with the published text has its files made."""
    own = corpus(tmp_path)
    own.train = SplitConfig(str(write(tmp_path / "mine.tsv", "a\tb\n")))
    locate(own, "valid")
    config = corpus(tmp_path)
    assert not is_here(config, "train")
    assert read_split(config, "train")[0] == [de for de, _ in PARTS["train"]]
    assert is_here(own, "valid")
    assert upstream.asked == 1


def test_a_corpus_without_one_of_its_splits(tmp_path: Path, upstream: Upstream) -> None:
    config = corpus(tmp_path)
    config.test = SplitConfig()
    assert len(read_split(config, "train")[0]) == len(PARTS["train"])
    assert not any("test" in name for name in downloaded(tmp_path))


def test_a_published_corpus_without_test_is_composed(tmp_path: Path, upstream: Upstream) -> None:
    without = ("source", "target", "source_sha256", "target_sha256")
    config = config_of(
        "tatoeba_de_en", f"data.root={tmp_path}", *(f"data.test.{key}=null" for key in without)
    )
    upstream.content = zipped("Hi.\tHallo!\n")
    with pytest.raises(DataError, match=r"train\.de\.gz: wrong checksum"):
        locate(config, "train")


# -- checks of what was divided ---


def test_a_divided_text_is_checked_by_the_checksum_of_its_division(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "check_git_blob", lambda *_: None)
    config = corpus(tmp_path, git_blob="0" * 40)
    assert len(read_split(config, "test")[0]) == len(PARTS["test"])
    test = tmp_path / "prepared/divided/download/test.en.gz"
    test.write_bytes(gzip.compress(b"x\nx\nx\n"))
    with pytest.raises(DataError, match=r"test\.en\.gz: wrong checksum: .*as split\.json says"):
        locate(config, "test")
    assert len(read_split(config, "test")[0]) == len(PARTS["test"])


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"sha256": 1}'])
def test_with_a_damaged_record_the_text_is_divided_again(
    tmp_path: Path, upstream: Upstream, record: str
) -> None:
    config = corpus(tmp_path)
    locate(config, "test")
    file = tmp_path / "prepared/divided/download/split.json"
    whole = file.read_text()
    assert set(json.loads(whole)) == {"upstream", "rule", "sha256"}
    file.write_text(record)
    assert not is_here(config, "test")
    locate(config, "test")
    assert file.read_text() == whole
    assert upstream.asked == 1


def test_a_missing_part_is_made_again(tmp_path: Path, upstream: Upstream) -> None:
    config = corpus(tmp_path)
    locate(config, "test")
    (tmp_path / "prepared/divided/download/test.en.gz").unlink()
    assert not is_here(config, "test")
    assert read_split(config, "test")[1] == [en for _, en in PARTS["test"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PORTAL, r"deu-eng\.zip: no zip archive; expected that of https://example\.org/deu-eng"),
        (zipped("".join(f"{en}\t{de}\n" for de, en in PAIRS)), "gz: wrong checksum"),
        (zipped("no tab\n"), r"deu-eng\.zip:1: found 1 tab-separated column"),
        (GOOD[:-40], r"deu-eng\.zip: "),
    ],
)
def test_a_wrong_upstream_file_is_deleted(
    tmp_path: Path, upstream: Upstream, content: bytes, message: str
) -> None:
    config, upstream.content = corpus(tmp_path), content
    for asked in (1, 2):
        with pytest.raises(DataError, match=message):
            locate(config, "valid")
        assert upstream.asked == asked
        assert downloaded(tmp_path) == []
    upstream.content = GOOD
    assert len(read_split(config, "valid")[0]) == len(PARTS["valid"])


def test_a_split_that_is_no_part_of_the_upstream_file(tmp_path: Path, upstream: Upstream) -> None:
    config = corpus(tmp_path)
    config.more_tests = {"news": SplitConfig("news.de.gz", "news.en.gz", "0", "0")}
    with pytest.raises(DataError, match=r"news\.de\.gz cannot be downloaded by itself"):
        locate(config, "news")
    assert upstream.asked == 0
