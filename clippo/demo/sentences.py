"""Terminal demo of a reader: sentences are searched by meaning, in several languages and spellings."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoModel, AutoProcessor, HfArgumentParser
from transformers.utils import logging

from clippo.evaluation.encoder import Encoder
from clippo.model_files import find_model
from clippo.visualization.inputs import CHECKOUT
from clippo.visualization.text_table import align

SENTENCES = CHECKOUT / "docs" / "sentences.json"


@dataclass
class SentenceDemoArguments:
    """Options of the sentence demo."""

    model: str = field(
        default=str(CHECKOUT / "checkpoints" / "clippo-reader"), metadata={"help": "Folder of a checkpoint."}
    )
    sentences: str | None = field(
        default=None, metadata={"help": "Text file with a sentence a line, to search in place of the shipped ones."}
    )
    queries: list[str] | None = field(default=None, metadata={"help": "Your own texts to search for."})
    shown: int = field(default=1, metadata={"help": "Sentences to print for each query."})


def search_sentences(encoder: Encoder, sentences: Sequence[str], queries: Sequence[dict], shown: int = 1) -> list[str]:
    """Lines of a table: each query with its nearest sentences.

    Args:
        encoder: Encoder of the model.
        sentences: Sentences to search.
        queries: Mappings with a "text", and perhaps its "language", "kind" and "answer", the sentence that is meant.
        shown: Sentences for each query.

    Example:
        >>> from transformers import AutoModel, AutoProcessor
        >>> from clippo.evaluation.encoder import Encoder
        >>> folder = "checkpoints/clippo-emoji"
        >>> encoder = Encoder(AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder))
        >>> search_sentences(encoder, ["dog", "moon"], [{"text": "Hund"}])[0].split()[-1]
        'dog'
    """
    cosines = encoder.texts([query["text"] for query in queries]) @ encoder.texts(sentences).T  # (Q, N)
    rows, right, known = [], 0, 0
    for query, line in zip(queries, cosines, strict=True):
        values, places = line.topk(min(shown, len(sentences)))
        answer = query.get("answer")
        known += answer is not None
        right += sentences[int(places[0])] == answer
        for rank, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            asked = ["", "", ""] if rank else [query.get("language", ""), query.get("kind", ""), query["text"]]
            mark = "" if answer is None else "=" if sentences[place] == answer else "x"
            rows.append([*asked, f"{value:.2f}", mark, sentences[place]])
    lines = align(rows)
    if known:
        lines += [
            "",
            f"  The sentence that is meant comes first for {right} of {known} texts (=), another one for the rest (x); "
            f"by chance {known / len(sentences):.1f}.",
        ]
    return lines


def _read_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [line.strip() for line in lines if line.strip()]


def main(argv: Sequence[str] | None = None) -> None:
    """Searches sentences by meaning, in several languages and spellings.

    Raises:
        SystemExit: With one sentence, if a folder or file is missing.
    """
    parser = HfArgumentParser(SentenceDemoArguments, description=main.__doc__.partition("\n")[0])
    (args,) = parser.parse_args_into_dataclasses(argv)
    sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode still shows the numbers
    logging.disable_progress_bar()
    try:
        shipped = json.loads(SENTENCES.read_text(encoding="utf-8"))
        sentences = _read_lines(Path(args.sentences)) if args.sentences else shipped["sentences"]
        queries = shipped["queries"]
        if args.queries or args.sentences:  # the right answers are known only for the shipped texts
            texts = args.queries or [query["text"] for query in queries]
            queries = [{"text": text} for text in texts]
        if not sentences:
            raise ValueError(f"{args.sentences} has no sentence; write one a line.")
        folder = str(find_model(args.model))
        encoder = Encoder(AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder))
        lines = search_sentences(encoder, sentences, queries, args.shown)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"\nSearch by meaning among {len(sentences)} sentences: query, cosine, nearest sentence\n")
    print("\n".join(lines))
