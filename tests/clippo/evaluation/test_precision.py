"""The type that `fast` means follows from the device."""

import pytest
import torch

from clippo.evaluation.precision import resolve_dtype


@pytest.mark.parametrize(("has_amx", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_fast_on_a_cpu_is_what_its_matrix_units_read(monkeypatch, has_amx, dtype):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    assert resolve_dtype("fast", torch.device("cpu")) == dtype


@pytest.mark.parametrize(("supported", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_fast_on_a_gpu(monkeypatch, supported, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert resolve_dtype("fast", torch.device("cuda")) == dtype


def test_a_name_is_kept():
    assert resolve_dtype("bfloat16", torch.device("cpu")) == "bfloat16"
