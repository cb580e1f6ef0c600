"""Commands and Python snippets of the documentation, as the tests read them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "model_card.md", *sorted((ROOT / "docs" / "guides").glob("*.md")))
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))

PROGRAMS = ("clippo", "python", "torchrun", "accelerate", "pip", "make")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return [text for name, text in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def commands_in(text: str) -> list[str]:
    """Command lines of a shell text: one string each, without comments, continuation lines joined."""
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    parts = [part.strip() for line in lines for part in re.sub(r"(^|\s+)#( .*|$)", "", line).split("&&")]
    return [re.sub(r"\s+", " ", part) for part in parts if part.split(" ")[0] in PROGRAMS]


def documented_commands() -> dict[str, list[str]]:
    """Every documented command with the files that name it: bash blocks of the pages, heads of the recipes."""
    texts = [(page, block) for page in PAGES for block in blocks(page, "bash")]
    for recipe in RECIPES:
        head = [line[1:].strip() for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        texts.append((recipe, "\n".join(head)))
    found: dict[str, list[str]] = {}
    for file, text in texts:
        for command in commands_in(text):
            found.setdefault(command, []).append(file.relative_to(ROOT).as_posix())
    return found


LAUNCHERS = re.compile(r"^(?:torchrun --nproc_per_node \d+|accelerate launch --config_file \S+|python) ")
SCRIPTS = {
    "build_demo_pictures": "build gallery",
    "build_emoji_dataset": "build emoji",
    "build_text_views": "build phrases",
    "convert_big_vision": "convert",
    "demo": "demo",
    "evaluate_emoji": "evaluate emoji",
    "evaluate": "evaluate",
    "evaluate_model": "evaluate",
    "export_checkpoint": "export",
    "finetune_glue": "finetune glue",
    "finetune_vqa": "finetune vqa",
    "plan_training": "plan",
    "plot_training": "visualize curves",
    "prepare_data": "prepare",
    "pretrain": "pretrain",
    "visualize": "visualize",
}


def normal(command: str) -> str:
    """The `clippo` form of a documented command: launcher, script and recipe file are replaced by their short names."""
    command = LAUNCHERS.sub("", command)
    command = re.sub(r"^-m clippo ", "clippo ", command)
    command = re.sub(r"^scripts/(\w+)\.py", lambda found: f"clippo {SCRIPTS[found[1]]}", command)
    command = re.sub(r" recipes/(\S+)\.yaml", r" \1", command)
    return re.sub(r"\[(--\w+ \w+)\]", r"\1", command)
