"""Ordered chain of font files: the renderer's vocabulary, saved beside a checkpoint as one `font.zip`."""

import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from .font_files_clippo import MAX_FONT_BYTES, FontFile, Glyph, check_size, font_lock, open_font

FONT_ZIP = "font.zip"
PACKAGED = ("unifont.pcf.gz", "unifont_upper.otf")  # GNU Unifont 15.0.01 as shipped by Debian 12
KNOWN = {
    "unifont": PACKAGED,
    "unifont-15.0.01": PACKAGED,
    "unifont-9.0.06": ("unifont-9.0.06.hex", "unifont_upper-9.0.06.hex"),  # the official CLIPPO font; never packaged
}
FONT_SUFFIXES = (".pcf", ".pcf.gz", ".bdf", ".bdf.gz", ".otf", ".ttf", ".ttc", ".hex", ".hex.gz")
_NO_SOURCE = "A font source of type {} ({!r}) is not usable; give a path, a name, a list of these or None."
_MAX_FILES = 64  # members of an archive, files of a chain
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_PACKAGE_FOLDER = Path(__file__).resolve().parent / "fonts"


def _font_folders() -> list[Path]:
    """The folders searched for a font name: the packaged one, those of CLIPPO_FONTS, the user's, the system's."""
    own = [Path(p) for p in os.environ.get("CLIPPO_FONTS", "").split(os.pathsep) if p]
    user = [Path.home() / ".local/share/fonts", Path.home() / ".fonts"]
    system = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path("/usr/share/unifont")]
    return [_PACKAGE_FOLDER, *own, *user, *system]


def _find_by_name(name: str) -> Path | None:
    """The first file below the font folders whose name, with or without its ending, is `name`."""
    wanted = name.lower()
    for folder in _font_folders():
        if not folder.is_dir():
            continue
        for path in sorted(folder.rglob("*")):
            file_name = path.name.lower()
            if file_name.endswith(FONT_SUFFIXES) and wanted in (file_name, file_name.split(".")[0]):
                return path
    return None


