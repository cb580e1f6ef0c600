"""Parameters of one modality: the arithmetic of MS-CLIP-S, and the options in the tower."""

import zlib

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch import nn

import clippo
from clippo.modeling_clippo.encoder_clippo import ClippoEncoderLayer
from clippo.modeling_clippo.image_branch_clippo import ClippoConvStem, ClippoImageBranch
from clippo.modeling_clippo.packing_clippo import pack, split_by_modality

from ..processes import run_processes
from ..tiny import tiny_config, tiny_model, tiny_processor

CLOSE = dict(rtol=0, atol=5e-6)
GRADIENTS = dict(rtol=1e-3, atol=3e-4)  # the first map of the tiny stem has two channels, whose norm amplifies rounding
STEPS = [2, 4, 6, 8, 10]
OPTIONS = [
    dict(modality_norms=True),
    dict(num_modality_layers=1),
    dict(
        modality_norms=True, num_modality_layers=1, image_stem="conv", image_branch_layers=[1, 2], num_hidden_layers=3
    ),
    dict(image_stem="conv", num_experts=3),
]


class Golden:
    """Seeded weights of the official model, and what it computed with them."""

    def __init__(self, path):
        self.data = dict(np.load(path))
        shapes = zip(self.data["parameter_names"], self.data["parameter_shapes"], strict=True)
        self.weights = {name: self.draw(name, shape) for name, shape in shapes}

    def draw(self, name: str, shape: str) -> torch.Tensor:
        shape = tuple(int(size) for size in shape.split(",") if size)
        noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
        if name == "logit_scale" or (len(shape) == 1 and name.endswith("weight")):
            return torch.tensor(1 + 0.1 * noise)
        if len(shape) == 1 or "positional" in name:
            return torch.tensor(0.05 * noise)
        if name == "token_embedding.weight":
            return torch.tensor(0.3 * noise)
        if name in ("visual.proj", "text_projection"):
            return torch.tensor(noise / shape[0] ** 0.5)
        return torch.tensor(noise / np.prod(shape[1:]) ** 0.5)

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.data[name])

    def fill(self, module: nn.Module, prefix: str, names: dict[str, str]) -> None:
        """Copy the weights below a prefix into modules: own name -> official name. Buffers of norms are drawn."""
        for own, official in names.items():
            target = module.get_submodule(own)
            for name, parameter in target.named_parameters(recurse=False):
                parameter.data.copy_(self.weights[f"{prefix}.{official}.{name}"])
            if isinstance(target, nn.BatchNorm2d):
                for buffer, scale in (("running_mean", 0.05), ("running_var", 0.2)):
                    name = f"{prefix}.{official}.{buffer}"
                    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(len(target.running_mean))
                    values = 0.05 * noise if scale == 0.05 else 1 + 0.2 * np.abs(noise.astype(np.float32))
                    getattr(target, buffer).copy_(torch.tensor(values, dtype=torch.float32))


@pytest.fixture(scope="module")
def golden(shared):
    return Golden(shared("goldens", "seeds", "msclip_s16_seeded.npz"))


