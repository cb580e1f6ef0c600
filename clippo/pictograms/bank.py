"""Pictures of the data set in memory: encoded until they are asked for, or all decoded on one device.

A decoded picture of one colour is its alpha alone, a quarter of the bytes. 290,000 pictures of 96 x 96 pixels are 3 GB,
which fit on a GPU. Encoded they are some 250 MB, and decoding one takes a fraction of a millisecond.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clippo.pictograms.drawing import decode


class PictureBank:
    """Pictures by number, on a CPU or another device.

    Args:
        masks: Alpha of the pictures of one colour, uint8 (M, S, S).
        colours: Other pictures, uint8 (C, S, S, 4), RGBA with straight alpha.
        places: int64 (N,): row of `masks` for a picture of one colour, and -1 - row of `colours` for another.

    Raises:
        ValueError: The arrays do not fit together.

    Example:
        >>> import numpy as np
        >>> from clippo.pictograms.bank import PictureBank
        >>> masks, colours = np.full((1, 8, 8), 255, np.uint8), np.zeros((1, 8, 8, 4), np.uint8)
        >>> bank = PictureBank(masks, colours, np.array([0, -1]))
        >>> bank[torch.tensor([1, 0, 0])].shape, int(bank[torch.tensor([0])][0, 0, 0, 3])
        (torch.Size([3, 8, 8, 4]), 255)
    """

    def __init__(self, masks: np.ndarray, colours: np.ndarray, places: np.ndarray):
        if masks.shape[1:] != colours.shape[1:3]:
            raise ValueError(f"masks {masks.shape} and colours {colours.shape} need pictures of one size.")
        if len(places) and (places.max() >= len(masks) or -1 - places.min() >= len(colours)):
            raise ValueError(f"places name rows beyond {len(masks)} masks and {len(colours)} colours.")
        self.masks, self.colours = torch.from_numpy(masks), torch.from_numpy(colours)
        self.places = torch.from_numpy(np.asarray(places, np.int64))

    @classmethod
    def decoded(cls, files: Sequence[bytes], is_mask: Sequence[bool], threads: int = 4) -> "PictureBank":
        """Bank of encoded pictures.

        Args:
            files: WebP or PNG files.
            is_mask: For each of them, True when its alpha says everything.
            threads: Threads that decode.
        """
        count = sum(is_mask)
        side = decode(files[0]).shape[0] if len(files) else 1
        masks = np.empty((count, side, side), np.uint8)
        colours = np.empty((len(files) - count, side, side, 4), np.uint8)
        places = np.empty(len(files), np.int64)
        flags = np.asarray(is_mask, bool)
        places[flags], places[~flags] = np.arange(count), -1 - np.arange(len(files) - count)

        def fill(number: int) -> None:
            pixels, place = decode(files[number]), places[number]
            if place >= 0:
                masks[place] = pixels[..., 3]
            else:
                colours[-1 - place] = pixels

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(fill, range(len(files)), chunksize=256):
                pass
        return cls(masks, colours, places)

    @property
    def device(self) -> torch.device:
        """Device of the pictures."""
        return self.masks.device

    @property
    def side(self) -> int:
        """Side of the pictures in pixels."""
        return self.masks.shape[-1]

    def __len__(self) -> int:
        return len(self.places)

    def to(self, device: torch.device) -> "PictureBank":
        """Move the pictures and return the bank.

        Args:
            device: Device to move to.
        """
        self.masks, self.colours, self.places = (part.to(device) for part in (self.masks, self.colours, self.places))
        return self

    def __getitem__(self, numbers: Tensor) -> Tensor:
        """Pictures by number, black where the alpha says everything.

        Args:
            numbers: int64 (B,) on the device of the bank.

        Returns:
            uint8 (B, S, S, 4).
        """
        places = self.places[numbers]  # (B,)
        is_mask = places >= 0
        out = torch.zeros(len(places), self.side, self.side, 4, dtype=torch.uint8, device=self.device)
        # No boolean indexing: it would wait for the device to count.
        if len(self.masks):
            alpha = self.masks[places.clamp(min=0)]  # (B, S, S)
            out[..., 3] = torch.where(is_mask[:, None, None], alpha, out[..., 3])
        if len(self.colours):
            coloured = self.colours[(-1 - places).clamp(min=0)]  # (B, S, S, 4)
            out = torch.where(is_mask[:, None, None, None], out, coloured)
        return out

    def picture(self, number: int) -> np.ndarray:
        """One picture, uint8 (S, S, 4).

        Args:
            number: Its number.
        """
        place = int(self.places[number])
        if place < 0:
            return self.colours[-1 - place].cpu().numpy()
        out = np.zeros((self.side, self.side, 4), np.uint8)
        out[..., 3] = self.masks[place].cpu().numpy()
        return out


class EncodedPictures:
    """Pictures by number, each decoded when it is asked for: a run on a CPU starts at once.

    Args:
        files: Column of WebP or PNG files.
        is_mask: For each of them, True when its alpha says everything.

    Example:
        >>> import numpy as np
        >>> import pyarrow as pa
        >>> from clippo.pictograms.bank import EncodedPictures
        >>> from clippo.pictograms.drawing import encode
        >>> files = pa.chunked_array([[encode(np.full((8, 8, 4), 255, np.uint8))]])
        >>> EncodedPictures(files, [False]).picture(0).shape
        (8, 8, 4)
    """

    device = torch.device("cpu")

    def __init__(self, files: pa.ChunkedArray, is_mask: Sequence[bool]):
        self.files, self.is_mask = files, is_mask

    def __len__(self) -> int:
        return len(self.files)

    def picture(self, number: int) -> np.ndarray:
        """One picture, uint8 (S, S, 4).

        Args:
            number: Its number.
        """
        return decode(self.files[number].as_py())

    def __getitem__(self, numbers: Tensor) -> Tensor:
        """Pictures by number, uint8 (B, S, S, 4).

        Args:
            numbers: int64 (B,).
        """
        return torch.from_numpy(np.stack([self.picture(number) for number in numbers.tolist()]))

    def to(self, device: torch.device) -> "EncodedPictures | PictureBank":
        """Decode all pictures for another device; on the CPU they stay encoded.

        Args:
            device: Device to move to.
        """
        if torch.device(device).type == "cpu":
            return self
        return PictureBank.decoded(self.files.to_pylist(), self.is_mask).to(device)
