"""Validation during training: measure, keep the best weights, count what patience is about."""

from ..device import is_end_of_memory
from ..errors import Diverged, NotFiniteError, TrainingError
from ..figures import attention_figure
from ..model import evaluating
from ..probes import probe
from ..probes.histograms import write_histograms
from ..rnn.synchronization import alone
from ..runs.checkpoint import read_standing
from ..runs.entries import perplexity
from ..runs.logbook import Logbook
from ..shown import markdown
from ..translation.attention import attention_map
from .evaluation import score_remarks, standing_of, teacher_forced_loss, validation_bleu
from .signals import CutShort, cut_short_by_signals
from .state import TrainingState

SAMPLES = 5
"""Number of validation sentences whose translations TensorBoard shows."""


def validation_due(state: TrainingState) -> bool:
    """Return whether to validate now: every `validate_every` updates or epoch, and at the end."""
    if state.fraction_done() >= 1:
        return True
    every = state.config.trainer.validate_every
    if every is None:
        return state.sampler.position == 0  # an epoch has just ended
    return is_due(every, state.progress.update)


def is_due(every: int | None, update: int) -> bool:
    """Return whether this update is a multiple of `every`; never for None."""
    return every is not None and update % every == 0


def validate(state: TrainingState, logbook: Logbook, received: list[int]) -> None:
    """Measure the model on the validation set and keep what later steps need.

    The main process measures; every process has to call this. A signal cuts it short, is added to
    those `received`, and leaves the validation owed.
    """
    state.validation_owed = True
    found: list[float] | Diverged | None = []
    if state.processes.is_main:
        try:
            with evaluating(state.model):
                found = measure(state, logbook, received)
        except Diverged as error:
            found = error
        except CutShort:
            found = None
    standing = state.processes.from_main(found)
    if isinstance(standing, Diverged):
        raise standing
    if standing is None:
        return
    state.validation_owed = False
    keep_best(state, standing)
    if max(state.config.trainer.average_last, state.config.trainer.average_best) > 1:
        keep_for_average(state, standing)


@alone()
def measure(state: TrainingState, logbook: Logbook, received: list[int]) -> list[float]:
    """Log loss, perplexity, greedy BLEU and chrF; return their `standing_of`.

    Raises CutShort for a signal, before anything is logged.
    """
    config, model, update = state.config, state.model, state.progress.update
    try:
        with cut_short_by_signals(received):
            nll = teacher_forced_loss(model, state.valid_set, config)
            scores, texts = validation_bleu(state.subject, state.valid_set)
    except NotFiniteError as error:
        raise state.diverged(update, f"validation: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_end_of_memory(error):
            raise
        raise TrainingError(
            f"update {update}: out of memory in the validation; try a smaller decode.batch_size"
        ) from error
    values = {"loss": nll, "perplexity": perplexity(nll), "bleu": scores.bleu, "chrf": scores.chrf}
    position = state.position()
    logbook.log("valid", position, values)
    logbook.say(
        f"update {update:>6}  epoch {position['epoch']:>3}  valid loss {nll:.3f}  "
        f"perplexity {values['perplexity']:.2f}  BLEU {scores.bleu:.2f}"
    )
    standing = standing_of(scores, nll, config)
    make_remarks(state, logbook, standing)
    write_samples(state, logbook, texts)
    if config.trainer.histograms:
        write_histograms(logbook, model, state.valid_set, config, update)
    run_probes(state, logbook, final=False)
    return standing


def make_remarks(state: TrainingState, logbook: Logbook, standing: list[float]) -> None:
    """Log each remark about the scores once, and a tie of BLEU with the best model."""
    for kind, remark in score_remarks(state.config, state.valid_set).items():
        logbook.remark(kind, remark)
    if len(standing) > 1 and standing[0] == state.progress.best:
        have = f"{standing[0]:.2f}" if standing[0] else "no right sequence of four tokens"
        logbook.remark(
            "tie",
            f"BLEU does not tell this model from the best one: both have {have}. chrF, then the"
            " loss, decide where that is so (best checkpoint, patience, plateau, average)",
        )


def write_samples(state: TrainingState, logbook: Logbook, texts: list[str]) -> None:
    """Write some validation translations to TensorBoard, and the first pair's attention map."""
    src, tgt = state.valid_set.lines("source"), state.valid_set.lines("target")
    update = state.progress.update
    shown = zip(src, tgt, texts[:SAMPLES], strict=False)
    rows = [f"| {' | '.join(map(markdown, sentences))} |" for sentences in shown]
    table = ["| source | reference | translation |", "| --- | --- | --- |", *rows]
    logbook.text("translations", "\n".join(table), update)
    found = attention_map(state.model, state.prepared.tokenizers, src[0], tgt[0])
    if found is not None:
        weights, src_pieces, tgt_pieces = found
        figure = attention_figure(weights.numpy(), src_pieces, tgt_pieces)
        logbook.figure("attention", figure, update)


@alone()
def run_probes(state: TrainingState, logbook: Logbook, final: bool) -> None:
    """Run the configured probes of this stage; each finding is a line of probes.jsonl."""
    for found in probe(state.subject, final):
        logbook.probes.write({"update": state.progress.update, "final": final, **found})


def keep_best(state: TrainingState, standing: list[float]) -> None:
    """Save the best checkpoint, or count one more validation without improvement.

    Under the plateau schedule every `plateau_patience` of those lower the learning rate.
    """
    progress, optimizer = state.progress, state.config.optimizer
    if progress.best is None or standing > [progress.best, *progress.best_ties]:
        progress.best, *progress.best_ties = standing
        progress.best_update = progress.update
        progress.bad_validations = 0
        state.save("best")
        return
    progress.bad_validations += 1
    if progress.bad_validations % optimizer.plateau_patience == 0:
        progress.plateau_scale *= optimizer.plateau_factor


def keep_for_average(state: TrainingState, standing: list[float]) -> None:
    """Keep the weights of the validations to be averaged: the last ones, or the best ones.

    Files are named to sort by update, and hold the standing that decides which are best. So a
    validation that is repeated after an interruption leaves the same files.
    """
    state.save(f"update-{state.progress.update:09}", standing)
    if not state.processes.is_main:
        return
    trainer, kept = state.config.trainer, sorted(state.run.checkpoints.glob("update-*"))
    if trainer.average_best:  # the worst first, and the later of equal ones
        kept.sort(reverse=True)
        kept.sort(key=read_standing)
    for path in kept[: -(trainer.average_best or trainer.average_last)]:
        path.unlink()
