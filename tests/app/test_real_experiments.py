"""Each experiment's runs of size=real, on Multi30k from a mirror folder, with a tiny model."""

import math
from pathlib import Path

import pytest
from composing import composed
from conftest import ROOT, final_results

from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training.loop import train

EXPERIMENTS = sorted(
    path.stem
    for path in (ROOT / "configs" / "experiment").glob("*.yaml")
    if not path.stem.startswith("best_")
)
SHORT = (
    "data.train_pairs=1000",
    "trainer.max_epochs=1",
    "model=tiny",
    "optimizer.warmup_updates=2",
)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_real_run_of_batch_norm_comes_to_its_end(
    experiment: str, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm has the most to go wrong: its probes search with each batch's own statistics."""
    monkeypatch.chdir(tmp_path)
    config = composed(
        f"experiment={experiment}", "size=real", "norm=batch", *SHORT, f"data.mirror={mirror}"
    )
    run = Run(tmp_path / "run")
    train(config, run)
    assert math.isfinite(final_results(run)["valid_loss"])
    probed = {entry["probe"] for entry in read_metrics(run.probes_file)}
    assert probed >= {kind.value for kind in config.probe.kinds}
