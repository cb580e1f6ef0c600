"""The classes that a saved folder names for the Auto classes of transformers."""

from transformers.utils import logging

logger = logging.get_logger(__name__)

AUTO_MAP = {
    "AutoFeatureExtractor": "image_processing_clippo.ClippoImageProcessor",
    "AutoImageProcessor": "image_processing_clippo.ClippoImageProcessor",
    "AutoProcessor": "processing_clippo.ClippoProcessor",
    "AutoTokenizer": "tokenization_clippo.ClippoTokenizer",
}


def warn_of_foreign_entries(auto_map, name: str) -> None:
    """Warns of entries of a loaded `auto_map` that name other code. The caller drops them; saving writes its own.

    A folder that is opened without trust may name any code. Saved again with these entries, it would run that code for
    a person who trusts the new folder.

    Args:
        auto_map: Value of "auto_map" in a loaded file: a dict, a list (old tokenizers), or None.
        name: Class that drops the entries, for the message.
    """
    entries = auto_map if isinstance(auto_map, dict) else {"AutoTokenizer": auto_map} if auto_map else {}
    foreign = []
    for auto_class, target in entries.items():
        targets = target if isinstance(target, list | tuple) else [target]
        # The hub puts "owner/name--" before a class.
        named = [str(item).rpartition("--")[2] for item in targets if item is not None]
        if named != [AUTO_MAP.get(auto_class)]:
            foreign.append(f"{auto_class}: {', '.join(named)}")
    if foreign:
        logger.warning(
            f"{name} drops entries of auto_map that clippo does not define ({'; '.join(foreign)[:300]}). Saved again, "
            "they would run foreign code for a person who trusts the new folder."
        )
