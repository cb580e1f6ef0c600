"""Copies a folder of vectors into a collection of Qdrant, a vector database. Needs the extra `clippo[qdrant]`."""

from pathlib import Path
from typing import TYPE_CHECKING

from clippo.data.vectors import Vectors

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

BATCH = 1024  # points a request


def upload_vectors(folder: str | Path, client: "QdrantClient", collection: str) -> int:
    """Write the vectors of a folder into a collection.

    The id of a point is the row in the data set, so a second upload replaces points. A row that the folder no longer
    has is deleted. The payload has `key`, if the rows have names, and `fingerprint` of model, preprocessing and data.

    Args:
        folder: Folder that `clippo embed` wrote.
        client: Client of a server, of a file (`QdrantClient(path=...)`) or of memory (`QdrantClient(":memory:")`).
        collection: Name. The collection is made if it is missing.

    Returns:
        Number of points.

    Raises:
        ImportError: qdrant-client is not installed.
        FileNotFoundError: There are no vectors.
        ValueError: The collection has vectors of another width.

    Example:
        >>> import tempfile, torch
        >>> from clippo.data.vectors import About
        >>> folder = tempfile.mkdtemp()
        >>> about = About("some/model", "photos", "image", "images", "ab12", 2, 3, "float32")
        >>> Vectors.write(folder, about, torch.eye(2, 3), rows=[0, 1], hashes=[b"12345678", b"abcdefgh"])
        >>> from qdrant_client import QdrantClient
        >>> client = QdrantClient(":memory:")
        >>> upload_vectors(folder, client, "photos")
        2
        >>> client.query_points("photos", query=[0.0, 1.0, 0.0], limit=1).points[0].id
        1
    """
    try:
        from qdrant_client import models
    except ImportError:
        raise ImportError("Qdrant needs its client: pip install 'clippo[qdrant]'.") from None
    vectors = Vectors(folder)
    about, rows = vectors.about, vectors.rows.tolist()
    if not client.collection_exists(collection):
        size = models.VectorParams(size=about.width, distance=models.Distance.COSINE)
        client.create_collection(collection, vectors_config=size)
    width = client.get_collection(collection).config.params.vectors.size
    if width != about.width:
        raise ValueError(
            f"The collection {collection} has vectors of {width} numbers, and {folder} has {about.width}, by "
            f"{about.model}; choose another name."
        )
    for start in range(0, len(rows), BATCH):
        own = rows[start : start + BATCH]
        names = [{"key": vectors.keys[row]} if vectors.keys else {} for row in own]
        payloads = [{"fingerprint": about.fingerprint, **name} for name in names]
        numbers = vectors.vectors[start : start + BATCH].float().tolist()  # (B, E)
        client.upsert(collection, points=models.Batch(ids=own, vectors=numbers, payloads=payloads))
    # The fingerprint covers the data, so points of rows that are gone have another one.
    current = models.FieldCondition(key="fingerprint", match=models.MatchValue(value=about.fingerprint))
    client.delete(collection, points_selector=models.FilterSelector(filter=models.Filter(must_not=[current])))
    return client.count(collection).count
