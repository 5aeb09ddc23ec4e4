"""Text on the command line is taken as it is typed, in single runs and in sweeps."""

import shlex
from pathlib import Path

import pytest
import yaml
from composing import composed
from conftest import TrainCommand, exit_code
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType

from seq2seq.app import prepare
from seq2seq.app.overrides import check, keys
from seq2seq.app.typed import as_typed
from seq2seq.config.settings import kind_of

SIDES = ("source", "target")
SPLITS = ("train", "valid", "test")
ODD = [
    "a=b.de",
    "a,b.de",
    "(1) x.de",
    "a {b} [c]: d",
    "中文 语料.zh",
    "it's",
    "'a' and 'b'",
    '"a" and "b"',
    "C:\\text\\",
    "a\\,b",
    "\\'",
    " leading",
    "trailing ",
    "tab\there",
    "line\nbreak",
    "choice(a,b)",
    "[a]",
    "{a: b}",
    "~user,x",
    "no",
    "on",
    "1e3",
    "0123",
    "1_000",
    "2020-01-01",
    "12:30",
    "true",
    "nan",
    "a$b",
    "a#b",
    "&|;<>!*?%^`",
    "ßßß",
    "é",
    "🙂",
    "norm-lstm-seed1,data.name=x,optimizer.lr=0.01",
    "++x",
    "-x",
]


@pytest.mark.parametrize("sweep", [False, True])
@pytest.mark.parametrize("text", ODD)
def test_text_arrives_as_it_was_typed(text: str, sweep: bool) -> None:
    swept = f'"{text}"' if sweep and "," in text else text
    for key in ("data.name", "data.train.source", "+data.more_tests.no.source", "data.sha256.x.no"):
        [typed] = as_typed([f"{key}={swept}"], sweep)
        found = OverridesParser.create().parse_override(typed)
        assert found.value_type is ValueType.ELEMENT
        assert str(found.value()) == text


def test_odd_text_arrives_in_the_configuration() -> None:
    odd = {f"t{i}": f"./{text}" for i, text in enumerate(ODD)}
    typed = as_typed([f"+data.sha256.x.{key}={text}" for key, text in odd.items()], sweep=False)
    check(typed)
    assert composed("data=files", *typed).data.sha256["x"] == odd


def test_what_hydra_reads_as_typed_is_left_alone_so_that_names_of_runs_stay() -> None:
    kept = [
        *("norm=layer", "data=files", "optimizer.lr=1e-3", "optimizer.betas=[0.8,0.9]", "-m"),
        *("data.name=mine", "data.train.source=/text/a-b_c.de.gz", "decode.max_length=2.0x+10"),
        *("decode.max_length=100", "data.mirror=", "data.mirror=null", "--cfg", "job"),
        *("experiment=length", "size=quick", "probe.kinds=[length]", "data.name='a,b'"),
        *(
            'data.name="a=b"',
            "data.train.source=${data.name}/x",
            "~data.name",
            "hydra.job.name=a=b",
        ),
    ]
    assert as_typed(kept, sweep=False) == kept


@pytest.mark.parametrize(
    ("typed", "items"),
    [
        ("[test,valid]", ["test", "valid"]),
        ("[<url>, <num>]", ["<url>", "<num>"]),
        ("[[URL],@x@]", ["[URL]", "@x@"]),
        ("['a,b',\"c d\"]", ["a,b", "c d"]),
        ("[no,1e3,0123,中]", ["no", "1e3", "0123", "中"]),
        ("[]", []),
    ],
)
def test_lists_of_texts(typed: str, items: list[str]) -> None:
    [override] = as_typed([f"probe.test_sets={typed}"], sweep=False)
    found = OverridesParser.create().parse_override(override).value()
    assert isinstance(found, list)
    assert list(map(str, found)) == items
    swept = as_typed([f"probe.test_sets={typed},[<s>]"], sweep=True)
    assert swept == [f"{override},['<s>']"]


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for key in ("data.train.source", "data.mirror", "data.root", "resume", "hydra.run.dir"):
        assert as_typed([f"{key}=~/a"], sweep=False) == [f"{key}=/home/me/a"]
        assert as_typed([f"{key}=~/a,b"], sweep=False) == [f"{key}='/home/me/a,b'"]
    assert as_typed(["data.name=~/a"], sweep=False) == ["data.name='~/a'"]  # a name is no path
    swept = as_typed(["data.train.source=~/a,~/b"], sweep=True)
    assert swept == ["data.train.source=/home/me/a,/home/me/b"]
    config = composed("data=files", "data.mirror='~/a'", "data.train={source: '~/b'}")
    assert (config.data.mirror, config.data.train.source) == ("/home/me/a", "/home/me/b")


def test_a_comma_of_a_sweep_is_none_inside_an_existing_path_or_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("none,lr=1", "layer,lr=1,seed=2", "a,b"):
        (tmp_path / name).mkdir()
    for typed, expected in {
        "resume=none,lr=1": "resume='none,lr=1'",
        "resume=none,lr=1,layer,lr=1,seed=2": "resume='none,lr=1','layer,lr=1,seed=2'",
        "resume=none,layer": "resume=none,layer",
        "resume=none,lr=2": "resume=none,'lr=2'",
        "resume='x,y',a,b": "resume='x,y','a,b'",
        "data.name=a,b": "data.name=a,b",
        "data.name='a,b',c": "data.name='a,b',c",
        "data.name=choice(a,b)": "data.name=choice(a,b)",
        "data.name=it's,Bob's": r"data.name='it\'s','Bob\'s'",
        "hydra.sweep.dir=x,y=1": "hydra.sweep.dir='x,y=1'",
        "seed=1,2": "seed=1,2",
        "data.name=${oc.env:USER,me},b": "data.name=${oc.env:USER,me},b",
    }.items():
        assert as_typed([typed], sweep=True) == [expected]


