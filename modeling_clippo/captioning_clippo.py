"""Captions beside the contrastive loss, from one reading of the images (CoCa, arXiv 2205.01917).

    loss = contrastive loss + caption_loss_weight * caption loss
    caption loss = mean over all bytes of -log p(byte | bytes before, patches of the image)

CoCa has a text tower whose lower half is also the decoder. Here the tower reads both modalities, and the decoder is
that of `ClippoForConditionalGeneration`, which opens the saved folder and writes.
"""

import torch

from .configuration_clippo import ClippoConfig
from .decoder_clippo import ClippoDecoder, byte_loss, shift_right
from .router_losses_clippo import sum_over_processes
from .tower_clippo import ClippoVisionOutput


class Captioning:
    """Part of `ClippoModel`: a decoder, if the config has `num_decoder_layers`, and the loss of captions.

    Set `caption_loss_weight` before training. The attribute is not saved.

    Example:
        >>> import clippo, torch
        >>> config = clippo.ClippoConfig.from_preset(
        ...     "Ti/16", num_hidden_layers=1, num_decoder_layers=1, image_size=32
        ... )
        >>> model = clippo.ClippoModel(config)
        >>> batch = clippo.ClippoProcessor.from_size(32)(text="a cat", targets="a cat", return_tensors="pt")
        >>> captions = {"text_pixel_values": batch["text_pixel_values"], "caption_ids": batch["labels"]}
        >>> model(torch.zeros(1, 3, 32, 32), **captions).caption_loss.shape
        torch.Size([])
    """

    caption_loss_weight: float = 1.0

    def _add_decoder(self, config: ClippoConfig) -> None:
        self.decoder = ClippoDecoder._from_config(config) if config.num_decoder_layers else None

    def _caption_scores(
        self, images: ClippoVisionOutput | None, caption_ids: torch.Tensor | None, loss: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """`loss` with the weighted loss of the captions, and that loss alone. Nothing without captions.

        Args:
            images: Tower output for B images.
            caption_ids: int64 (K*B, L), byte ids of the captions i, B + i, 2B + i, ... of image i, -100 after the end.
            loss: The contrastive loss, or None.
        """
        if caption_ids is None:
            return {}
        if self.decoder is None or images is None or images.last_hidden_state is None:
            reason = "the config has num_decoder_layers=0" if self.decoder is None else "no patches of images are kept"
            raise ValueError(
                f"caption_ids were given, but {reason}; captions need a decoder, pixel_values, and "
                "micro_batch_size=None."
            )
        states = images.last_hidden_state  # (B, N, D)
        sets, rest = divmod(len(caption_ids), len(states))
        if rest or not sets:
            raise ValueError(
                f"There are {len(caption_ids)} captions for {len(states)} images; give each image equally many."
            )
        inputs = shift_right(caption_ids, self.config)
        decoded = self.decoder(inputs, states.repeat(sets, 1, 1), return_dict=True)
        number = (caption_ids != -100).sum().float()
        if self.training:  # the mean over the processes is then the mean over all bytes
            processes = sum_over_processes(torch.ones_like(number))
            number = sum_over_processes(number) / processes
        caption_loss = byte_loss(self.decoder.logits(decoded.last_hidden_state), caption_ids, number.clamp(min=1))
        total = caption_loss if loss is None else loss + self.caption_loss_weight * caption_loss
        return {"loss": total, "caption_loss": caption_loss.detach()}
