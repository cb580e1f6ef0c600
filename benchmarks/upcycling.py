"""Compare starts of experts that grow out of a trained dense model: how much does the function change?

    python benchmarks/upcycling.py --data data/emoji

Four starts are compared. The experts are copies of the MLP, times E or not. The logits of the router have a standard
deviation near zero (`grow`), of 1 (a new router) or of 10 (gates near 1). Cosines are those of the embeddings before
and after, and R@1 is that of names in three languages among all pictures, before any training.
"""

import argparse

import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoProcessor

import clippo
from clippo.emoji.evaluation import read_emoji
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.retrieval import ranks
from clippo.surgery import grow

# Name -> standard deviation of the logits (None: as grow makes them), and whether the experts are multiplied by E.
STARTS = {
    "raw gates": (1.0, False),
    "times E, new router": (1.0, True),
    "sharp router": (10.0, False),
    "times E, nearly even router (grow)": (None, True),
}


@torch.no_grad()
def start(model: clippo.ClippoModel, experts: int, std: float | None, times: bool) -> clippo.ClippoModel:
    """A model with experts."""
    torch.manual_seed(0)
    grown = grow(model, num_experts=experts)
    for block in grown.config.expert_blocks:
        mlp = grown.vision_model.encoder.layers[block].mlp
        if std is not None:
            mlp.router.weight.normal_(std=std * mlp.router.weight.shape[1] ** -0.5)
        if not times:
            mlp.experts.down_proj /= experts
            mlp.experts.down_proj_bias /= experts
    return grown


def main() -> None:
    """Print a table of starts."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", default="checkpoints/clippo-emoji", help="Folder of the dense model.")
    parser.add_argument("--data", default="data/emoji", help="Folder of the emoji data set.")
    parser.add_argument("--experts", type=int, nargs="+", default=[4, 8, 32], help="Numbers of experts.")
    parser.add_argument("--every", type=int, default=20, help="Use every n-th name.")
    args = parser.parse_args()
    model = AutoModel.from_pretrained(args.model, dtype="float32").eval()
    processor = AutoProcessor.from_pretrained(args.model)
    cells, rows = read_emoji(args.data, ["name"], ["en", "ru", "ja"])
    rows = rows[:: args.every]
    partners = torch.tensor([row["image"] for row in rows])

    def embed(own) -> tuple[torch.Tensor, torch.Tensor, float]:
        encoder = Encoder(own, processor)
        images, texts = encoder.images(cells).require_all(), encoder.texts([row["name"] for row in rows])
        images, texts = (normalize(torch.as_tensor(vectors), dim=-1) for vectors in (images, texts))
        return images, texts, (ranks(texts, images, partners) == 0).float().mean().item()

    images, texts, recall = embed(model)
    print(f"dense: R@1 {recall:.1%} of {len(rows)} names")
    print("| experts | start | cosine of images | cosine of texts | R@1 |\n|---|---|---|---|---|")
    for experts in args.experts:
        for name, options in STARTS.items():
            own_images, own_texts, recall = embed(start(model, experts, *options))
            cosines = [(a * b).sum(1).mean().item() for a, b in ((images, own_images), (texts, own_texts))]
            print(f"| {experts} | {name} | {cosines[0]:.4f} | {cosines[1]:.4f} | {recall:.1%} |", flush=True)


if __name__ == "__main__":
    main()