def test_a_dollar_in_the_name_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "${x}.de").touch()
    [typed] = as_typed([f"data.train.source={tmp_path}/${{x}}.de"], sweep=False)
    assert composed("data=files", typed).data.train.source == f"{tmp_path}/${{x}}.de"


def test_bytes_that_are_no_text_are_answered_with_a_way_out() -> None:
    with pytest.raises(
        ValueError, match=r"^data.train.source=a\\udcff: expected .*ln -s FILE NAME"
    ):
        as_typed(["data.train.source=a\udcff"], sweep=False)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (
            ["data.train.source=my", "text (1).de"],
            "text (1).de: expected key=value; a value with spaces needs quotes:"
            " 'data.train.source=my text (1).de'",
        ),
        (["norm"], "norm: expected key=value"),
        (["probe.test_sets=<url>"], "probe.test_sets='<url>': expected a list, as in [a,b]"),
        (["tokenizer.vocab_size=8,000"], "8,000: expected one value; several are a sweep, with -m"),
        (["seed=range(1,3)"], "seed=range(1,3): expected one value; several are a sweep, with -m"),
        (["optimizer.betas=0.9,0.99"], "expected one value; a list is optimizer.betas=[0.9,0.99]"),
        (["data.name=null"], """(the word null: "data.name='null'")"""),
        (["data.train.source=${x}.de"], r"as a part of a name: '\${x}'"),
        (["+data.more_tests.x.source=a"], "expected it in a file of settings, as in --config-dir"),
        (["data.more_tests.x.source=a"], "expected it in a file of settings, as in --config-dir"),
        (["model.bidirectional=5"], "model.bidirectional=5: expected true or false"),
    ],
)
def test_what_can_not_be_taken_is_answered_with_what_to_type(
    typed: list[str], line: str, train_command: TrainCommand
) -> None:
    done = train_command(*typed, "data=files")
    assert done.code == 2
    assert line in done.err
    assert done.err.count("\n") == 1
    if "needs quotes" in line:
        [whole] = shlex.split(line.partition("quotes: ")[2])
        check(as_typed([whole], sweep=False))


def test_train_takes_odd_paths_for_text_run_and_resume(
    tmp_path: Path, toy: list[str], train_command: TrainCommand
) -> None:
    odd = tmp_path / "x=1, (中) y"
    odd.mkdir()
    settings = []
    for setting in toy:
        key, _, value = setting.partition("=")
        if key.endswith((".source", ".target")):
            moved = odd / Path(value).name
            moved.write_bytes(Path(value).read_bytes())
            setting = f"{key}={moved}"
        settings.append(setting)
    place = odd / "run, of=[me]"
    one = [*settings, f"hydra.run.dir={place}", "trainer.max_epochs=1", "data.source_language=no"]
    done = train_command(*one)
    assert done.code == 0, done.err
    config = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8"))
    assert config["data"]["train"]["source"] == str(odd / "train.source")
    assert config["data"]["source_language"] == "no"
    done = train_command(f"resume={place}")
    assert (done.code, done.out.startswith("finished already")) == (0, True), done.err
    done = train_command("-m", f"resume={place}")
    assert (done.code, "1 of 1 jobs done" in done.out) == (0, True), done.err


def test_prepare_data_takes_odd_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    odd = tmp_path / "part (1), a=b 中.de"
    odd.write_text("do re\nmi fa\n")
    files = [f"data.{split}.{side}=~/{odd.name}" for split in ("train", "valid") for side in SIDES]
    settings = ["data=files", "data.name=1e3", "data.source_language=no", "tokenizer=word", *files]
    monkeypatch.setattr("sys.argv", ["prepare_data.py", *settings])
    assert exit_code(prepare.main) == 0
    shown = capsys.readouterr().out
    assert "text        do re\n" in shown
    assert "data/prepared/1e3/" in shown


PLACES = {"source", "target", "root", "mirror", "grammar", "resume", "init", "model"}
"""Words in the names of settings that are the path of a file or folder."""


def test_every_setting_that_is_a_path_is_marked_as_one() -> None:
    """Only then ~ is expanded, and a comma in an existing path separates nothing in a sweep."""
    texts = {key: kind for key in keys() if (kind := kind_of(key)) and kind.type is str}
    paths = {key for key, kind in texts.items() if kind.is_path}
    assert paths == {key for key in texts if set(key.rpartition(".")[2].split("_")) & PLACES} - {
        *("data.source_language", "data.target_language", "data.mirror_folder"),
        *("data.source_column", "data.target_column"),
        *(f"data.{split}.{side}_sha256" for split in SPLITS for side in SIDES),
        *(f"data.{split}.mirror_folder" for split in SPLITS),
    }
    assert {"resume", "data.mirror", "data.test.target"} <= paths
