"""Training, in plain sight: one update, the loop around it, validation, and what makes a run whole
at its end.
"""

import math
import signal
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.contrib.logging import logging_redirect_tqdm

from ..config import Config, Metric, OptimizerConfig, OptimizerKind
from ..config.settings import settings
from ..data.batches import Batch
from ..data.corpora import read_split, splits
from ..data.dataset import ParallelDataset, Prepared, batches
from ..data.preparation import prepare
from ..device import autocast, choose_device, set_threads
from ..errors import Stopped, TrainingError
from ..figures import attention_figure
from ..model import Translator, count_parameters
from ..probes import Subject, probe
from ..probes.histograms import write_histograms
from ..runs.checkpoint import (
    CheckpointError,
    group,
    load_checkpoint,
    load_optimizer,
    load_weights,
    optimizer_tensors,
    prefixed,
    save_checkpoint,
)
from ..runs.folder import Run, RunError, Status, build_translator
from ..runs.logbook import Logbook, NoLogbook
from ..translation.lines import attention_map
from .evaluation import finish_run, teacher_forced_loss, training_batches, use_best, validation_bleu
from .processes import ONE_PROCESS, SEED_STRIDE, Processes, is_main, joined
from .schedule import learning_rate
from .signals import on_stop


@dataclass
class Progress:
    """Where a run stands: everything, beside weights, optimizer, batches and random numbers, that
    goes on.
    """

    update: int = 0
    tokens: int = 0
    """Target tokens trained on."""
    seconds: float = 0.0
    """Time in updates alone."""
    wall_seconds: float = 0.0
    """Time since the start, validation too, pauses not."""
    best: float | None = None
    """The best validation's BLEU, or its loss, negated."""
    best_update: int = 0
    bad_validations: int = 0
    """Validations since the best one."""
    plateau_scale: float = 1.0


@dataclass
class Average:
    """Sums since the last log entry."""

    loss: float = 0.0
    nll: float = 0.0
    tokens: int = 0
    seconds: float = 0.0


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The configured update rule; its rate is set before each update."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if config.kind is OptimizerKind.sgd:
        return torch.optim.SGD(
            parameters, config.lr, config.momentum, weight_decay=config.weight_decay, fused=True
        )
    rule = torch.optim.AdamW if config.kind is OptimizerKind.adamw else torch.optim.Adam
    return rule(parameters, config.lr, config.betas, config.eps, config.weight_decay, fused=True)


def train_step(
    model: Translator,
    optimizer: torch.optim.Optimizer,
    group: Sequence[Batch],
    config: Config,
    device: torch.device,
    processes: Processes = ONE_PROCESS,
) -> tuple[float, float, Tensor]:
    """One parameter update from one batch or more: the mean loss of their target tokens, its
    gradient, a step.

    Returns the summed loss and negative log-likelihood, in nats, and the gradient's norm before
    clipping.
    """
    optimizer.zero_grad(set_to_none=True)
    tokens = sum(batch.tgt_tokens for batch in group)
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    for share in (batch.share(processes.rank, processes.size) for batch in group):
        if share is None:
            continue
        batch = share.to(device)
        with autocast(device, config.trainer.precision):
            smoothing = config.trainer.label_smoothing
            loss, nll = model(batch.src, batch.src_lengths, batch.tgt, batch.tgt_lengths, smoothing)
        (loss / tokens).backward()
        sums += torch.stack([loss.detach(), nll])
    processes.sum_gradients(model)
    processes.share_buffers(model)
    loss_sum, nll_sum = processes.sum(sums).tolist()
    limit = config.optimizer.clip_norm or math.inf
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    if not (math.isfinite(loss_sum) and math.isfinite(norm)):
        raise TrainingError(
            f"loss {loss_sum / tokens} or gradient norm {norm.item()} is not finite; try a lower "
            "optimizer.lr, a smaller optimizer.clip_norm or trainer.precision=fp32"
        )
    optimizer.step()
    return loss_sum, nll_sum, norm


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """The gradient's norm of each top-level module, as it stands."""
    return {
        f"gradient_norm/{name}": (
            nn.utils.get_total_norm(
                [p.grad for p in module.parameters() if p.grad is not None]
            ).item()
        )
        for name, module in model.named_children()
    }


