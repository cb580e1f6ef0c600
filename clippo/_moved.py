"""Old import names of version 0.1 raise an error that names the new place. To be deleted after version 0.2."""

import sys
from importlib.abc import MetaPathFinder

# Old name -> new name. A name that an old package exported is looked up like one of its modules, so both fit here.
MOVED = {
    "clippo.data.EmojiPairs": "clippo.emoji.EmojiPairs",
    "clippo.data.RandomView": "clippo.emoji.RandomView",
    "clippo.data.answers": "clippo.tasks.vqa.answers",
    "clippo.data.classification": "clippo.tasks.glue.data",
    "clippo.data.cldr": "clippo.emoji.cldr",
    "clippo.data.emoji": "clippo.emoji.build",
    "clippo.data.gallery": "clippo.emoji.gallery",
    "clippo.data.glue": "clippo.tasks.glue.data",
    "clippo.data.keys": "clippo.data.sampling",
    "clippo.data.pairs": "clippo.emoji.pairs",
    "clippo.data.photo_augmentation": "clippo.data.augmentation",
    "clippo.data.pictures": "clippo.data.samples",
    "clippo.data.rows": "clippo.data.samples",
    "clippo.data.text_views": "clippo.data.phrases",
    "clippo.data.vqa": "clippo.tasks.vqa.data",
    "clippo.evaluation.clip_benchmark": "clippo.integrations.clip_benchmark",
    "clippo.evaluation.embeddings": "clippo.evaluation.encoder.Encoder",
    "clippo.evaluation.emoji": "clippo.emoji.evaluation",
    "clippo.evaluation.few_shot": "clippo.evaluation.probes",
    "clippo.evaluation.glue_baselines": "clippo.tasks.glue.baselines",
    "clippo.evaluation.glue_metrics": "clippo.tasks.glue.metrics",
    "clippo.evaluation.matching": "clippo.evaluation.image_text",
    "clippo.evaluation.reading": "clippo.evaluation.phrase_matching",
    "clippo.evaluation.sentence_transformers": "clippo.integrations.sentence_transformers",
    "clippo.evaluation.sentences": "clippo.evaluation.text_text",
    "clippo.evaluation.sources": "clippo.evaluation.benchmarks",
    "clippo.evaluation.vqa_accuracy": "clippo.tasks.vqa.accuracy",
    "clippo.evaluation.zero_shot": "clippo.evaluation.classification",
    "clippo.modeling_clippo.contrast_clippo": "clippo.modeling_clippo.grad_cache_clippo",
    "clippo.modeling_clippo.heads_clippo": "clippo.modeling_clippo.classification_clippo",
    "clippo.processing.word_boxes_clippo": "clippo.word_features",
    "clippo.training.canvas": "clippo.surgery",
    "clippo.training.fsdp": "clippo.training.trainer",
    "clippo.training.glue": "clippo.tasks.glue.finetune",
    "clippo.training.scaling": "clippo.training.planning",
    "clippo.training.schedule": "clippo.training.optimization",
    "clippo.training.shared": "clippo.training.finetuning",
    "clippo.training.skipped": "clippo.training.meters",
    "clippo.training.vqa": "clippo.tasks.vqa.finetune",
    "clippo.visualization.demo": "clippo.demo.terminal",
    "clippo.visualization.questions": "clippo.tasks.vqa.figures",
}


class MovedNames(MetaPathFinder):
    """Import hook behind all others: it is asked only for modules that do not exist."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname in MOVED:
            # No ModuleNotFoundError: `from package import name` would swallow it and its message.
            raise ImportError(f"{fullname} is now {MOVED[fullname]} (CHANGELOG.md, version 0.2).", name=fullname)
        return None


def install() -> None:
    """Register the hook once."""
    if not any(isinstance(finder, MovedNames) for finder in sys.meta_path):
        sys.meta_path.append(MovedNames())
