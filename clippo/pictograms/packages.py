"""npm packages that the pictograms and their words come from, pinned, with licence and attribution.

`npm install` or `npm pack` fetches them; nothing here uses the network. The licences of single icon sets are in
`licences.py`, since one package holds 238 sets.
"""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One pinned npm package.

    Attributes:
        name: Name on npm, which is also its folder below node_modules.
        version: Version that the counts in the documentation were measured with.
        licence: SPDX name of the licence of the package's own content.
        attribution: Authors, as the licence asks for them.
        content: Part of the data set that comes from it.
        required: False for a package whose absence only costs texts.
    """

    name: str
    version: str
    licence: str
    attribution: str
    content: str
    required: bool = False


ICONIFY = "@iconify/json"
CLDR_PACKAGES = ("cldr-annotations-full", "cldr-annotations-derived-full")
PACKAGES = (
    Package(ICONIFY, "2.2.535", "MIT", "Iconify, authors of each set in ATTRIBUTIONS.md", "drawings, aliases", True),
    Package(CLDR_PACKAGES[0], "48.2.0", "Unicode-3.0", "Unicode, Inc.", "names and keywords of characters", True),
    Package(CLDR_PACKAGES[1], "48.2.0", "Unicode-3.0", "Unicode, Inc.", "names and keywords of sequences", True),
    Package("emojibase-data", "17.0.0", "MIT", "Miles Johnson", "labels and tags of emoji"),
    Package("lucide-static", "1.62.0", "ISC", "Lucide Contributors", "tags of lucide"),
    Package("@phosphor-icons/core", "2.1.1", "MIT", "Phosphor Icons", "tags of ph"),
    Package("@tabler/icons", "3.52.0", "MIT", "Paweł Kuna", "tags of tabler"),
    Package("@fortawesome/fontawesome-free", "7.3.1", "CC-BY-4.0", "Fonticons, Inc.", "search terms of fa7, fa6"),
)


def install_command() -> str:
    """Shell command that fetches every package at its pinned version.

    Example:
        >>> from clippo.pictograms.packages import install_command
        >>> install_command().startswith("npm install @iconify/json@2.2.535 ")
        True
    """
    return "npm install " + " ".join(f"{package.name}@{package.version}" for package in PACKAGES)


def find_packages(folder: str | Path) -> dict[str, Path]:
    """Folders of the packages below a folder of packages.

    Args:
        folder: `node_modules`, or the folder that holds it.

    Returns:
        Name -> folder, for the packages that are there.

    Raises:
        FileNotFoundError: A required package is missing; the message holds the npm command.
    """
    places = (Path(folder), Path(folder) / "node_modules")
    found = {
        package.name: place / package.name
        for place in reversed(places)
        for package in PACKAGES
        if (place / package.name).is_dir()
    }
    missing = [package.name for package in PACKAGES if package.required and package.name not in found]
    if missing:
        raise FileNotFoundError(
            f"No {', '.join(missing)} in {folder}: run `{install_command()}`, or name node_modules."
        )
    return found


def package_version(folder: Path) -> str:
    """Version in a package's package.json, or "unknown".

    Args:
        folder: Folder of the package.
    """
    file = folder / "package.json"
    if not file.is_file():
        return "unknown"
    return str(json.loads(file.read_text(encoding="utf-8")).get("version", "unknown"))
