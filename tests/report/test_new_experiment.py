"""A new experiment is one Python file and one YAML file."""

import importlib.util
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from synthetic import SEEDS, group, record
from typed import present

from seq2seq.app import composition
from seq2seq.config import Config
from seq2seq.config.settings import CONFIGS
from seq2seq.report.experiments import EXPERIMENTS, charts, tables, verdicts
from seq2seq.report.statistics import Outcome

PYTHON = '''
"""Whether a larger model is worth it for layer norm."""

from seq2seq.report.charts import Chart, Panel
from seq2seq.report.experiments.base import Experiment, Statement
from seq2seq.report.experiments.lines import mean_by
from seq2seq.report.experiments.verdict import Verdict, higher
from seq2seq.report.groups import Design

KEY = "model.hidden_size"
STATEMENT = Statement("A larger model is better.", "Nobody 2026.", "It is not.")


def verdicts(group):
    small, large = (group.by_seed(group.bleu, {KEY: size, "norm": "layer"}) for size in (8, 16))
    return [Verdict(STATEMENT.claim, [higher("16 units beat 8", "BLEU", large, small, decides=True)])]


def charts(group):
    panel = Panel("BLEU", "hidden units", "BLEU", mean_by(group, KEY, group.bleu))
    return [Chart("by_width", "Quality by width", "Mean over seeds.", [panel])]


EXPERIMENT = Experiment(
    "width",
    STATEMENT,
    Design(("norm.", KEY)),
    ("layer",),
    verdicts,
    charts,
)
'''
YAML = """# @package _global_
defaults:
  - override /size: quick

experiment: width

hydra:
  sweeper:
    params:
      norm: layer
      model.hidden_size: 8,16
      seed: 1,2,3
"""


@pytest.fixture
def width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Add an experiment of the user's own, from two files in another folder."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "width.yaml").write_text(YAML, encoding="utf-8")
    file = tmp_path / "width.py"
    file.write_text(PYTHON, encoding="utf-8")
    specification = importlib.util.spec_from_file_location("width", file)
    module = importlib.util.module_from_spec(present(specification))
    present(present(specification).loader).exec_module(module)
    monkeypatch.setitem(EXPERIMENTS, "width", module.EXPERIMENT)
    return tmp_path


def configured(folder: Path, *overrides: str) -> Config:
    composition.register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        place = f"hydra.searchpath=[file://{folder}]"
        return composition.composed(compose("train", ["experiment=width", place, *overrides]))


def test_runs_of_a_new_experiment_are_compared(width: Path) -> None:
    runs = []
    for seed in SEEDS:
        for size, bleu in ((8, 30.0), (16, 31.0 + 0.1 * seed)):
            run = record("layer", seed, results={"test": {"bleu": bleu}})
            run.config = configured(
                width, "norm=layer", f"model.hidden_size={size}", f"seed={seed}"
            )
            runs.append(run)
    assert {(run.config.experiment, run.config.size) for run in runs} == {("width", "quick")}
    found = group(runs)
    assert (len(found.runs), found.left_out, found.norms) == (6, [], ["layer"])
    (verdict,) = verdicts(found)
    assert (verdict.claim, verdict.outcome) == ("A larger model is better.", Outcome.supported)
    assert EXPERIMENTS["width"].statement.source == "Nobody 2026."
    (chart,) = charts(found)
    assert chart.curves[0].lines[0].x == [8, 16]
    assert chart.curves[0].lines[0].y == pytest.approx([30.0, 31.2])
    assert tables(found) == []