class FontChain:
    """Ordered list of font files. The first file that has a code point draws it.

    The object holds only the bytes of the files, so it pickles, hashes and compares by content in every process. A
    cache of the module holds the opened FreeType faces.

    Args:
        files: Font files, first choice first.
        notices: Licence texts that are saved with the fonts, as (file name, bytes).

    Raises:
        ValueError: There is no file, or a file is damaged.

    Example:
        >>> from clippo.processing import FontChain
        >>> fonts = FontChain.from_source(None)  # the packaged Unifont
        >>> [file.name for file in fonts.files]
        ['unifont.pcf.gz', 'unifont_upper.otf']
        >>> fonts.bitmap(ord("i")).advance
        8
    """

    def __init__(self, files: list[FontFile], notices: tuple[tuple[str, bytes], ...] = ()):
        if not files:
            raise ValueError("A font chain needs at least one font file; pass None for the packaged Unifont.")
        self.files = tuple(files)
        self.notices = tuple(notices)
        if len(self.files) > _MAX_FILES:
            raise ValueError(f"A font chain has at most {_MAX_FILES} files, but {len(self.files)} are given.")
        size = 0
        for file in self.files:
            size += open_font(file).size  # reports a damaged font here and not in the middle of a data set
            check_size(f"The chain of fonts up to {file.name}", size)

    @classmethod
    def from_source(
        cls,
        source: "str | os.PathLike | list | FontChain | None" = None,
        expected_sha256: "Sequence[str] | None" = None,
    ) -> "FontChain":
        """Loads fonts.

        Args:
            source: None for the packaged Unifont 15.0.01; the path of a font file or of a saved `font.zip`; the name of
                a font ("unifont-9.0.06", "DejaVuSans"); or a list of these, tried in that order. A name is looked up
                in the packaged folder, the folders of the environment variable CLIPPO_FONTS and the system's folders.
            expected_sha256: Hash of every font file in order. They are compared before a font is opened.

        Raises:
            FileNotFoundError: No file and no font has this path or name.
            ValueError: A font or archive is damaged or too large, or the hashes differ.
            TypeError: The source has another type.
        """
        if isinstance(source, FontChain):
            _check_sha256(source.files, expected_sha256)
            return source
        if source is None:
            parts = [cls._packaged()]
        elif isinstance(source, (list, tuple)):
            parts = [cls._load_one(item) for item in source]
        else:
            parts = [cls._load_one(source)]
        files = list(dict.fromkeys(file for part in parts for file in part[0]))
        _check_sha256(files, expected_sha256)
        return cls(files, tuple(dict(notice for part in parts for notice in part[1]).items()))

    @classmethod
    def _load_one(cls, item) -> tuple[list[FontFile], tuple]:
        if isinstance(item, FontChain):
            return list(item.files), item.notices
        if not isinstance(item, (str, os.PathLike)):
            raise TypeError(_NO_SOURCE.format(type(item).__name__, item))
        path = Path(item)
        if path.is_file():
            check_size(path, path.stat().st_size)
            return cls._read_zip(path) if zipfile.is_zipfile(path) or path.suffix == ".zip" else ([cls._read(path)], ())
        name = str(item)
        if KNOWN.get(name) == PACKAGED:
            return cls._packaged()
        if path.name == name:  # a bare name, no folder
            found = [_find_by_name(n) for n in KNOWN.get(name, (name,))]
            if all(found):
                return [cls._read(p) for p in found], ()
        raise FileNotFoundError(
            f"There is no font {name!r}: it is neither a file nor a font below {', '.join(map(str, _font_folders()))}; "
            "give the path of a .hex, .pcf, .bdf, .otf or .ttf file, put its folder into the variable CLIPPO_FONTS, "
            "or pass None for the packaged Unifont."
        )

    @classmethod
    def _packaged(cls) -> tuple[list[FontFile], tuple]:
        notices = tuple((path.name, path.read_bytes()) for path in sorted(_PACKAGE_FOLDER.glob("*.txt")))
        return [cls._read(_PACKAGE_FOLDER / name) for name in PACKAGED], notices

    @staticmethod
    def _read(path: Path) -> FontFile:
        try:
            return FontFile.from_bytes(path.name, path.read_bytes())
        except FileNotFoundError:
            raise FileNotFoundError(
                f"The font {path} is missing; pass the checkpoint's {FONT_ZIP} or another font file, or install "
                "clippo, which packages Unifont."
            ) from None

    @staticmethod
    def _read_zip(path: Path) -> tuple[list[FontFile], tuple]:
        files, notices, refusal = [], [], None
        try:
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
                members = archive.infolist()
                refusal = _refusal(members)
                for info in members if refusal is None else ():
                    with archive.open(info) as member:
                        data = member.read(info.file_size)  # ZipFile.read unpacks all, whatever the stated size
                    if info.filename.lower().endswith(FONT_SUFFIXES):
                        files.append(FontFile.from_bytes(info.filename, data))
                    else:
                        notices.append((info.filename, data))
        # A damaged archive raises nearly every class: BadZipFile, zlib.error, EOFError, struct.error, RuntimeError, ...
        except Exception as error:
            raise ValueError(f"{path} is a damaged font archive ({error}); fetch or save it again.") from None
        if refusal is not None:
            raise ValueError(f"{path} is not unpacked: {refusal}; save it again with FontChain.save.")
        if not files:
            raise ValueError(f"{path} holds no font file; save it again with FontChain.save.")
        return files, tuple(notices)

    @property
    def sha256(self) -> tuple[str, ...]:
        """SHA-256 of every font file, in order."""
        return tuple(file.sha256 for file in self.files)

    def check_sha256(self, expected: "Sequence[str]") -> None:
        """Raises ValueError if the fonts do not have the `expected` hashes, in that order."""
        _check_sha256(self.files, expected)

    def save(self, path: "str | os.PathLike") -> None:
        """Writes the chain as one zip archive. The same chain always gives the same bytes.

        Members are stored, not deflated, since the output of deflate differs between zlib versions.
        """
        names = []
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, data in [*((f.name, f.data) for f in self.files), *self.notices]:
                while name in names:
                    name = "_" + name
                names.append(name)
                info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                info.create_system, info.external_attr = 3, 0o644 << 16
                archive.writestr(info, data)
        Path(path).write_bytes(buffer.getvalue())

    def bitmap(self, code_point: int, antialias: bool = False) -> Glyph | None:
        """Returns the glyph of the first font that has the code point, or None if no font has it.

        Returns:
            Glyph with columns uint16 (16 or 32,), or uint8 (16 or 32, 16) if `antialias`.
        """
        with font_lock():
            for file in self.files:
                glyph = open_font(file).glyph(code_point, antialias)
                if glyph is not None:
                    return glyph
        return None

    def __eq__(self, other):
        return isinstance(other, FontChain) and self.files == other.files

    def __hash__(self):
        return hash(self.sha256)

    def __repr__(self):
        return f"FontChain({', '.join(file.name for file in self.files)})"


def _refusal(members: list[zipfile.ZipInfo]) -> str | None:
    """Says why an archive must not be unpacked, or None."""
    size = sum(info.file_size for info in members)
    if size > MAX_FONT_BYTES:
        return f"it takes more than {MAX_FONT_BYTES >> 20} MiB ({size} bytes)"
    if len(members) > _MAX_FILES:
        return f"it has {len(members)} members, and at most {_MAX_FILES} are read"
    for info in members:
        if info.flag_bits & 1:
            return f"{info.filename} is encrypted"
        if info.compress_type not in _COMPRESSIONS:
            return f"{info.filename} is neither stored nor deflated"
    return None


def _check_sha256(files: "Sequence[FontFile]", expected: "Sequence[str] | None") -> None:
    if not isinstance(expected, list | tuple | None) or not all(isinstance(hash, str) for hash in expected or ()):
        raise ValueError(f"font_sha256={expected!r} is not usable; give a list of hashes, one for each font file.")
    if expected is None or tuple(file.sha256 for file in files) == tuple(expected):
        return
    named = ", ".join(f"{file.name} {file.sha256[:12]}" for file in files)
    wanted = ", ".join(h[:12] for h in expected)
    raise ValueError(
        f"The font differs from the one this model was saved with: expected sha256 {wanted}, found {named}; restore "
        f"the checkpoint's {FONT_ZIP}, or pass font_sha256=None to use the other font on purpose."
    )