class Trainer:
    """One run's model, optimizer and data, and the loop that brings them together."""

    def __init__(self, config: Config, run: Run, processes: Processes = ONE_PROCESS) -> None:
        self.config, self.run, self.processes = config, run, processes
        set_threads(config.trainer.threads)
        self.device = choose_device(config.trainer.device)
        self.prepared = prepare(
            config.data, config.tokenizer, config.trainer.progress and processes.is_main
        )
        if "test" in splits(config.data):
            read_split(
                config.data, "test"
            )  # a test set that can't be read had better be known before training
        self.tokenizers = self.prepared.tokenizers
        self.train_set: ParallelDataset = self.prepared.split("train")
        self.valid_set: ParallelDataset = self.prepared.split("valid")
        torch.manual_seed(config.seed)
        self.model = build_translator(config, self.tokenizers).to(self.device)
        self.optimizer = make_optimizer(self.model, config.optimizer)
        self.sampler = training_batches(self.train_set, config)
        if not processes.is_main:
            torch.manual_seed(
                config.seed + SEED_STRIDE * processes.rank
            )  # the same weights, another dropout
        self.progress, self.average = Progress(), Average()
        self.started = time.perf_counter()

    # -- saving ---

    def restore(self) -> None:
        """Go on where checkpoint 'last' stands, if there is one."""
        path = self.run.checkpoint("last")
        if not path.exists():
            return
        tensors, state = load_checkpoint(path)
        if state.get("corpus", self._corpus) != self._corpus:
            raise RunError(
                f"{path}: was trained on other text: the corpus or its tokenizer has changed since;"
                f" expected {state['corpus']}, found {self._corpus}"
            )
        load_weights(self.model, group(tensors, "model"), path)
        try:
            load_optimizer(self.model, self.optimizer, group(tensors, "optimizer"))
            self._restore_random(tensors)
            self.sampler.load_state_dict(state["sampler"])
            self.progress, self.average = (
                Progress(**state["progress"]),
                Average(**state.get("average", {})),
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: not a checkpoint that training can go on from ({error})"
            ) from error
        self.started -= self.progress.wall_seconds

    def _restore_random(self, tensors: dict[str, Tensor]) -> None:
        """This process' random numbers; a process that there was none of before keeps its fresh
        ones.
        """
        rank = (
            self.processes.rank
        )  # the clones: torch reads a state from the start of its memory, view or not
        if rank < len(tensors["random.cpu"]):
            torch.set_rng_state(tensors["random.cpu"][rank].clone())
        if self.device.type == "cuda" and rank < len(tensors.get("random.cuda", ())):
            torch.cuda.set_rng_state(tensors["random.cuda"][rank].clone(), self.device)

    def _random(self) -> dict[str, Tensor]:
        """Every process' random numbers (processes, bytes)."""
        states = {"random.cpu": self.processes.gather(torch.get_rng_state())}
        if self.device.type == "cuda":
            states["random.cuda"] = self.processes.gather(torch.cuda.get_rng_state(self.device))
        return states

    def save(self, name: str = "last") -> None:
        """Write a checkpoint: 'last' holds all that is needed to go on exactly, others the model
        alone.
        """
        self.progress.wall_seconds = time.perf_counter() - self.started
        tensors = self._random() if name == "last" else {}
        if not self.processes.is_main:
            return
        tensors |= prefixed(self.model.state_dict(), "model")
        if name == "last":
            tensors |= prefixed(optimizer_tensors(self.model, self.optimizer), "optimizer")
        state = {
            "progress": asdict(self.progress),
            "sampler": self.sampler.state_dict(),
            "average": asdict(self.average),
            "corpus": self._corpus,
        }
        save_checkpoint(self.run.checkpoint(name), tensors, state)

    @cached_property
    def _corpus(self) -> dict[str, Any]:
        """What a run can't go on without: the same pairs, encoded by the same tokenizers."""
        lengths = (self.train_set.src_lengths, self.train_set.tgt_lengths)
        return {
            "pairs": len(self.train_set),
            "pieces": [int(side.sum()) for side in lengths],
            "tokenizers": [self.tokenizers.source.sha256[:16], self.tokenizers.target.sha256[:16]],
        }

    # -- how far ---

    def done(self) -> float:
        """The part of the training that is behind, by updates or epochs, whichever ends first; 1 at
        the end.
        """
        trainer, state = self.config.trainer, self.sampler.state_dict()
        parts = [0.0]
        if trainer.max_updates is not None:
            parts.append(self.progress.update / trainer.max_updates)
        if trainer.max_epochs is not None:
            parts.append(
                (state["epoch"] + state["position"] / len(self.sampler)) / trainer.max_epochs
            )
        return min(max(parts), 1.0)

    def total_updates(self) -> int | None:
        """About how many updates the whole training takes."""
        trainer = self.config.trainer
        by_epochs = (
            None
            if trainer.max_epochs is None
            else (
                math.ceil(len(self.sampler) / self.config.optimizer.accumulate) * trainer.max_epochs
            )
        )
        return min((n for n in (trainer.max_updates, by_epochs) if n is not None), default=None)

    def _position(self) -> dict[str, Any]:
        return {
            "update": self.progress.update,
            "epoch": self.sampler.state_dict()["epoch"],
            "tokens": self.progress.tokens,
            "seconds": round(self.progress.seconds, 3),
        }

    # -- the loop ---

    def fit(self, logbook: Logbook) -> None:
        """Train to the end, or until asked to stop."""
        stop: list[int] = []
        if self.progress.update == 0 and self.processes.is_main:
            self.probe(logbook, final=False)
        with on_stop(stop.append):
            while self.done() < 1 and not self._out_of_patience():
                self._epoch(logbook, stop)
            if self.progress.best is None:
                self._validate(logbook)
            self.save()
        if number := self._stop_signal(stop):
            self.stop(number)

    def _epoch(self, logbook: Logbook, stop: list[int]) -> None:
        """What is left of the sampler's epoch."""
        config = self.config
        stream = batches(self.train_set, self.sampler)
        self.model.train()
        while group := list(islice(stream, config.optimizer.accumulate)):
            self._update(group)
            update = self.progress.update
            self._show(logbook)
            if update % config.trainer.log_every == 0:
                self._log(logbook)
                self.average = Average()
            at_end = self.sampler.state_dict()["position"] == 0 or self.done() >= 1
            every = config.trainer.validate_every
            if at_end if every is None else update % every == 0 or self.done() >= 1:
                self._validate(logbook)
                self.save()
            elif config.trainer.checkpoint_every and update % config.trainer.checkpoint_every == 0:
                self.save()
            if number := self._stop_signal(stop):
                self.save()
                self.stop(number)
            if self.done() >= 1 or self._out_of_patience():
                return

    def _update(self, group: list[Batch]) -> None:
        started, progress, average = time.perf_counter(), self.progress, self.average
        rate = learning_rate(
            self.config.optimizer, progress.update + 1, self.done(), progress.plateau_scale
        )
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        try:
            loss, nll, norm = train_step(
                self.model, self.optimizer, group, self.config, self.device, self.processes
            )
        except TrainingError as error:
            raise TrainingError(f"update {progress.update + 1}, lr {rate:.3g}: {error}") from error
        self.rate, self.gradient_norm = rate, norm
        tokens, seconds = sum(batch.tgt_tokens for batch in group), time.perf_counter() - started
        progress.update += 1
        progress.tokens += tokens
        progress.seconds += seconds
        average.loss += loss
        average.nll += nll
        average.tokens += tokens
        average.seconds += seconds

    def _log(self, logbook: Logbook) -> None:
        average = self.average
        nll = average.nll / average.tokens
        norms = {"gradient_norm/all": float(self.gradient_norm), **gradient_norms(self.model)}
        logbook.log(
            "train",
            self._position(),
            {
                "loss": average.loss / average.tokens,
                "nll": nll,
                "perplexity": math.exp(min(nll, 100)),
                "lr": self.rate,
                "tokens_per_second": average.tokens / average.seconds,
                **norms,
            },
        )

    def _show(self, logbook: Logbook) -> None:
        average = self.average
        logbook.show(
            self.progress.update,
            self.total_updates(),
            loss=f"{average.loss / average.tokens:.3f}",
            **{"tokens/s": f"{average.tokens / average.seconds:,.0f}"},
        )

    def _stop_signal(self, received: list[int]) -> int:
        """The signal that any of the processes has received; 0 without one."""
        return int(self.processes.max(float(received[0] if received else 0)))

    def stop(self, number: int) -> None:
        """End the program at a signal, with all saved up to the present update."""
        raise Stopped(
            f"{signal.Signals(number).name}: saved at update {self.progress.update}; go on with: "
            f"{self.run.resume_command()}",
            0 if number == signal.SIGTERM else 130,
        )

    # -- validation ---

    def _validate(self, logbook: Logbook) -> None:
        """Measure, keep the best checkpoint, count what makes patience end."""
        score = self._measure(logbook) if self.processes.is_main else 0.0
        self._judge(self.processes.from_main(score))
        if self.config.trainer.average_last > 1:
            self._keep_for_average()

    def _measure(self, logbook: Logbook) -> float:
        """Loss, perplexity and greedy BLEU on the validation set, and a look inside; returns what
        best is judged by.
        """
        config = self.config
        self.model.eval()
        nll = teacher_forced_loss(self.model, self.valid_set, config, self.device)
        scores, translations = validation_bleu(self.model, self.tokenizers, self.valid_set, config)
        self.model.train()
        values = {
            "loss": nll,
            "perplexity": math.exp(min(nll, 100)),
            "bleu": scores.bleu,
            "chrf": scores.chrf,
        }
        logbook.log("valid", self._position(), values)
        logbook.say(
            f"update {self.progress.update:>6}  epoch {self._position()['epoch']:>3}  valid loss"
            f" {nll:.3f}  perplexity {values['perplexity']:.2f}  BLEU {scores.bleu:.2f}"
        )
        self._write_samples(logbook, translations)
        if config.trainer.histograms:
            write_histograms(
                logbook, self.model, self.valid_set, config, self.device, self.progress.update
            )
        self.probe(logbook, final=False)
        return scores.bleu if config.trainer.best_metric is Metric.bleu else -nll

    def probe(self, logbook: Logbook, final: bool) -> None:
        """Look inside, where the configuration asks for it; a line of probes.jsonl for everything
        found.
        """
        for found in probe(Subject(self.model, self.config, self.prepared, self.device), final):
            logbook.probes.write({"update": self.progress.update, "final": final, **found})

    def _judge(self, score: float) -> None:
        """Keep the best checkpoint; count validations without a better one, and lower the plateau's
        rate by them.
        """
        progress, optimizer = self.progress, self.config.optimizer
        if progress.best is None or score > progress.best:
            progress.best, progress.best_update, progress.bad_validations = (
                score,
                progress.update,
                0,
            )
            self.save("best")
            return
        progress.bad_validations += 1
        if progress.bad_validations % max(optimizer.plateau_patience, 1) == 0:
            progress.plateau_scale *= optimizer.plateau_factor

    def _out_of_patience(self) -> bool:
        patience = self.config.trainer.patience
        return patience is not None and self.progress.bad_validations >= patience

    def _keep_for_average(self) -> None:
        """Keep the weights of the last k validations, under names that sort by update."""
        self.save(f"update-{self.progress.update:09}")
        if not self.processes.is_main:
            return
        for path in sorted(self.run.checkpoints.glob("update-*"))[
            : -self.config.trainer.average_last
        ]:
            path.unlink()

    def _write_samples(self, logbook: Logbook, translations: list[str]) -> None:
        """A few validation sentences as text, and the first one's attention map."""
        src, tgt = self.valid_set.source_lines(), self.valid_set.target_lines()
        update, few = self.progress.update, range(min(5, len(translations)))
        rows = [f"| {src[i]} | {tgt[i]} | {translations[i]} |" for i in few]
        table = ["| source | reference | translation |", "| --- | --- | --- |", *rows]
        logbook.text("translations", "\n".join(table), update)
        self.model.eval()
        found = attention_map(self.model, self.tokenizers, src[0], tgt[0])
        self.model.train()
        if found is not None:
            weights, src_pieces, tgt_pieces = found
            logbook.figure(
                "attention", attention_figure(weights.numpy(), src_pieces, tgt_pieces), update
            )


