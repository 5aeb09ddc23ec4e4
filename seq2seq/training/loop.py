"""The training loop in plain sight: next batches, step, log, validate, save, stop."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from itertools import islice
from typing import Any, NoReturn

from tqdm.contrib.logging import logging_redirect_tqdm

from ..config import Config
from ..config.settings import settings
from ..data.batches import Batch
from ..device import choose_device
from ..other_work import OtherWork
from ..rnn.synchronization import alone
from ..runs.folder import Run, Status
from ..runs.logbook import Logbook, NoLogbook
from .commit import code_commit
from .evaluation import recalibration_remark, use_best
from .finish import finish_run
from .new_end import check_new_end
from .optimizer import learning_rate
from .processes import is_main, joined
from .reading import read_results, reading_due
from .remarks import first_remarks
from .reporting import heading, log_interval, show_progress, summary
from .signals import on_stop, stop
from .start import set_initial_weights
from .state import TrainingState, initial_state
from .step import naming_batches, train_step
from .validation import is_due, run_probes, validate, validation_due
from .warm_up import warm_up


def train(config: Config, run: Run) -> dict[str, Any]:
    """Train or resume a run in its folder; return the content of results.json.

    All processes that torchrun started train; the main one also writes, validates and scores.
    """
    with (
        run.beginning() if is_main() else nullcontext(),
        joined(choose_device(config.trainer.device)) as processes,
    ):
        before = run.config() if run.has_begun() and not config.overwrite else None
        status = run.status(config) if processes.is_main else Status.new
        code_commit()  # remembered: a later commit is not what this process has loaded
        if processes.from_main(status is Status.finished):
            return finished_results(run, processes.is_main)
        state = initial_state(config, run, processes)
        remarks = set_initial_weights(state)
        if status is Status.replaced:
            run.clear()
        processes.wait()
        changes = state.restore()
        if before is not None:
            changes += check_new_end(state, before)
        changes += first_remarks(state)
        with recorded(state, [*remarks, *changes]):
            if remarks:  # once saved, the run needs no other folder or file
                state.save()
            warm_up(state)
            state.start_clock()
            with open_logbook(state) as logbook:
                fit(state, logbook)
                results = finish(state, logbook) if processes.is_main else {}
        if processes.is_main:
            print(summary(run, results))
        return results


def fit(state: TrainingState, logbook: Logbook) -> None:
    """Train until a limit is reached, patience is used up, or a signal asks to stop."""
    config, progress, processes = state.config, state.progress, state.processes
    if progress.update == 0 and processes.is_main:
        run_probes(state, logbook, final=False)
    state.model.train()
    groups = update_batches(state)
    received: list[int] = []
    other_work = OtherWork()
    with on_stop(received.append):
        if state.validation_owed and validation_due(state):
            validate_and_save(state, logbook, received)
            stop_if_asked(state, logbook, received)
        while not state.is_over():
            group = next(groups)
            rate = set_learning_rate(state)
            started = time.perf_counter()
            with naming_batches(progress.update + 1, group):
                state.count(train_step(state.model, state.optimizer, group, config, processes))
            # An entry is only due where results are read: `reading_due` asks log_every, too.
            gradient_norm = read_results(state, logbook) if reading_due(state) else 0.0
            state.spend(time.perf_counter() - started)
            show_progress(state, logbook)
            if is_due(config.trainer.log_every, progress.update):
                log_interval(state, logbook, rate, gradient_norm)
                one_thread = "trainer.threads=1, also when it is resumed"
                remark = other_work.remark(state.device, "training", one_thread)
                logbook.remark("other work", remark)
            if validation_due(state):
                validate_and_save(state, logbook, received)
            elif is_due(config.trainer.checkpoint_every, progress.update):
                save(state, logbook)
            stop_if_asked(state, logbook, received)
        if progress.best is None:
            validate_and_save(state, logbook, received)
    # A signal during the last validation or save stops the run before its scores.
    if number := stop_requested(state, received):
        stop(number, progress.update, state.run.resume_command())


def validate_and_save(state: TrainingState, logbook: Logbook, received: list[int]) -> None:
    """Validate, and save; a resumed run does what a signal cuts short."""
    validate(state, logbook, received)
    save(state, logbook)


def save(state: TrainingState, logbook: Logbook) -> None:
    """Save what training resumes from, once all that was logged is in its files."""
    logbook.flush()
    state.save()


def stop_if_asked(state: TrainingState, logbook: Logbook, received: list[int]) -> None:
    """Save, and stop the run, if any of the processes has received a signal."""
    if number := stop_requested(state, received):
        read_results(state, logbook)
        save(state, logbook)
        stop(number, state.progress.update, state.run.resume_command())


def update_batches(state: TrainingState) -> Iterator[list[Batch]]:
    """Yield the batches of each update, epoch after epoch; an epoch's last group may be smaller."""
    while True:
        epoch = state.train_set.batches(state.sampler)
        while group := list(islice(epoch, state.config.optimizer.accumulate)):
            yield group


