"""The optimizer that a configuration asks for."""

import torch
from torch import nn

from ..config import OptimizerConfig, OptimizerKind


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the configured optimizer; the loop sets its learning rate before each update."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if config.kind is OptimizerKind.sgd:
        return torch.optim.SGD(
            parameters, config.lr, config.momentum, weight_decay=config.weight_decay, fused=True
        )
    kind = torch.optim.AdamW if config.kind is OptimizerKind.adamw else torch.optim.Adam
    return kind(parameters, config.lr, config.betas, config.eps, config.weight_decay, fused=True)