def train(config: Config, run: Run) -> dict[str, Any]:
    """Train, or go on, in the run's folder; returns what results.json holds.

    Of several processes (torchrun) all train, and the main one writes, validates and scores.
    """
    with (
        run.beginning() if is_main() else nullcontext(),
        joined(choose_device(config.trainer.device)) as processes,
    ):
        return train_together(config, run, processes)


def train_together(config: Config, run: Run, processes: Processes) -> dict[str, Any]:
    """One process' part of `train`."""
    status = run.status(config) if processes.is_main else Status.new
    if processes.from_main(status is Status.finished):
        results = run.results()
        assert results is not None
        if processes.is_main:
            print(f"finished already (overwrite=true trains it anew): {summary(run, results)}")
        return results
    trainer = Trainer(config, run, processes)
    if status is Status.replaced:
        run.clear()
    processes.wait()
    trainer.restore()
    if not processes.is_main:
        trainer.fit(NoLogbook())
        return {}
    run.results_file.unlink(missing_ok=True)  # of a shorter training
    run.save_config(config)
    trainer.tokenizers.save(run.folder)
    print(
        f"{run.folder}: {count_parameters([trainer.model]):,} parameters, {trainer.device}, "
        f"{processes.size} x {torch.get_num_threads()} threads, {training_pairs(trainer.prepared)}"
    )
    with (
        run.noting_failure(),
        on_stop(trainer.stop),
        logging_redirect_tqdm(),
        Logbook(run.folder, trainer.progress.update, config.trainer.progress) as logbook,
    ):
        trainer.fit(logbook)
        use_best(run, config, trainer.prepared, trainer.model, trainer.device)
        trainer.probe(logbook, final=True)
        results = finish_run(
            run, config, trainer.prepared, trainer.model, trainer.device, asdict(trainer.progress)
        )
        last = results["test" if "test" in results else "valid"]
        final = {f"final/{k}": v for k, v in last.items() if isinstance(v, float)}
        logbook.hyperparameters(settings(config), final, trainer.progress.update)
    print(summary(run, results))
    return results


def training_pairs(prepared: Prepared) -> str:
    """How many there are, and how many were left out and why."""
    counts = prepared.manifest["splits"]["train"]
    rules = {
        "empty": "empty",
        "too_long": "too long",
        "ratio": "of unlike lengths",
        "duplicates": "repeated",
    }
    left_out = ", ".join(f"{counts[rule]:,} {name}" for rule, name in rules.items() if counts[rule])
    return f"{counts['kept']:,} training pairs" + (f" (left out: {left_out})" if left_out else "")


def summary(run: Run, results: dict[str, Any]) -> str:
    """What a finished run says of itself."""
    scores = "  ".join(
        f"{split} BLEU {results[split]['bleu']:.2f}"
        for split in ("valid", "test")
        if split in results
    )
    return (
        f"{run.folder}: {scores}  best at update {results['best_update']} of {results['update']},"
        f" {results['tokens_per_second']:,.0f} target tokens/s, {results['wall_seconds'] / 60:.1f}"
        " minutes"
    )
