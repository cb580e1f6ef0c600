"""The launch configs without GPUs: accelerate's own parser, environment and FSDP2 code."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("accelerate", "1.14", reason="the FSDP2 code of older releases differs")
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, TorchDynamoPlugin
from accelerate.utils.fsdp_utils import fsdp2_apply_ac, fsdp2_prepare_model
from accelerate.utils.launch import prepare_multi_gpu_env
from accelerate.utils.other import compile_regions, compile_regions_fsdp2
from torch.distributed.fsdp import FSDPModule

from clippo import ClippoConfig, ClippoModel
from clippo.modeling_clippo.configuration_clippo import AUTO_MAP
from clippo.training.checkpoints import unsharded_class
from clippo.training.trainer import keep_loss_in_float32

from ..conftest import ROOT

FOLDER = ROOT / "recipes" / "accelerate"
TYPES = {"ddp": DistributedType.MULTI_GPU, "fsdp2": DistributedType.FSDP}


def environment(name: str, *options: str) -> dict[str, str]:
    """Environment that `accelerate launch` sets for the training script."""
    command = ["--config_file", str(FOLDER / f"{name}.yaml"), *options, "train.py"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    args.main_process_port = 0  # any free one
    return prepare_multi_gpu_env(args)


def make(**fields) -> ClippoModel:
    torch.manual_seed(0)
    shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, projection_dim=16)
    return ClippoModel(ClippoConfig(**shape, image_size=64, skip_blank_patches=True, **fields)).train()


def pairs(inked: int = 3) -> dict[str, torch.Tensor]:
    texts = torch.zeros(4, 4, 16, dtype=torch.int64)
    for i in range(len(texts)):
        texts[i].view(-1)[::4][: inked + i] = 1 + i  # some dots in one patch after the other
    return {"pixel_values": torch.linspace(-1, 1, 4 * 3 * 64 * 64).view(4, 3, 64, 64).sin(), "text_pixel_values": texts}


def test_every_config_is_tested():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_accelerate_reads_it(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert config.distributed_type is TYPES[name]
    found = environment(name)
    assert found["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert found["ACCELERATE_DYNAMO_BACKEND"] == "INDUCTOR"
    assert found["ACCELERATE_DYNAMO_USE_DYNAMIC"] == found["ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION"] == "True"


def test_several_nodes():
    nodes = ["--num_machines=4", "--num_processes=32", "--machine_rank=2", "--main_process_ip=10.0.0.1"]
    for name in TYPES:
        args = launch_command_parser().parse_args(["--config_file", str(FOLDER / f"{name}.yaml"), *nodes, "train.py"])
        _validate_launch_command(args)
        prepare_multi_gpu_env(args)
        assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("4", "8", 2)
        assert args.rdzv_endpoint == "10.0.0.1:29500" and args.rdzv_backend == "static"


def test_the_wrapped_classes_are_those_that_must_not_be_split():
    classes = set(environment("fsdp2")["FSDP_TRANSFORMER_CLS_TO_WRAP"].split(","))
    assert classes == set(ClippoModel._no_split_modules) - {"ClippoEmbeddings"}  # the recipe says why
    assert classes <= {type(module).__name__ for module in make().modules()}


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def sharded(monkeypatch, model: ClippoModel, mixed_precision: str) -> ClippoModel:
    """The model after `Accelerator.prepare` with the plugin of the launcher's environment."""
    for key, value in environment("fsdp2").items():
        if key.startswith("FSDP_"):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.activation_checkpointing and plugin.reshard_after_forward
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin), mixed_precision=mixed_precision, is_main_process=True, device="cpu"
    )
    if mixed_precision != "no":
        plugin.set_mixed_precision(mixed_precision)
    keep_loss_in_float32(accelerator)
    plugin.set_auto_wrap_policy(model)
    return fsdp2_prepare_model(accelerator, fsdp2_apply_ac(accelerator, model))


def test_accelerate_shards_and_checkpoints_a_clippo(monkeypatch, one_process):
    plain, model = make(), sharded(monkeypatch, make(), "no")
    wrapped = [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]
    for part in (".layers.0", ".layers.1", ".patch_embedding", ".head"):
        assert any(part in name for name in wrapped), part

    losses = [m(**pairs(), return_loss=True).loss for m in (plain, model)]
    torch.testing.assert_close(losses[1], losses[0])
    for loss in losses:
        loss.backward()
    names = {name.replace("_checkpoint_wrapped_module.", ""): p.grad for name, p in model.named_parameters()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(names[name].full_tensor(), parameter.grad, rtol=1e-5, atol=1e-6)


def test_a_sharded_model_in_bf16_still_has_its_loss_in_float32(monkeypatch, one_process):
    model = sharded(monkeypatch, make(), "bf16")
    output = model(**pairs(), return_loss=True)
    assert output.loss.dtype == output.image_embeds.dtype == torch.float32
    assert output.vision_model_output.pooler_output.dtype == torch.bfloat16  # the tower did compute in bf16
    output.loss.backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())


def test_a_sharded_model_is_saved_with_its_own_code(monkeypatch, one_process, tmp_path):
    """FSDP2 gives the model a class of its own; neither its name nor the code of torch belongs into a checkpoint."""
    plain, model = make(), sharded(monkeypatch, make(), "no")
    assert type(model).__name__ == "FSDPClippoModel"
    with unsharded_class(model):
        model.save_pretrained(tmp_path, state_dict=plain.state_dict())
    assert isinstance(model, FSDPModule)
    files = {path.name for path in tmp_path.iterdir()}
    assert "modeling_clippo.py" in files and not any("fsdp" in name for name in files)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"] == AUTO_MAP and config["architectures"] == ["ClippoModel"]
    assert ClippoModel.from_pretrained(tmp_path).config.hidden_size == 32


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_compiled_blocks_serve_texts_of_all_lengths(monkeypatch, name):
    """Regional and dynamic, as configured. The "eager" backend captures graphs as Inductor would, and skips its C++."""
    for key, value in environment(name).items():
        if key.startswith("ACCELERATE_DYNAMO_"):
            monkeypatch.setenv(key, value)
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would collect all of it
    options = {**TorchDynamoPlugin().to_kwargs(), "backend": "eager"}
    plain, model, graphs = make(), make(), {}
    torch._dynamo.reset()
    compiled = (compile_regions if name == "ddp" else compile_regions_fsdp2)(model, **options)
    for inked in (1, 3, 7, 4, 10, 2, 12):
        losses = [m(**pairs(inked), return_loss=True).loss for m in (plain, compiled)]
        torch.testing.assert_close(losses[1], losses[0])
        graphs[inked] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    # One text alone, several, and more than half the canvas are cases of their own; lengths are not.
    assert 0 < graphs[7] == graphs[12]
    torch._dynamo.reset()
