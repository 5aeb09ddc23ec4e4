"""The set-up of a first forward and backward pass, done before any clock starts."""

import copy

import torch

from ..device import autocast
from ..rnn.synchronization import alone
from .state import TrainingState
from .step import naming_batches


@alone()
def warm_up(state: TrainingState) -> None:
    """Run one forward and backward pass of a copy of the model on the next batch.

    A first pass compiles or loads the fused kernels, which takes up to a minute, and lets the
    libraries allocate memory. Weights, batch norm's statistics, optimizer, random numbers and
    sampler stay as they are: training gives the same numbers as without it.
    """
    state.model.load_kernels()
    batch = state.train_set.batch(state.sampler.peek())
    share = batch.share(state.processes.rank, state.processes.size)
    if share is not None:
        devices = [state.device] if state.device.type == "cuda" else []
        with torch.random.fork_rng(devices), naming_batches(state.progress.update + 1, [batch]):
            model = copy.deepcopy(state.model).train()
            with autocast(state.device, state.config.trainer.precision):
                inputs = share.to(state.device).inputs
                loss, _ = model(*inputs, r_drop=state.config.trainer.r_drop)
            loss.backward()
    state.processes.wait()
