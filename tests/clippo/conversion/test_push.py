"""A dry run of publishing: everything goes to a hub on this machine and comes back with equal embeddings."""

import os
import subprocess
import sys

import numpy as np
import pytest

import clippo

from ...conftest import ROOT
from ...fake_hub import TOKEN, FakeHub
from ...processes import HIDE_CLIPPO
from ...tiny import save_tiny

PUSH = """
import os
import sys
import clippo
from clippo.cli import main
from clippo.conversion.publish import push_folder

trained, page = sys.argv[1:]
clippo.ClippoModel.from_pretrained(trained).push_to_hub("stock")
clippo.ClippoProcessor.from_pretrained(trained).push_to_hub("stock")
main(["export", "--model", trained, "--output_dir", "exported", "--dtype", "float32", "--push_to", "team/ours"])
push_folder(page, "team/page", kind="space")
os.environ["HF_TOKEN"] = "hf_of_nobody"
try:
    main(["export", "--model", trained, "--output_dir", "exported", "--push_to", "team/none"])
except SystemExit as end:
    print(end)
"""
PULL = """
import numpy as np
from transformers import AutoModel, AutoProcessor

for repo in ("me/stock", "team/ours"):
    model = AutoModel.from_pretrained(repo, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(repo, trust_remote_code=True)
    image = np.arange(3 * 40 * 30, dtype=np.uint8).reshape(40, 30, 3)
    outputs = model(**processor(text=["a cat", "собака"], images=image, return_tensors="pt"))
    vectors = np.concatenate([outputs.text_embeds.detach(), outputs.image_embeds.detach()])
    np.save(repo.replace("/", "-"), vectors)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The hub after a push, the trained folder, the folder in which both programs ran, and the last printed line."""
    folder = tmp_path_factory.mktemp("push")
    trained = save_tiny(folder / "trained")
    (folder / "page").mkdir()
    (folder / "page" / "index.html").write_text("<p>page</p>")
    with FakeHub() as fake:
        printed = run(fake, folder, PUSH, trained, str(folder / "page"))
        yield fake, trained, folder, printed


def run(hub: FakeHub, folder, program: str, *arguments: str) -> str:
    """Run a program in a process of its own, because huggingface_hub reads its settings once."""
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1"}
    environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_comes_back_without_the_package_embeds_the_same(hub):
    fake, trained, folder, _ = hub
    model = clippo.ClippoModel.from_pretrained(trained)
    image = np.arange(3 * 40 * 30, dtype=np.uint8).reshape(40, 30, 3)
    inputs = clippo.ClippoProcessor.from_pretrained(trained)(
        text=["a cat", "собака"], images=image, return_tensors="pt"
    )
    outputs = model(**inputs)
    expected = np.concatenate([outputs.text_embeds.detach(), outputs.image_embeds.detach()])
    run(fake, folder, HIDE_CLIPPO + PULL)
    for name in ("me-stock", "team-ours"):
        np.testing.assert_allclose(np.load(folder / f"{name}.npy"), expected, atol=1e-6)


def test_the_repositories_hold_weights_code_font_and_card(hub):
    fake, *_ = hub
    for name in ("me/stock", "team/ours"):
        files = fake.repos["model", name]
        assert {"config.json", "model.safetensors", "font.zip", "modeling_clippo.py", "tokenization_clippo.py"} <= set(
            files
        )
        card = files["README.md"].decode()
        assert card.startswith("---\nlibrary_name: transformers\n")
        assert "text is drawn with the font in `font.zip`" in card and "More Information Needed" not in card
    assert fake.repos["space", "team/page"] == {"index.html": b"<p>page</p>"}


def test_weights_travel_by_hash_and_only_once(hub):
    fake, *_ = hub
    sent = [line for line in fake.log if line.startswith("PUT ")]
    assert len(sent) == len(set(sent)) == len(fake.large) > 0
    assert fake.repos["model", "me/stock"]["model.safetensors"] in fake.large.values()


def test_a_login_that_the_hub_does_not_know_is_one_sentence(hub):
    fake, *_, printed = hub
    assert printed.splitlines()[-1] == (
        "error: The hub refused team/none with status 401; log in with `hf auth login`, with a token that may write "
        "there."
    )
    assert ("model", "team/none") not in fake.repos
