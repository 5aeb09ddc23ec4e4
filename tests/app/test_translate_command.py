"""scripts/translate.py as a user runs it: one translated line for each line."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from runs import Command, Runs, printed_lines, settings, trained, translation
from typed import present

from seq2seq.app.arguments import parser
from seq2seq.app.options import add_search_options, open_translator
from seq2seq.config import Attention, ModelConfig
from seq2seq.data.text import decoded_lines
from seq2seq.translation.lines import Session, Translation

pytest_plugins = ["run_fixtures"]


def test_a_line_in_is_a_line_out_in_order(two_runs: Runs, translate: Command) -> None:
    asked = two_runs.sources * 3
    done = printed_lines(translate(two_runs.layer, stdin="".join(line + "\n" for line in asked)))
    assert done == [translation(line) for line in asked]


def test_lines_keep_their_order_across_chunks(
    two_runs: Runs, translate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = printed_lines(translate(two_runs.none, stdin="\n".join(two_runs.sources)))
    assert len(set(whole)) > 5
    monkeypatch.setattr(translate.module, "CHUNK_LINES", 7)
    assert printed_lines(translate(two_runs.none, stdin="\n".join(two_runs.sources))) == whole


def test_lines_are_translated_chunk_by_chunk(
    two_runs: Runs, translate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translate.module, "CHUNK_LINES", 2)
    done = translate(two_runs.layer, stdin=b"one dogs see two cats\n" * 4 + b"\xff\n")
    assert done.code == 2
    assert done.out.splitlines() == ["一狗看见二猫。"] * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"\n\n", ["", ""]),
        (b" \t \n", [""]),
        (b"one dogs see two cats", ["一狗看见二猫。"]),
        (
            b"one dogs see two cats\r\ntwo dogs see two cats\r\n",
            ["一狗看见二猫。", "二狗看见二猫。"],
        ),
        (b"\none dogs see two cats\n\n", ["", "一狗看见二猫。", ""]),
        (b"\xef\xbb\xbfone dogs see two cats\n", ["一狗看见二猫。"]),
        ("one dogs\u2028see two cats\n".encode(), ["一狗看见二猫。"]),
        (b"one dogs\rsee two cats\n", ["一狗看见二猫。"]),
    ],
)
def test_only_newlines_end_a_line(
    two_runs: Runs, translate: Command, text: bytes, expected: list[str]
) -> None:
    done = translate(two_runs.layer, stdin=text)
    assert (done.code, done.err) == (0, "")
    assert done.out == "".join(line + "\n" for line in expected)


def test_invalid_utf8_is_named_by_line_and_byte(two_runs: Runs, translate: Command) -> None:
    done = translate(two_runs.layer, stdin=b"one\ntwo \xff cats\n")
    assert done.code == 2
    assert (
        done.err == "translate.py: <stdin>:2: invalid UTF-8 at byte 5 (0xff); expected UTF-8 text\n"
    )


def test_a_very_long_line_is_translated(two_runs: Runs, translate: Command) -> None:
    long = " ".join(two_runs.sources[i % 30] for i in range(120))  # 600 words
    done = printed_lines(
        translate(two_runs.layer, "--beam", 1, stdin=f"one dogs see two cats\n{long}\n\n")
    )
    assert done[0] == "一狗看见二猫。"
    assert done[1]
    assert done[2:] == [""]


# -- options ---


def test_n_best_gives_n_lines_for_each_sentence(two_runs: Runs, translate: Command) -> None:
    asked = ["one dogs see two cats", "", "two birds like five dogs"]
    done = printed_lines(
        translate(two_runs.none, "--n-best", 3, "--scores", stdin="\n".join(asked))
    )
    assert len(done) == 9
    groups = [[line.split("\t") for line in done[i : i + 3]] for i in (0, 3, 6)]
    assert groups[1] == [["0.0000", ""], ["-inf", ""], ["-inf", ""]]
    for group in (groups[0], groups[2]):
        scores = [float(score) for score, _ in group]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] < 0
        assert len({text for _, text in group}) == 3
    assert printed_lines(translate(two_runs.none, stdin="\n".join(asked))) == [
        group[0][1] for group in groups
    ]


def test_scores_are_divided_by_the_length(two_runs: Runs, translate: Command) -> None:
    asked = "one dogs see two cats\n"
    plain, halved = (
        printed_lines(
            translate(two_runs.layer, "--scores", "--length-penalty", alpha, stdin=asked)
        )[0].split("\t")
        for alpha in (0, 1)
    )
    command = parser(None)
    add_search_options(command)
    ids = open_translator(
        str(two_runs.layer),
        command.parse_args(["--device", "cpu"]),
    ).tokenizers.target.encode(plain[1])
    assert float(plain[0]) / float(halved[0]) == pytest.approx(len(ids) + 1, rel=0.01)
    assert plain[1] == halved[1] == "一狗看见二猫。"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n-best", 6], "--n-best 6: expected 1 to 5, the beam (--beam N makes it wider)"),
        (["--n-best", 3, "--beam", 2], "--n-best 3: expected 1 to 2, the beam"),
        (["--n-best", 0], "--n-best 0: expected at least 1"),
        (["--beam", 0], "--beam 0: expected at least 1"),
        (["--batch-size", 0], "--batch-size 0: expected at least 1"),
        (["--threads", 0], "--threads 0: expected at least 1"),
        (["--precision", "fp8"], "--precision fp8: expected one of fp32, bf16"),
        (["--device", "cuda"], "--device cuda: torch finds no CUDA device"),
        (["--device", "tpu"], "--device tpu: expected one of auto, cpu, cuda"),
        (["--beam", "many"], "--beam many: expected a whole number"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    two_runs: Runs,
    translate: Command,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str | int | str],
    message: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = translate(two_runs.layer, *options, stdin="one dogs see two cats\n")
    assert done.code == 2
    assert message in done.err.splitlines()[-1]
    assert done.out == ""
    assert "Traceback" not in done.err


def test_options_reach_the_search(
    two_runs: Runs, translate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Session] = []
    original = translate.module.open_ensemble

    def spy(*arguments: Any) -> Session:
        seen.append(original(*arguments))
        return seen[-1]

    monkeypatch.setattr(translate.module, "open_ensemble", spy)
    options = [
        "--beam",
        3,
        "--batch-size",
        2,
        "--length-penalty",
        0.5,
        "--precision",
        "bf16",
        "--device",
        "cpu",
        "--threads",
        1,
        "--replace-unk",
    ]
    assert (
        len(printed_lines(translate(two_runs.layer, *options, stdin="one dogs see two cats\n" * 5)))
        == 5
    )
    (session,) = seen
    decode = session.decode
    assert (decode.beam_size, decode.batch_size, decode.length_penalty, decode.replace_unk) == (
        3,
        2,
        0.5,
        True,
    )
    assert session.precision.value == "bf16"
    printed_lines(translate(two_runs.layer, stdin="one dogs see two cats\n"))
    decode = seen[1].decode
    assert (decode.beam_size, decode.batch_size, decode.length_penalty, decode.replace_unk) == (
        5,
        None,
        1.0,
        False,
    )
    assert seen[1].precision.value == "fp32"


@pytest.mark.parametrize(
    "options",
    [
        ["--beam", 1],
        ["--batch-size", 1],
        ["--batch-size", 7],
        ["--precision", "bf16"],
        ["--length-penalty", 0],
        ["--replace-unk"],
    ],
)
def test_a_good_model_translates_the_same_with_every_option(
    two_runs: Runs, translate: Command, options: list[str | int | str]
) -> None:
    done = printed_lines(translate(two_runs.layer, *options, stdin="\n".join(two_runs.sources)))
    assert done == two_runs.references


def test_help_documents_the_format(translate: Command) -> None:
    done = translate("--help")
    assert done.code == 0
    text = " ".join(done.out.split()).replace("- ", "-")  # argparse breaks lines at hyphens
    for part in (
        "--n-best N",
        "best first",
        "score and a tab",
        "log-probability in nats",
        "--attention PNG",
        "--beam N",
        "--batch-size N",
        "--length-penalty X",
        "--precision",
        "--device",
        "--threads",
        "--replace-unk",
        "< input.txt > output.txt",
    ):
        assert part in text


# -- attention ---


def test_the_attention_of_the_first_line_with_words_is_drawn(
    two_runs: Runs, translate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    png = tmp_path / "new" / "a.png"
    drawn: list[Translation] = []
    original = translate.module.open_ensemble

    def spy(*arguments: Any) -> Session:
        session: Session = original(*arguments)
        draw = session.draw_attention

        def draw_and_note(found: Translation, path: Path) -> None:
            drawn.append(found)
            draw(found, path)

        monkeypatch.setattr(session, "draw_attention", draw_and_note)
        return session

    monkeypatch.setattr(translate.module, "open_ensemble", spy)
    asked = ["", *two_runs.sources[:4]]
    done = printed_lines(
        translate(two_runs.layer, "--attention", png, "--n-best", 2, stdin="\n".join(asked))
    )
    assert done[::2] == ["", *two_runs.references[:4]]
    (found,) = drawn
    assert "".join(found.src_pieces).replace("▁", " ").strip() == two_runs.sources[0]
    assert present(found.attention).shape == (len(found.tgt_pieces) + 1, len(found.src_pieces) + 1)
    picture = imread(png)
    assert min(picture.shape[:2]) > 100
    assert [p.name for p in png.parent.iterdir()] == ["a.png"]


def test_a_text_without_words_has_no_attention_to_draw(
    two_runs: Runs, translate: Command, tmp_path: Path
) -> None:
    done = translate(two_runs.layer, "--attention", tmp_path / "a.png", stdin="\n \n")
    assert done.code == 2
    assert "no line has words" in done.err
    assert done.out == "\n\n"


def test_a_run_without_attention_has_no_attention_to_draw(
    two_runs: Runs, translate: Command, tmp_path: Path
) -> None:
    config = settings(two_runs.data, updates=1, model=ModelConfig(8, 8, attention=Attention.none))
    run = trained(tmp_path / "run", config)
    refused = translate(run, "--replace-unk", stdin="one dogs\n")
    assert (refused.code, refused.out) == (2, "")
    assert f"--replace-unk: {run} has model.attention=none" in refused.err
    done = translate(run, "--attention", tmp_path / "a.png", stdin="one dogs\n")
    assert done.code == 2
    assert "a.png: no attention to draw" in done.err
    assert "model.attention=none" in done.err


# -- runs ---


def test_a_copied_run_translates_without_the_original(
    two_runs: Runs, translate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(two_runs.data, updates=2)
    first = trained(tmp_path / "first", config)
    expected = printed_lines(translate(first, stdin="one dogs see two cats\n"))
    shutil.copytree(first, tmp_path / "elsewhere" / "b")
    shutil.rmtree(first)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert printed_lines(translate("b", stdin="one dogs see two cats\n")) == expected


def test_a_missing_or_unfinished_run_is_named(
    two_runs: Runs, translate: Command, tmp_path: Path
) -> None:
    done = translate(tmp_path / "nothing")
    assert (done.code, done.out) == (2, "")
    assert (
        done.err
        == f"translate.py: {tmp_path}/nothing: no such run (expected a folder with config.yaml, as "
        "train.py writes it)\n"
    )
    unfinished = tmp_path / "unfinished"
    shutil.copytree(two_runs.none, unfinished, ignore=shutil.ignore_patterns("best*"))
    done = translate(unfinished)
    assert done.code == 2
    assert "best.safetensors: no such checkpoint" in done.err


def test_lines_come_one_at_a_time(translate: Command) -> None:
    stream = io.BytesIO(b"a\nb\r\n\nc\r")
    assert list(decoded_lines(stream, "<stdin>")) == ["a", "b", "", "c"]