class TestOfficialArithmetic:
    def test_weights_are_drawn_as_the_file_says(self, golden):
        sums = [golden.weights[name].abs().sum() for name in golden.data["parameter_names"]]
        np.testing.assert_allclose(sums, golden.data["checksum"], rtol=1e-5)

    @torch.no_grad()
    def test_stem(self, golden):
        stem = ClippoConvStem(3, 128, 16, nn.BatchNorm2d).eval()
        names = {"conv": "conv1", "norm": "bn1", "out": "last_conv"}
        for i in range(4):
            official = f"resnet_stage.conv_{i}"
            names |= {f"blocks.{i}.conv": f"{official}.conv1", f"blocks.{i}.norm": f"{official}.bn1"}
            names |= {f"blocks.{i}.shortcut": f"{official}.downsample.0"}
            names |= {f"blocks.{i}.shortcut_norm": f"{official}.downsample.1"}
        golden.fill(stem, "visual.transformer.resblocks.0", names)
        torch.testing.assert_close(stem(golden["image"]), golden["visual/layer_0"], **CLOSE)

    @torch.no_grad()
    def test_branch_and_adapters(self, golden):
        branch = ClippoImageBranch(3, 128, 16, STEPS, nn.BatchNorm2d, 1e-12).eval()
        names = {"conv": "parallel_branch_v.0.conv", "norm": "parallel_branch_v.0.bn"}
        for i in range(4):
            official = f"parallel_branch_v.{i + 1}.resnet_stage.conv_0"
            for j in "123":
                names |= {f"stages.{i}.conv{j}": f"{official}.conv{j}", f"stages.{i}.norm{j}": f"{official}.bn{j}"}
            names |= {f"stages.{i}.shortcut": f"{official}.residual_conv"}
            names |= {f"stages.{i}.shortcut_norm": f"{official}.residual_bn"}
        for i in range(5):
            official = f"parallel_lateral_adapter.{i}"
            names |= {
                f"adapters.{i}.pool": f"{official}.top2bottom_dw_conv.conv",
                f"adapters.{i}.pool_norm": f"{official}.top2bottom_dw_conv.bn",
                f"adapters.{i}.project": f"{official}.top2bottom_pw_conv.conv",
                f"adapters.{i}.mix": f"{official}.bottom_dw_conv.conv",
                f"adapters.{i}.mix_norm": f"{official}.bottom_dw_conv.bn",
                f"adapters.{i}.layer_norm": f"{official}.ln_adapt",
            }
        golden.fill(branch, "visual.transformer", names)
        for module in branch.stages.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 1e-6
        maps = branch(golden["image"])
        for stage, adapter in enumerate(branch.adapters):
            torch.testing.assert_close(maps[stage], golden[f"visual/branch_{stage}"], **CLOSE)
            tokens = golden[f"visual/layer_{STEPS[stage] - 1}"].transpose(0, 1)  # (2, 17, 128), class token first
            fused = golden[f"visual/fused_{stage}"].transpose(0, 1)
            torch.testing.assert_close(adapter(tokens[:, 1:], maps[stage]), fused[:, 1:], **CLOSE)
            # The class token is its own partner; the tower here has none.
            torch.testing.assert_close(adapter.layer_norm(2 * tokens[:, 0]), fused[:, 0], **CLOSE)

    @torch.no_grad()
    @pytest.mark.parametrize("index", range(1, 12))
    def test_a_block_with_shared_weights_and_two_norms(self, golden, index):
        config = tiny_config(
            hidden_size=128,
            intermediate_size=512,
            num_attention_heads=2,
            hidden_act="quick_gelu",
            layer_norm_eps=1e-12,
            modality_norms=True,
        )
        config._attn_implementation = "sdpa"
        block, prefix = ClippoEncoderLayer(config).eval(), f"visual.transformer.resblocks.{index}"
        names = {"self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
        golden.fill(block, prefix, names)
        for kind in ("weight", "bias"):
            parts = golden.weights[f"{prefix}.attn.in_proj_{kind}"].chunk(3)
            for part, own in zip(parts, ("q_proj", "k_proj", "v_proj"), strict=True):
                getattr(getattr(block.self_attn, own), kind).copy_(part)
        for modality, own_prefix in (("image", prefix), ("text", prefix.removeprefix("visual."))):
            golden.fill(block, own_prefix, {f"layer_norm{i}.{modality}": f"ln_{i}" for i in (1, 2)})
        before = f"fused_{STEPS.index(index)}" if index in STEPS else f"layer_{index - 1}"
        causal = torch.full((1, 1, 10, 10), -torch.inf).triu(1)
        if index > 1:
            output = block(golden[f"visual/{before}"].transpose(0, 1), None, "image")
            torch.testing.assert_close(output.transpose(0, 1), golden[f"visual/layer_{index}"], **CLOSE)
        output = block(golden[f"text/layer_{index - 1}"].transpose(0, 1), causal, "text")
        torch.testing.assert_close(output.transpose(0, 1), golden[f"text/layer_{index}"], **CLOSE)


def pairs(config, texts=("a cat", "кошка", "鳥鳥鳥鳥", "i")):
    images = torch.rand(len(texts), 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return {"pixel_values": images, **tiny_processor(config)(text=list(texts), return_tensors="pt")}


def copy_shared(split, shared) -> None:
    """Give both modalities the parameters of the shared model."""
    state = shared.state_dict()
    for name, parameter in split.state_dict().items():
        parameter.copy_(state[name.replace(".image.", ".").replace(".text.", ".")])


class TestTower:
    def test_without_the_options_nothing_changes(self):
        names = tiny_model().state_dict()
        assert not any(part in name for name in names for part in (".image.", ".text.", "stem", "branch"))

    @pytest.mark.parametrize("skip", [True, False])
    @pytest.mark.parametrize("fields", OPTIONS[:2])
    def test_equal_pairs_are_the_shared_model_bit_for_bit(self, fields, skip):
        shared = tiny_model(skip_blank_patches=skip)
        split = tiny_model(skip_blank_patches=skip, **fields)
        with torch.no_grad():
            copy_shared(split, shared)
            inputs = pairs(shared.config)
            for method in ("get_image_features", "get_text_features"):
                values = inputs["pixel_values" if "image" in method else "text_pixel_values"]
                got, expected = getattr(split, method)(values), getattr(shared, method)(values)
                assert torch.equal(got.pooler_output, expected.pooler_output)
            got, expected = split(**inputs).logits_per_image, shared(**inputs).logits_per_image
        assert torch.equal(got, expected) or "num_modality_layers" in fields
        torch.testing.assert_close(got, expected, **CLOSE)

    @pytest.mark.parametrize("fields", OPTIONS)
    def test_one_side_leaves_the_parameters_of_the_other_without_effect(self, fields):
        model = tiny_model(skip_blank_patches=True, **fields)
        inputs = pairs(model.config)
        with torch.no_grad():
            images, texts = (
                model.get_image_features(inputs["pixel_values"]),
                model.get_text_features(inputs["text_pixel_values"]),
            )
            for name, parameter in model.named_parameters():
                if ".text." in name:
                    parameter.add_(1)
            again = model.get_image_features(inputs["pixel_values"])
            assert torch.equal(again.pooler_output, images.pooler_output)
            changed = model.get_text_features(inputs["text_pixel_values"]).pooler_output
        assert fields == OPTIONS[3] or not torch.allclose(changed, texts.pooler_output)

    @pytest.mark.parametrize("fields", OPTIONS)
    def test_a_step_of_one_modality_has_gradients_of_zero_for_the_other(self, fields):
        model = tiny_model(skip_blank_patches=True, **fields).train()
        texts = pairs(model.config)["text_pixel_values"]
        model(first_text_pixel_values=texts, text_pixel_values=texts.flip(0)).loss.backward()
        image = {n: p.grad for n, p in model.named_parameters() if any(s in n for s in (".image.", "stem", "branch"))}
        assert image and all(gradient is not None and not gradient.any() for gradient in image.values())

    @pytest.mark.parametrize("fields", OPTIONS)
    def test_micro_batches_and_whole_batches_agree_with_the_packed_sequence(self, fields):
        model = tiny_model(skip_blank_patches=True, attention="eager", **fields).train()
        inputs, results = pairs(model.config), []
        for micro_batch_size, options in ((None, {}), (2, {}), (None, {"output_hidden_states": True})):
            model.zero_grad()
            model.micro_batch_size = micro_batch_size
            output = model(**inputs, **options)
            output.loss.backward()
            results.append([output.loss.detach(), *(p.grad.clone() for p in model.parameters())])
        for result in results[1:]:
            torch.testing.assert_close(result, results[0], **GRADIENTS)
        assert len(output.vision_model_output.hidden_states) >= model.config.num_hidden_layers

    @pytest.mark.parametrize("fields", OPTIONS)
    def test_a_canvas_does_not_depend_on_its_batch(self, fields):
        model = tiny_model(skip_blank_patches=True, **fields)
        inputs = pairs(model.config)
        with torch.no_grad():
            whole = model(**inputs)
            for row in range(4):
                alone = model(**{name: values[row : row + 1] for name, values in inputs.items()})
                torch.testing.assert_close(alone.image_embeds[0], whole.image_embeds[row], **CLOSE)
                torch.testing.assert_close(alone.text_embeds[0], whole.text_embeds[row], **CLOSE)

    @pytest.mark.parametrize("fields", OPTIONS)
    def test_save_and_load(self, fields, tmp_path):
        model = tiny_model(**fields)
        model.save_pretrained(tmp_path)
        loaded, inputs = clippo.ClippoModel.from_pretrained(tmp_path), pairs(model.config)
        with torch.no_grad():
            assert torch.equal(loaded(**inputs).logits_per_image, model(**inputs).logits_per_image)

    @pytest.mark.parametrize("fields", OPTIONS)
    def test_half_precision(self, fields):
        model = tiny_model(skip_blank_patches=True, **fields)
        inputs = pairs(model.config)
        with torch.no_grad():
            expected = model(**inputs)
            got = model.to(torch.bfloat16)(**inputs)
        assert torch.cosine_similarity(got.text_embeds, expected.text_embeds).min() > 0.9

    @pytest.mark.parametrize("backend", ["padded", "varlen", "tiles"])
    def test_a_layout_is_split_where_the_modality_changes(self, backend):
        kept = torch.rand(9, 6, generator=torch.Generator().manual_seed(0)) > 0.5
        kept[:, 0] = True
        parts = [("image", 2, 6, None), ("text", 9, 6, kept), ("text", 3, 6, kept[:3]), ("image", 1, 6, None)]
        packed = pack(parts, backend, torch.device("cpu"))
        pieces = split_by_modality(packed)
        assert [[part.modality for part in piece.parts] for piece in pieces] == [["image"], ["text"] * 2, ["image"]]
        assert [piece.canvases for piece in pieces] == [2, 12, 1]
        assert sum((piece.groups for piece in pieces), ()) == packed.groups
        if backend == "varlen":
            assert [int(piece.cu_seqlens[-1]) for piece in pieces] == [12, int(kept.sum() + kept[:3].sum()), 6]
            assert all(piece.cu_seqlens[0] == 0 for piece in pieces)


def steps_of_unequal_modality(rank: int, fields: dict) -> list[torch.Tensor]:
    """Gradients of a DDP step in which one process has texts only."""
    model = tiny_model(skip_blank_patches=True, **fields).train()
    parallel = nn.parallel.DistributedDataParallel(model)
    inputs = pairs(model.config)
    texts = inputs["text_pixel_values"]
    if rank:
        inputs = {"first_text_pixel_values": texts.flip(0), "text_pixel_values": texts}
    for _ in range(2):  # an unused parameter is an error in the second step
        model.zero_grad()
        parallel(**inputs).loss.backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("fields", [OPTIONS[2] | dict(num_experts=8, router_importance_coef=0.5)])
def test_two_processes_with_different_modalities(fields, tmp_path):
    """The gradient is that of one process with all rows, router losses included."""
    first, second = run_processes(steps_of_unequal_modality, 2, tmp_path, fields)
    torch.testing.assert_close(first, second)
    model = tiny_model(skip_blank_patches=True, **fields).train()
    inputs = pairs(model.config)
    texts = inputs["text_pixel_values"]
    model(
        pixel_values=inputs["pixel_values"],
        first_text_pixel_values=texts.flip(0),
        text_pixel_values=torch.cat([texts, texts]),
    ).loss.backward()
    torch.testing.assert_close(first, [parameter.grad for parameter in model.parameters()], **GRADIENTS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(num_modality_layers=3), "num_modality_layers=3 of 2 blocks"),
        (dict(image_stem="resnet"), "image_stem='resnet' is not known"),
        (dict(image_branch_layers=[1, 0]), "different numbers of blocks, rising"),
        (dict(image_stem="conv", patch_size=64, image_size=64), "use a patch of 2, 4, 8, 16 or 32"),
        (dict(modality_norms=True, image_tower="separate"), "shares nothing with texts"),
        (dict(num_modality_layers=1, num_experts=2, expert_layers=[0]), "images and texts share are 1 to 1"),
    ],
)
def test_errors_name_value_rule_and_remedy(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny_config(**fields)
