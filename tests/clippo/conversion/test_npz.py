"""Archives as big_vision writes them, and damaged ones."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from clippo.conversion.npz import LAYOUTS, ConversionError, read_checkpoint, same_bits, write_checkpoint

from .archives import assert_same, write

TINY = Path(__file__).resolve().parents[2] / "goldens" / "tiny_params.npz"
BLOCK = "img/Transformer/encoderblock_0"


@pytest.fixture(scope="module")
def params():
    return read_checkpoint(TINY)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_the_same_and_leaves_the_rest_of_the_file_alone(layout, params, tmp_path):
    arrays = {LAYOUTS[layout] + key: array for key, array in params.items()}
    if layout != "bare":
        # Reading this entry would raise; the momentum of a released file is bfloat16, which NumPy cannot name.
        arrays["opt/1/poison"] = np.array([object()], dtype=object)
        arrays["opt/1/0/2/1/t"] = np.zeros(1, dtype="V2")
        arrays["chrono/accum_train_time"] = np.array(3.5)
    assert_same(read_checkpoint(write(tmp_path / "x.npz", arrays)), params)


def test_params_win_over_the_flax_optimizer_of_the_same_file(params, tmp_path):
    arrays = {f"params/{key}": array for key, array in params.items()}
    arrays |= {f"opt/target/{key}": array + 1 for key, array in params.items()}
    assert_same(read_checkpoint(write(tmp_path / "x.npz", arrays)), params)


def test_a_scanned_encoder_is_taken_apart(params, tmp_path):
    scanned = {key: array for key, array in params.items() if "encoderblock" not in key}
    for key, array in params.items():
        if key.startswith(BLOCK):
            second = params[key.replace("encoderblock_0", "encoderblock_1")]
            scanned[key.replace("encoderblock_0", "encoderblock")] = np.stack([array, second])
    assert_same(read_checkpoint(write(tmp_path / "x.npz", scanned)), params)


def test_bfloat16_is_widened_exactly(params, tmp_path):
    rounded = {key: torch.from_numpy(array).to(torch.bfloat16) for key, array in params.items()}
    arrays = {key: tensor.view(torch.int16).numpy().view("V2") for key, tensor in rounded.items()}
    expected = {key: tensor.float().numpy() for key, tensor in rounded.items()}
    assert_same(read_checkpoint(write(tmp_path / "x.npz", arrays)), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_as_it_was_written(layout, params, tmp_path):
    write_checkpoint(params, tmp_path / "x.npz", layout)
    with np.load(tmp_path / "x.npz") as archive:
        assert sorted(archive.files) == sorted(LAYOUTS[layout] + key for key in params)
    assert_same(read_checkpoint(tmp_path / "x.npz"), params)


def test_the_same_numbers_give_the_same_file(params, tmp_path):
    write_checkpoint(params, tmp_path / "a.npz")
    write_checkpoint(dict(reversed(params.items())), tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is not an .npz archive or was cut short"),
        (b"", r"\(0 bytes\) is not an .npz archive"),
        (TINY.read_bytes()[:200_000], r"\(200000 bytes\) is not an .npz archive or was cut short"),
    ],
    ids=["png", "empty", "half"],
)
def test_files_that_are_no_archive(content, message, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(path)


def test_a_flipped_byte_is_noticed_and_placed(params, tmp_path):
    path = write(tmp_path / "x.npz", params)
    content = bytearray(path.read_bytes())
    content[content.index(params["img/head/kernel"].tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"Entry 'img/head/kernel' of .* is damaged \(Bad CRC"):
        read_checkpoint(path)


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(ConversionError, match=r"Entry 'hello.txt' of .* is not a NumPy array"):
        read_checkpoint(tmp_path / "x.npz")


def test_pickled_objects_are_refused(params, tmp_path):
    params = {**params, "t": np.array([{"a": 1}], dtype=object)}
    with pytest.raises(ConversionError, match=r"Entry 't' of .* holds pickled Python objects"):
        read_checkpoint(write(tmp_path / "x.npz", params))


def test_integers_are_refused(params, tmp_path):
    with pytest.raises(ConversionError, match=r"Entry 't' of .* holds int64"):
        read_checkpoint(write(tmp_path / "x.npz", {**params, "t": np.array([1])}))


def test_a_scanned_parameter_without_layers(tmp_path):
    path = write(tmp_path / "x.npz", {"img/Transformer/encoderblock/LayerNorm_0/bias": np.float32(1)})
    with pytest.raises(ConversionError, match=r"LayerNorm_0/bias' belongs to a scanned .* no axis of layers"):
        read_checkpoint(path)


def test_bad_arguments(params, tmp_path):
    with pytest.raises(ConversionError, match="There is no file"):
        read_checkpoint(tmp_path / "absent.npz")
    with pytest.raises(ConversionError, match="Unknown layout 'torch'"):
        write_checkpoint(params, tmp_path / "x.npz", "torch")


def test_same_bits_tells_apart_what_equality_does_not():
    zero, nan = np.zeros(1, np.float32), np.full(1, np.nan, np.float32)
    assert same_bits(nan, nan.copy()) and not same_bits(zero, -zero)
    assert (
        not same_bits(zero, zero[None]) and not same_bits(zero, zero.astype(np.float16)) and not same_bits(zero, None)
    )
