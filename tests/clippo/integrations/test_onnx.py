"""Exported ONNX graphs give the embeddings, scores and logits of PyTorch, at every precision and batch size."""

import numpy as np
import pytest
import torch

import clippo
from clippo.evaluation.encoder import Encoder
from clippo.integrations.onnx_graphs import graphs_of

from ...tiny import save_tiny, tiny_model

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from clippo.integrations.onnx import Samples, export_onnx, open_session, size_table
from clippo.integrations.onnx_command import main
from clippo.integrations.onnx_encoder import OnnxEncoder

TEXTS = ["a cat", "ein langer Text über mehrere Zeilen", "鳥鳥鳥", "", "собака"]
PICTURES = [np.full((40, 30, 3), value, np.uint8) for value in (0, 90, 255)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny(folder, skip_blank_patches=True)
    output = tmp_path_factory.mktemp("exported")
    files = export_onnx(folder, output, ("fp32", "fp16", "int8", "int8-static"), samples=Samples(texts=TEXTS))
    return folder, output, files


def test_every_file_is_near_pytorch(exported):
    limits = {"fp32": (1e-5, 0.99999), "fp16": (5e-3, 0.9999), "int8": (0.1, 0.99), "int8-static": (0.3, 0.95)}
    _, output, files = exported
    assert [file.path.name for file in files[::4]] == ["vision_model.onnx", "text_model.onnx", "model.onnx"]
    assert sorted(path.name for path in (output / "onnx").iterdir()) == sorted(file.path.name for file in files)
    for file in files[:8]:
        difference, cosine = limits[file.precision]
        assert file.difference < difference, file
        assert file.cosine > cosine, file
    sizes = {file.path.name: file.megabytes for file in files}
    for side in ("vision_model", "text_model", "model"):
        assert sizes[f"{side}_quantized.onnx"] < 0.9 * sizes[f"{side}.onnx"]
    assert "| text_model_quantized.onnx | int8 |" in size_table(files)


def test_the_encoder_gives_the_vectors_of_the_model(exported):
    folder, output, _ = exported
    model, processor = clippo.ClippoModel.from_pretrained(folder), clippo.ClippoProcessor.from_pretrained(folder)
    encoder = OnnxEncoder(output, threads=1)
    reference = Encoder(model, processor)
    mixed = [TEXTS[0], PICTURES[1], TEXTS[2]]
    for items, expected in ((TEXTS, reference.texts(TEXTS)), (PICTURES, reference.images(PICTURES).vectors)):
        np.testing.assert_allclose(encoder.encode(items, batch_size=2), expected, atol=1e-5)
    expected = np.stack(
        [reference.texts(mixed[:1])[0], reference.images(mixed[1:2]).vectors[0], reference.texts(mixed[2:])[0]]
    )
    np.testing.assert_allclose(encoder.encode(mixed), expected, atol=1e-5)


def test_scores_of_unequal_numbers_of_images_and_texts(exported):
    folder, output, _ = exported
    model = clippo.ClippoModel.from_pretrained(folder)
    processor = clippo.ClippoProcessor.from_pretrained(folder)
    inputs = processor(text=TEXTS, images=PICTURES, return_tensors="pt")
    session = open_session(output / "onnx" / "model.onnx", threads=1)
    names = [value.name for value in session.get_outputs()]
    assert names == ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
    got = dict(zip(names, session.run(None, {name: value.numpy() for name, value in inputs.items()}), strict=True))
    with torch.no_grad():
        expected = model(**inputs)
    for name in names:
        np.testing.assert_allclose(got[name], expected[name].numpy(), atol=1e-4)


def test_the_command_exports_a_classification_head_for_packed_text(tmp_path, capsys):
    head = save_tiny(tmp_path / "head", clippo.ClippoForSequenceClassification, skip_blank_patches=True, num_labels=3)
    (tmp_path / "texts.txt").write_text("cat\nHund\n", encoding="utf-8")
    options = f"--model {head} --output_dir {tmp_path / 'out'} --text_format packed --opset 18 --precision fp32 int8"
    main([*options.split(), "--texts", str(tmp_path / "texts.txt")])
    table = capsys.readouterr().out
    assert "| model.onnx | fp32 |" in table and "| model_quantized.onnx | int8 |" in table
    (value,) = open_session(tmp_path / "out" / "onnx" / "model.onnx").get_inputs()
    assert (value.name, value.type) == ("text_pixel_values", "tensor(int64)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 11}, "opset=11 is not possible; give 18 to 23"),
        ({"precisions": ("int4",)}, "precision int4: choose from fp32, fp16, int8, int8-static"),
        ({"names": ("vision",)}, "vision is no graph of this model; choose from vision_model, text_model, model"),
        ({"text_format": "float"}, "text_format='float' is not known; choose uint8 or packed"),
    ],
)
def test_options_that_are_not_possible(exported, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(exported[0], tmp_path, **options)


def test_a_tower_alone_and_a_folder_without_export_are_refused(exported, tmp_path):
    with pytest.raises(ValueError, match="ClippoVisionModel cannot be exported to ONNX; export one of ClippoModel"):
        graphs_of(tiny_model(clippo.ClippoVisionModel))
    with pytest.raises(FileNotFoundError, match=r"vision_model\.onnx; write it with `clippo export onnx"):
        OnnxEncoder(tmp_path)


def test_a_model_that_reads_texts_only_is_one_graph():
    model = tiny_model(image_tower="some/model", project_images=False)
    assert [graph.name for graph in graphs_of(model)] == ["text_model"]
