"""Random views: the plain view is the image processor's, and every knob moves what it says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clippo.emoji.augmentation import RandomView
from clippo.processing.image_processing_clippo import ClippoImageProcessor

STILL = {"scale": (1.0, 1.0), "shift": 0.0, "degrees": 0.0, "p_color": 0.0}


def disc(batch=3, side=24, color=(200, 30, 90)):
    """Opaque discs on transparent ground."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    pictures = np.zeros((batch, side, side, 4), dtype=np.uint8)
    pictures[:, y**2 + x**2 < (side / 3) ** 2] = (*color, 255)
    return pictures


def ink(views):
    """Mask (B, S, S) of pixels that are not white."""
    return (views < 0.9).any(dim=1)


def centre(mask):
    """Mean position (B, 2) of a mask's pixels: y, x."""
    return torch.stack([torch.nonzero(each).float().mean(dim=0) for each in mask])


@pytest.mark.parametrize("size", [16, 24, 48])
def test_the_plain_view_is_that_of_the_image_processor(size):
    pictures = disc(batch=2)
    expected = ClippoImageProcessor(size=size)(list(pictures), return_tensors="pt")["pixel_values"]
    views = RandomView(size, **STILL)(pictures)
    # The processor truncates to whole grey values, and edges are mixed before or after the alpha; 2 of 255 cover both.
    inner = slice(2, -2) if size > 24 else slice(None)  # beyond the picture's border lies ground here, its edge there
    torch.testing.assert_close(views[..., inner, inner], expected[..., inner, inner], atol=2 * 2 / 255, rtol=0)


def test_no_dark_fringe_round_a_light_picture():
    views = RandomView(31, scale=(0.7, 1.3), p_color=0.0)(disc(batch=16, color=(255, 255, 255)))
    assert views.min() > 0.99, "white on white stays white, whatever colour hides under transparency"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 33))
def test_values_and_shape(seed, batch, size):
    torch.manual_seed(seed)
    views = RandomView(size)(torch.randint(0, 256, (batch, 9, 7, 4), dtype=torch.uint8))
    assert views.shape == (batch, 3, size, size)
    assert views.dtype == torch.float32
    assert views.min() >= -1
    assert views.max() <= 1


def test_seed_decides_the_views():
    view, pictures = RandomView(24), disc()
    torch.manual_seed(1)
    first, second = view(pictures), view(pictures)
    torch.manual_seed(1)
    torch.testing.assert_close(view(pictures), first, atol=0, rtol=0)
    assert not torch.equal(first, second)


def test_chunks_do_not_show(monkeypatch):
    pictures = np.concatenate([disc(20), disc(17, color=(0, 200, 0))])
    torch.manual_seed(5)
    whole = RandomView(20)(pictures)
    monkeypatch.setattr(RandomView, "CHUNK", 5)
    torch.manual_seed(5)
    torch.testing.assert_close(RandomView(20)(pictures), whole, atol=1e-6, rtol=0)


def test_scale():
    small = ink(RandomView(48, **{**STILL, "scale": (0.5, 0.5)})(disc(1))).sum()
    large = ink(RandomView(48, **{**STILL, "scale": (1.0, 1.0)})(disc(1))).sum()
    assert small / large == pytest.approx(0.25, abs=0.05)


def test_shift_reaches_its_bound_and_stays_in_it():
    centres = centre(ink(RandomView(48, **{**STILL, "shift": 0.1})(disc(400)))) - 23.5
    assert centres.abs().max() <= 0.1 * 48 + 1
    assert centres.max() > 0.08 * 48
    assert centres.min() < -0.08 * 48


def test_rotation_turns_and_keeps_the_size():
    bars = np.zeros((200, 32, 32, 4), dtype=np.uint8)
    bars[:, 14:18, 4:28] = (0, 0, 0, 255)
    masks = ink(RandomView(64, **{**STILL, "degrees": 20.0})(bars))
    angles = []
    for mask in masks:
        y, x = (torch.nonzero(mask).float() - 31.5).unbind(dim=1)
        angles.append(0.5 * torch.atan2(2 * (x * y).mean(), (x * x).mean() - (y * y).mean()))
    angles = torch.stack(angles).rad2deg()
    assert angles.abs().max() < 22
    assert angles.max() > 15
    assert angles.min() < -15
    assert (masks.sum(dim=(1, 2)).float() / masks[0].sum()).sub(1).abs().max() < 0.25


@pytest.mark.parametrize("p_color", [0.0, 0.5, 1.0])
def test_share_of_coloured_backgrounds(p_color):
    torch.manual_seed(0)
    corners = RandomView(8, **{**STILL, "p_color": p_color})(disc(600))[:, :, 0, 0]
    assert (corners < 0.999).any(dim=1).float().mean().item() == pytest.approx(p_color, abs=0.06)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be a positive number of pixels, got 0"),
        ({"size": 8, "scale": (1.2, 0.8)}, "scale must be a rising range"),
        ({"size": 8, "p_color": 2}, "p_color is a probability, got 2"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        RandomView(**options)


@pytest.mark.parametrize("pictures", [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 4), np.float32)])
def test_only_uint8_rgba(pictures):
    with pytest.raises(ValueError, match=r"uint8 \(B, H, W, 4\)"):
        RandomView(8)(pictures)


def test_views_do_not_follow_the_draws_of_the_text():
    """The same seed draws the text first; a view that used the same numbers would go with it."""
    seeds = list(range(600))
    rows = centre(ink(RandomView(48, **{**STILL, "shift": 0.1})(disc(len(seeds)), seeds))) - 23.5
    of_text = torch.from_numpy(np.stack([np.random.default_rng(seed).random(8, np.float32) for seed in seeds]))
    together = torch.corrcoef(torch.cat([rows.T, of_text.T]))[:2, 2:]
    assert together.abs().max() < 0.2
