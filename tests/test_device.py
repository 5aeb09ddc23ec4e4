"""Devices and precision."""

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from seq2seq import device
from seq2seq.config import Device, Precision

CPU = torch.device("cpu")
needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN to ask"
)


@pytest.fixture
def bfloat16_products(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Return a function that sets whether the CPU has products in bfloat16."""
    device._warn_of_emulation.cache_clear()
    yield lambda there: monkeypatch.setattr(
        torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: there
    )
    device._warn_of_emulation.cache_clear()


@needs_onednn
def test_a_warning_says_once_that_bfloat16_is_emulated(
    bfloat16_products: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    bfloat16_products(False)
    for _ in range(2):
        with device.autocast(CPU, Precision.bf16):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16
    assert [record.message for record in caplog.records] == [
        "precision=bf16: this CPU has no bfloat16 products, so that fp32 is at least as fast;"
        " with backend=reference it is many times faster"
    ]


@needs_onednn
def test_there_is_no_warning_where_bfloat16_is_not_emulated(
    bfloat16_products: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    bfloat16_products(True)
    with device.autocast(CPU, Precision.bf16):
        pass
    bfloat16_products(False)
    with device.autocast(CPU, Precision.fp32):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
    assert not caplog.records


def test_an_absent_device_is_refused() -> None:
    assert device.choose_device(Device.cpu) == CPU
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device=cuda: torch finds no CUDA device here"):
            device.choose_device(Device.cuda)


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_are_at_least_one(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads={threads}: expected at least 1"):
        device.set_threads(threads)


def test_the_processor_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    instructions = torch.backends.cpu.get_cpu_capability()
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert device.processor(CPU) == f"{platform.machine()} ({instructions})"
    (tmp_path / "cpuinfo").write_text("vendor_id\t: X\n" + 2 * "model name\t: Some CPU @ 3 GHz\n")
    assert device.processor(CPU) == f"Some CPU @ 3 GHz ({instructions})"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: f"GPU {place.index}")
    assert device.processor(torch.device("cuda", 1)) == "GPU 1"
