"""The networks in 8 bits, by onnxruntime's dynamic quantization."""

import logging
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from .networks import NETWORKS

INT8 = ".int8"
"""Part of the files' names before .onnx."""


def quantize(folder: Path) -> None:
    """Write encoder.int8.onnx and decoder_step.int8.onnx beside the networks in float32.

    Weights of products, of ONNX's LSTM and of embeddings are stored in 8 bits, one scale for each
    column. What is multiplied by them is rounded to 8 bits as it comes. Weights take 7 of the bits:
    processors without VNNI add two products in 16 bits, which would overflow.
    """
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # which recommends what is done here
    try:
        for name in NETWORKS:
            prepared, made = folder / f"{name}.prepared.onnx", folder / f"{name}{INT8}.onnx"
            quant_pre_process(folder / f"{name}.onnx", prepared, skip_symbolic_shape=True)
            quantize_dynamic(
                prepared,
                made,
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                extra_options={"EnableSubgraph": True},
            )
            prepared.unlink()
    finally:
        logger.setLevel(level)
