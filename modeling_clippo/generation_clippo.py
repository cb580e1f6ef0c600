"""ClippoForConditionalGeneration: the tower reads images and drawn prompts, and a decoder writes bytes.

PaLI (arXiv 2209.06794) generates text from an image and a text. Here the prompt is drawn, so the model reads pixels
only. Its output alphabet are the byte ids of ByT5 (arXiv 2105.13626): 0 padding and start, 1 end, 2 unknown, 3 + byte.
Both are choices of this project.
"""

import torch
from transformers import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import can_return_tuple, logging

from .configuration_clippo import ClippoConfig
from .decoder_clippo import ClippoDecoder, byte_loss, shift_right
from .tower_clippo import ClippoPreTrainedModel, ClippoVisionModel, ClippoVisionOutput

logger = logging.get_logger(__name__)

END_ID = 1  # of ByT5


def gather_kept(hidden_states: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Gather the tokens that were computed, in reading order.

    Args:
        hidden_states: (B, N, D), zero where a patch was skipped.
        kept: bool (B, N), True for patches that were computed.

    Returns:
        (B, M, D), M the largest number of kept patches, and a bool mask (B, M), or None if no token is padding.

    Example:
        >>> import torch
        >>> kept = torch.tensor([[True, False, True], [False, True, False]])
        >>> states, mask = gather_kept(torch.arange(6.0).view(2, 3, 1), kept)
        >>> states[..., 0].tolist(), mask.tolist()
        ([[0.0, 2.0], [4.0, 3.0]], [[True, True], [True, False]])
    """
    lengths = kept.sum(1)
    width = int(lengths.max())
    order = kept.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]  # (B, M)
    mask = torch.arange(width, device=kept.device) < lengths[:, None]
    states = hidden_states.gather(1, order.unsqueeze(-1).expand(-1, -1, hidden_states.shape[-1]))
    return states, None if bool(mask.all()) else mask


class ClippoForConditionalGeneration(ClippoPreTrainedModel, GenerationMixin):
    """Tower and decoder: images, drawn texts or both in, text out, as byte ids.

    An image with the prompt drawn on it is one canvas, `pixel_values`. Image and prompt on a canvas each are
    `pixel_values` and `text_pixel_values`. A text alone is `text_pixel_values`. The decoder attends to all patches that
    the tower computed.

    Args:
        config: Model config, with `num_decoder_layers` of 1 or more.

    Example:
        >>> import clippo
        >>> from PIL import Image
        >>> config = clippo.ClippoConfig.from_preset(
        ...     "Ti/16", num_hidden_layers=1, num_decoder_layers=1, image_size=64
        ... )
        >>> model = clippo.ClippoForConditionalGeneration(config).eval()
        >>> processor = clippo.ClippoProcessor.from_size(64)
        >>> inputs = processor(images=Image.new("RGB", (80, 60)), text="caption en", return_tensors="pt")
        >>> ids = model.generate(**inputs, max_new_tokens=4)
        >>> ids.shape[1] <= 5, len(processor.batch_decode(ids))
        (True, 1)
    """

    base_model_prefix = "model"
    input_modalities = ("image", "text")
    # A checkpoint of ClippoModel has a projection and a temperature, which are not used here.
    _keys_to_ignore_on_load_unexpected = [r"^logit_(scale|bias)$", r"^(image_)?projection\.", r"^image_model\."]
    accepts_loss_kwargs = True  # the loss is divided by num_items_in_batch
    _can_compile_fullgraph = False

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        if not config.num_decoder_layers:
            raise ValueError("num_decoder_layers=0 leaves no decoder; set num_decoder_layers=4, for example.")
        config.is_encoder_decoder = True  # a decoder that from_pretrained adds comes after the config's own check
        self.vision_model = ClippoVisionModel._from_config(config)
        self.decoder = ClippoDecoder._from_config(config)
        self.post_init()
        self._finish()

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As in `ClippoPreTrainedModel`."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded)._finish()
        return loaded

    def _finish(self) -> None:
        """Set what loading resets: defaults of generation, and the pooling head without gradient."""
        if self.generation_config.decoder_start_token_id is None:  # the folder has no generation_config.json
            pad = self.config.pad_token_id
            self.generation_config = GenerationConfig(
                decoder_start_token_id=pad,
                pad_token_id=pad,
                eos_token_id=END_ID,
                max_length=self.config.decoder_max_length + 1,  # the start id counts too
            )
        # The decoder reads tokens, not the pooled vector. A head without gradient must not be trainable, or data
        # parallelism would wait for it.
        self.vision_model.head.requires_grad_(False)

    def freeze_tower(self) -> None:
        """Train the decoder only. The tower then has no gradient and no dropout."""
        self.vision_model.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True):
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.vision_model.parameters()):
            self.vision_model.eval()
        return self

    def get_encoder(self, modality: str | None = None):
        return self.vision_model

    def get_decoder(self):
        return self.decoder

    def get_input_embeddings(self):
        return self.vision_model.get_input_embeddings()

    def encode(
        self,
        pixel_values: torch.Tensor | None = None,
        text_pixel_values: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        image_index: torch.Tensor | None = None,
        **kwargs,
    ) -> ClippoVisionOutput:
        """Read images, drawn texts, or image i together with text i.

        Args:
            pixel_values: Images, see `ClippoVisionModel.forward`. The prompt may be drawn on them.
            text_pixel_values: Drawn texts.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            image_index: int64 (B,), the image of each text; -1 for a text without image. None: image i.
            kwargs: As in `ClippoVisionModel.forward`.

        Returns:
            `last_hidden_state` (B, M, D), the tokens of the image and then those of the text, without skipped patches;
            `kept_patches` bool (B, M), False for padding, or None if there is none. Hidden states and attentions are
            those of the first canvas.

        Raises:
            ValueError: There is no input, or there are different numbers of images and texts.
        """
        batches = [(pixel_values, "image"), (text_pixel_values, "text")]
        batches = [batch for batch in batches if batch[0] is not None]
        if not batches:
            raise ValueError("No input; pass pixel_values (images), text_pixel_values (drawn prompts) or both.")
        if image_index is not None and len(batches) < 2:
            raise ValueError("image_index needs images and texts; pass pixel_values and text_pixel_values.")
        if len(batches) == 2 and image_index is None and len(pixel_values) != len(text_pixel_values):
            raise ValueError(
                f"There are {len(pixel_values)} images and {len(text_pixel_values)} drawn texts; give one text for "
                "each image."
            )
        if self.vision_model.records(**kwargs):
            kwargs["interpolate_pos_encoding"] = interpolate_pos_encoding
            outputs = [self.vision_model(values, modality=kind, return_dict=True, **kwargs) for values, kind in batches]
        else:
            outputs = self.vision_model.encode(batches, interpolate_pos_encoding)
        states, kept = [output.last_hidden_state for output in outputs], None
        if image_index is not None or any(output.kept_patches is not None for output in outputs):
            kept = [_all_kept(output) for output in outputs]
        if image_index is not None:
            image_index = image_index.to(states[0].device)
            states[0] = states[0][image_index.clamp(min=0)]
            kept[0] = kept[0][image_index.clamp(min=0)] & (image_index >= 0)[:, None]
        states = torch.cat(states, 1)  # (B, N, D)
        if kept is not None:
            states, kept = gather_kept(states, torch.cat(kept, 1))
        return ClippoVisionOutput(
            last_hidden_state=states,
            hidden_states=outputs[0].hidden_states,
            attentions=outputs[0].attentions,
            kept_patches=kept,
        )

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        text_pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: ClippoVisionOutput | None = None,
        past_key_values=None,
        use_cache: bool | None = None,
        interpolate_pos_encoding: bool = False,
        image_index: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """Predict the next byte of each text.

        Args:
            pixel_values: Images, see `ClippoVisionModel.forward`.
            text_pixel_values: Drawn prompts or texts.
            labels: int64 (B, L), byte ids that end with 1, and -100 after the end. They also make `decoder_input_ids`.
            decoder_input_ids: int64 (B, L), beginning with 0.
            decoder_attention_mask: (B, L), 0 for padding that no id sees. Padding after the end needs none.
            encoder_outputs: Output of `encode`, in place of images and texts.
            past_key_values: Cache of the ids before.
            use_cache: Return a cache.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            image_index: int64 (B,), the image of each text, see `encode`.
            num_items_in_batch: Number of labels of all batches of a step, from `Trainer`.
            kwargs: `output_hidden_states`, `output_attentions` (needs the eager attention), `return_dict`.

        Returns:
            logits float32 (B, L, V). The loss is a mean over all labels of the batch that are not -100.

        Raises:
            ValueError: There are neither labels nor `decoder_input_ids`, more ids than `decoder_max_length`, or a label
                that is not an id (checked on the CPU only).
        """
        if encoder_outputs is None:
            inputs = (pixel_values, text_pixel_values, interpolate_pos_encoding, image_index)
            encoder_outputs = self.encode(*inputs, **_shown(kwargs))
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("The decoder has no ids; pass labels, or decoder_input_ids that begin with 0.")
            decoder_input_ids = shift_right(labels, self.config)
        decoded = self.decoder(
            decoder_input_ids,
            encoder_outputs.last_hidden_state,
            encoder_outputs.kept_patches,
            attention_mask=decoder_attention_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
            return_dict=True,
            **_shown(kwargs),
        )
        logits = self.decoder.logits(decoded.last_hidden_state)  # (B, L, V)
        return Seq2SeqLMOutput(
            loss=None if labels is None else byte_loss(logits, labels, num_items_in_batch),
            logits=logits,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )

    @torch.no_grad()
    def generate(
        self,
        pixel_values: torch.Tensor | None = None,
        text_pixel_values: torch.Tensor | None = None,
        encoder_outputs: ClippoVisionOutput | None = None,
        interpolate_pos_encoding: bool = False,
        image_index: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ):
        """Write texts, as `GenerationMixin.generate` does. The tower reads each canvas once.

        Args:
            pixel_values: Images, see `forward`.
            text_pixel_values: Drawn prompts or texts.
            encoder_outputs: Output of `encode`, in place of images and texts.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            image_index: int64 (B,), the image of each text, see `encode`.
            labels: Ignored; `Seq2SeqTrainer` passes them.
            kwargs: `max_new_tokens`, `num_beams`, `do_sample`, `streamer` and others of transformers.

        Returns:
            int64 (B, L), which begins with 0, ends with 1 and is padded with 0.

        Raises:
            ValueError: There is no input; more ids are asked for than `decoder_max_length`.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encode(pixel_values, text_pixel_values, interpolate_pos_encoding, image_index)
        asked, positions = kwargs.pop("max_new_tokens", None), self.config.decoder_max_length
        if asked is not None:
            if asked > positions:
                raise ValueError(f"max_new_tokens={asked} is more than decoder_max_length={positions}; ask for fewer.")
            given = kwargs.get("decoder_input_ids")
            kwargs["max_length"] = asked + (1 if given is None else given.shape[1])
        return super().generate(encoder_outputs=encoder_outputs, **kwargs)

    @torch.no_grad()
    def score_texts(
        self,
        labels: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        text_pixel_values: torch.Tensor | None = None,
        encoder_outputs: ClippoVisionOutput | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> torch.Tensor:
        """Compute the log-likelihood of each text for each input, to choose among given answers.

        Args:
            labels: int64 (C, L), byte ids of C texts, -100 after the end.
            pixel_values: B images, see `forward`.
            text_pixel_values: B drawn prompts or texts.
            encoder_outputs: Output of `encode`, in place of images and texts.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.

        Returns:
            float32 (B, C), natural logarithms, sums over the bytes of a text including its end.

        Example:
            >>> import clippo, torch
            >>> shape = dict(num_hidden_layers=1, num_decoder_layers=1, image_size=32)
            >>> config = clippo.ClippoConfig.from_preset("Ti/16", **shape)
            >>> model = clippo.ClippoForConditionalGeneration(config).eval()
            >>> labels = clippo.ClippoProcessor.from_size(32)(targets=["yes", "no"])["labels"]
            >>> model.score_texts(labels, pixel_values=torch.zeros(3, 3, 32, 32)).shape
            torch.Size([3, 2])
        """
        if encoder_outputs is None:
            encoder_outputs = self.encode(pixel_values, text_pixel_values, interpolate_pos_encoding)
        states, kept = encoder_outputs.last_hidden_state, encoder_outputs.kept_patches
        labels = labels.to(states.device)
        inputs, texts = shift_right(labels, self.config), len(labels)
        counted = labels != -100  # (C, L)
        scores = []
        for row in range(len(states)):  # one input at a time, so that memory does not grow with B * C
            mask = None if kept is None else kept[row].expand(texts, -1)
            decoded = self.decoder(inputs, states[row].expand(texts, -1, -1), mask, return_dict=True)
            log_probabilities = self.decoder.logits(decoded.last_hidden_state).log_softmax(-1)  # (C, L, V)
            chosen = log_probabilities.gather(2, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            scores.append((chosen * counted).sum(1))
        return torch.stack(scores)  # (B, C)


def _all_kept(output: ClippoVisionOutput) -> torch.Tensor:
    """bool (B, N), True for computed patches, also where none was skipped."""
    if output.kept_patches is not None:
        return output.kept_patches
    return torch.ones(output.last_hidden_state.shape[:2], dtype=torch.bool, device=output.last_hidden_state.device)


def _shown(kwargs: dict) -> dict:
    """The keywords that ask for hidden states and attentions."""
    return {name: kwargs[name] for name in ("output_hidden_states", "output_attentions") if kwargs.get(name)}


__all__ = ["ClippoForConditionalGeneration"]