def set_learning_rate(state: TrainingState) -> float:
    """Give the optimizer the learning rate of the next update; return it."""
    progress = state.progress
    rate = learning_rate(
        state.config.optimizer, progress.update + 1, state.fraction_done(), progress.plateau_scale
    )
    for parameters in state.optimizer.param_groups:
        parameters["lr"] = rate
    return rate


def stop_requested(state: TrainingState, received: list[int]) -> int:
    """Return the signal that any of the processes has received; 0 if none has."""
    return int(state.processes.max(float(received[0] if received else 0)))


# -- before and after the loop ---


def finished_results(run: Run, printed: bool) -> dict[str, Any]:
    """Return the results of a run that has finished already, and print them if asked."""
    found = run.results()
    assert found is not None
    results = found.as_json()
    if printed:
        print(f"finished already (overwrite=true trains it again): {summary(run, results)}")
    return results


@contextmanager
def recorded(state: TrainingState, remarks: Sequence[str] = ()) -> Iterator[None]:
    """Write down what is trained; inside, a failure is recorded and a signal stops the run.

    Only the main process does so. The remarks are about the first weights.
    """
    if not state.processes.is_main:
        yield
        return
    run = state.run
    run.results_file.unlink(missing_ok=True)  # left by a shorter training
    run.save_config(state.config)
    state.prepared.tokenizers.save(run.folder)
    if state.origin is not None:
        state.origin.write(run.origin_file)
    print("\n".join([heading(state), *remarks]))

    def stop_now(number: int) -> NoReturn:
        update = state.progress.update if run.resumable() else None
        stop(number, update, run.resume_command())

    with (
        run.noting_failure(),
        on_stop(stop_now),
        logging_redirect_tqdm(),
    ):
        yield


def open_logbook(state: TrainingState) -> AbstractContextManager[Logbook]:
    """Return the logbook of the main process; the others' writes nothing."""
    if not state.processes.is_main:
        return nullcontext(NoLogbook())
    return Logbook(state.run.folder, state.progress.update, state.config.trainer.progress)


@alone()
def finish(state: TrainingState, logbook: Logbook) -> dict[str, Any]:
    """Choose the final weights, score them, and return the content of results.json.

    It is written last: with it the run is finished.
    """
    run, subject = state.run, state.subject
    logbook.remark("average", use_best(run, subject))
    run_probes(state, logbook, final=True)
    results = finish_run(run, subject, asdict(state.progress))
    logbook.remark("recalibration", recalibration_remark(run, results.valid_loss))
    last = asdict(results.test or results.valid)
    final = {key: value for key, value in last.items() if isinstance(value, float)}
    logbook.hyperparameters(settings(state.config), final, state.progress.update)
    return results.write(run.results_file)
