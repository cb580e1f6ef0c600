"""Packed sequences: any mixture of canvases equals one canvas at a time, on every attention backend."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode

from clippo import ClippoTokenizer
from clippo.modeling_clippo import attention_clippo, embeddings_clippo, packing_clippo, tiles_clippo
from clippo.modeling_clippo.grad_cache_clippo import cut_batches
from clippo.modeling_clippo.packing_clippo import pack, packed_backend

from ..tiny import tiny_model

DRAW = ClippoTokenizer(canvas_size=64, canvas_format="packed", overflow="ignore")


def texts(strings) -> torch.Tensor:
    return DRAW(list(strings), return_tensors="pt")["text_pixel_values"]


def images(count: int) -> torch.Tensor:
    """Random images, (count, 3, 64, 64)."""
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(count)) * 2 - 1


def one_sequence_at_a_time(query, key, value, starts, ends, longest_query, longest_key, scale):
    """Reference of `varlen_attn`: SDPA for each canvas alone."""
    assert starts[-1] == len(query) and ends[-1] == len(key) == len(value)
    outputs = []
    for canvas in range(len(ends) - 1):
        q = query[starts[canvas] : starts[canvas + 1]]
        k, v = (x[ends[canvas] : ends[canvas + 1]] for x in (key, value))
        assert len(q) <= longest_query and 0 < len(k) <= longest_key
        heads_first = (x.transpose(0, 1) for x in (q, k, v))
        outputs.append(torch.nn.functional.scaled_dot_product_attention(*heads_first, scale=scale).transpose(0, 1))
    return torch.cat(outputs)


@pytest.fixture(scope="module", params=["sdpa", "eager", "varlen", "tiles", "tiles and ragged"])
def model(request):
    """A model in float64 on each backend; the CUDA kernel for ragged sequences is replaced by its definition.

    "tiles and ragged" leaves canvases to that kernel where tiles would be wide.
    """
    attention = request.param if request.param in ("sdpa", "eager") else "sdpa"
    with pytest.MonkeyPatch.context() as patch:
        if attention != request.param:
            patch.setattr(embeddings_clippo, "packed_backend", lambda *args: request.param.split()[0])
            patch.setattr(attention_clippo, "varlen_attn", one_sequence_at_a_time)
        patch.setattr(tiles_clippo, "SMALLEST_TILE", 2)
        if request.param == "tiles and ragged":
            patch.setattr(tiles_clippo, "LARGEST_TILE", 4)
        yield tiny_model(skip_blank_patches=True, attention=attention, noise=0.2).double()


def walk_the_path_of_a_gpu(monkeypatch, backend: str) -> None:
    """Choose a backend of CUDA, with a stand-in for its attention kernel, and the usual sizes of tiles."""
    monkeypatch.setattr(embeddings_clippo, "packed_backend", lambda *args: backend)
    monkeypatch.setattr(attention_clippo, "varlen_attn", fake_kernel)
    monkeypatch.setattr(tiles_clippo, "SMALLEST_TILE", 64)
    monkeypatch.setattr(tiles_clippo, "LARGEST_TILE", 256)


def embed(model, batches) -> torch.Tensor:
    return torch.cat([output.pooler_output for output in model.vision_model.encode(batches)])


strings = st.lists(st.sampled_from(["", "a", "hello world", "w" * 40, "日本語", "i" * 300]), min_size=0, max_size=40)


@given(strings, st.integers(0, 3), strings)
@settings(max_examples=25, deadline=None)
def test_any_mixture_equals_one_canvas_at_a_time(model, first, count, second):
    none = torch.zeros(0, 4, 16, dtype=torch.int64)  # a batch without canvases may stand beside others
    batches = [(texts(first) if first else none, "text"), (images(count), "image")]
    batches += [(texts(second) if second else none, "text")]
    if not any(len(values) for values, _ in batches):
        return
    with torch.no_grad():
        together = embed(model, batches)
        alone = torch.cat([embed(model, [(row[None], modality)]) for rows, modality in batches for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


def test_a_permutation_of_canvases_permutes_outputs_and_keeps_gradients(model):
    canvases = texts(["", "a", "hello world", "w" * 40, "i" * 300, "b c"] * 8)
    order = torch.randperm(len(canvases), generator=torch.Generator().manual_seed(0))

    def step(rows):
        model.zero_grad()
        vectors = embed(model, [(images(2), "image"), (canvases[rows], "text")])
        vectors.sin().sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return vectors.detach(), gradients

    expected, expected_gradients = step(torch.arange(len(canvases)))
    got, gradients = step(order)
    torch.testing.assert_close(got[2:], expected[2:][order], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-5, atol=1e-6)


def test_a_joint_pass_returns_the_outputs_of_each_batch(model):
    canvases = texts(["one", "", "three words here", "i" * 300] * 6)
    with torch.no_grad():
        joint = model.vision_model.encode([(images(3), "image"), (canvases, "text")])
        alone = [model.vision_model(images(3)), model.vision_model(canvases, modality="text")]
    for got, expected in zip(joint, alone, strict=True):
        torch.testing.assert_close(got.last_hidden_state, expected.last_hidden_state, rtol=1e-6, atol=1e-6)
    assert torch.equal(joint[1].kept_patches, alone[1].kept_patches) and joint[0].kept_patches is None
    assert not joint[1].last_hidden_state[~joint[1].kept_patches].any()


def test_pooled_vectors_alone_are_those_of_the_whole_output(model):
    canvases = texts(["one", "", "three words here", "i" * 300] * 6)
    with torch.no_grad():
        whole = model.get_text_features(canvases), model.get_image_features(images(3))
        alone = (
            model.get_text_features(canvases, pooled_only=True),
            model.get_image_features(images(3), pooled_only=True),
        )
    for output, expected in zip(alone, whole, strict=True):
        assert output.last_hidden_state is None
        assert torch.equal(output.pooler_output, expected.pooler_output)


@pytest.mark.parametrize(
    ("implementation", "device", "dtype", "dropout", "backend"),
    [
        ("sdpa", "cuda", torch.bfloat16, 0.0, "tiles"),
        ("sdpa", "cuda", torch.bfloat16, 0.1, "padded"),
        ("sdpa", "cuda", torch.float32, 0.0, "padded"),
        ("sdpa", "cpu", torch.bfloat16, 0.0, "padded"),
        ("eager", "cuda", torch.float16, 0.0, "padded"),
        ("flash_attention_2", "cuda", torch.bfloat16, 0.1, "flash"),
        ("flex_attention", "cuda", torch.bfloat16, 0.0, None),
        ("registered_by_a_user", "cuda", torch.bfloat16, 0.0, None),
    ],
)
def test_backends(monkeypatch, implementation, device, dtype, dropout, backend):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert packed_backend(implementation, torch.device(device), dtype, dropout, 64) == backend


@pytest.mark.parametrize(("capability", "head_size"), [((7, 5), 64), ((9, 0), 60), ((9, 0), 512)])
def test_without_the_kernel_canvases_are_padded(monkeypatch, capability, head_size):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert packed_backend("sdpa", torch.device("cuda"), torch.float16, 0.0, head_size) == "padded"


def test_a_batch_without_canvases_is_an_error():
    with pytest.raises(ValueError, match="There is no canvas to encode; pass at least one image or one text"):
        tiny_model().vision_model.encode([(images(1)[:0], "image")])


@pytest.mark.parametrize("backend", ["tiles", "varlen", "padded", "whole"])
def test_lengths_that_do_not_add_up_are_an_error(backend):
    kept = torch.ones(3, 4, dtype=torch.bool)
    with pytest.raises(
        ValueError, match=r"mask of kept patches is \(3, 4\) for 2 text canvases of 4 patches; give one"
    ):
        pack([("text", 2, 4, kept)], backend, torch.device("cpu"))


def test_a_backend_that_cannot_pack_is_named():
    with pytest.raises(ValueError, match="backend='flex' cannot pack canvases; choose one of tiles, varlen, flash"):
        pack([("text", 2, 4, None)], "flex", torch.device("cpu"))


class Operations(TorchDispatchMode):
    """Counts operations, and those for which the host waits for the device."""

    def __init__(self):
        super().__init__()
        self.count, self.waits = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        self.waits += function._schema.name in ("aten::nonzero", "aten::_local_scalar_dense", "aten::item")
        return function(*args, **(kwargs or {}))


def fake_kernel(query, key, value, *lengths, scale):
    return query * 1.0 + 0.0 * (key.sum() + value.sum())


@pytest.mark.parametrize("backend", ["tiles", "varlen"])
@pytest.mark.parametrize("pairs_of_texts", [False, True])
def test_a_step_dispatches_as_many_operations_for_any_lengths_and_waits_once(monkeypatch, pairs_of_texts, backend):
    """The step of a GPU, with a stand-in for its attention kernel, which is one operation."""
    walk_the_path_of_a_gpu(monkeypatch, backend)
    model, counts = tiny_model(skip_blank_patches=True).train(), []
    for strings in (["a"] * 8, ["", "a", "w" * 40, "i" * 300] * 2):
        batch = dict(pixel_values=images(8), text_pixel_values=texts(strings), return_loss=True)
        if pairs_of_texts:
            batch = dict(batch, first_text_pixel_values=texts(strings), text_pixel_values=texts(strings * 2))
        with Operations() as operations:
            model(**batch).loss.backward()
        counts.append(operations.count)
        assert operations.waits <= (2 if pairs_of_texts and backend == "varlen" else 1)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("backend", ["tiles", "varlen"])
def test_compiled_blocks_are_one_graph_for_any_number_of_tokens(monkeypatch, backend):
    """One graph for the blocks and one for the pooling head."""
    walk_the_path_of_a_gpu(monkeypatch, backend)
    torch._dynamo.reset()
    counters.clear()
    model = tiny_model(skip_blank_patches=True).train()
    model.compile_blocks(backend="eager")
    for number in range(1, 51):
        strings = ["w" * (number * (i + 1) % 60) for i in range(8)]
        model(pixel_values=images(8), text_pixel_values=texts(strings), return_loss=True).loss.backward()
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


def test_parts_of_a_step_are_equal_work():
    lengths = torch.tensor([16] * 6 + [1] * 60 + [16] * 4)
    batches = [(torch.arange(6), "image"), (torch.arange(6, 70), "text")]
    parts = cut_batches(batches, lengths, 50)
    rows = [torch.cat([values for values, _ in part]) for part in parts]
    assert torch.equal(torch.cat(rows), torch.arange(70))
    assert max(int(lengths[part].sum()) for part in rows) <= 50 + 16
    assert [[modality for _, modality in part] for part in parts][-1] == ["text"]


@given(st.lists(st.integers(1, 16), min_size=1, max_size=30), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_no_part_is_empty_and_none_is_lost(lengths, budget):
    parts = cut_batches([(torch.arange(len(lengths)), "text")], torch.tensor(lengths), budget)
    rows = [part[0][0] for part in parts]
    assert all(len(part) for part in rows) and torch.equal(torch.cat(rows), torch.arange(len(lengths)))


def test_positions_have_the_gradient_of_indexing():
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([4, 0, 0, 2, 4, 4, 1])
    weights = torch.randn(7, 3, dtype=torch.float64)
    (expected,) = torch.autograd.grad((rows[index] * weights).sum(), rows)
    taken = tiles_clippo._TakePositions.apply(rows, index)
    assert torch.equal(taken, rows[index])
    (gradient,) = torch.autograd.grad((taken * weights).sum(), rows)
    torch.testing.assert_close(gradient, expected)
    assert torch.autograd.gradcheck(lambda rows: tiles_clippo._TakePositions.apply(rows, index), rows)


@given(st.lists(st.integers(1, 16), min_size=1, max_size=40), st.sampled_from([16, 64]))
@settings(max_examples=50, deadline=None)
def test_no_canvas_crosses_a_border_of_a_tile(lengths, size):
    kept = torch.arange(16) < torch.tensor(lengths)[:, None]
    place = kept.flatten().nonzero().squeeze(1)
    tokens, longest, slots = tiles_clippo.tile_counts(kept).tolist()
    assert (tokens, longest) == (sum(lengths), max(lengths)) and tokens <= slots < 2 * tokens
    slot, first, mask = tiles_clippo.lay_tiles(kept, place, slots, size, torch.float32)
    assert len(slot.unique()) == tokens and int(slot.max()) < slots <= len(mask) * size
    for start, length, own in zip(first.tolist(), lengths, slot.split(lengths), strict=True):
        assert own.tolist() == list(range(start, start + length))
        assert own[0] // size == own[-1] // size
        row = mask[start // size, 0, start % size]
        assert (row == 0).nonzero().flatten().tolist() == [i % size for i in own.tolist()]
    assert (mask == 0).any(-1).all()


@pytest.mark.skipif(packing_clippo.varlen_attn is None, reason="this version of PyTorch has no varlen_attn")
def test_the_path_of_a_gpu_traces_on_fake_tensors(monkeypatch):
    """A step in bf16 reaches the kernel for ragged sequences with arguments that it takes, forward and backward.

    The kernel runs on CUDA only. Fake tensors have shapes and dtypes, so they need no GPU.
    """
    monkeypatch.setattr(embeddings_clippo, "packed_backend", lambda *args: "varlen")
    called, kernel = [], packing_clippo.varlen_attn

    def spy(query, *args, **options):
        called.append((query.dtype, query.shape[1:]))
        return kernel(query, *args, **options)

    monkeypatch.setattr(attention_clippo, "varlen_attn", spy)
    fake = tiny_model().to(torch.bfloat16).train().vision_model  # all patches: the number of inked ones is not fake
    batch = [(torch.zeros(8, 3, 64, 64), "image"), (torch.zeros(8, 4, 16, dtype=torch.int64), "text")]
    mode = FakeTensorMode(shape_env=ShapeEnv())
    for module in fake.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            values = mode.from_tensor(parameter.detach(), static_shapes=True)
            setattr(module, name, torch.nn.Parameter(values))
    batch = [(mode.from_tensor(values, static_shapes=True), modality) for values, modality in batch]
    with mode:
        images_out, texts_out = (output.pooler_output for output in fake.encode(batch, pooled_only=True))
        (images_out.float().sum() + texts_out.float().sum()).backward()
    assert images_out.shape == texts_out.shape == (8, 32)
    assert called == [(torch.bfloat16, (4, 8))] * 3  # two blocks and the pooling head
    assert all(parameter.grad is not None for parameter in fake.parameters())
