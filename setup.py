"""Build and metadata. Three top-level folders become sub-packages of `clippo` (docs/architecture.md says why)."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """Return `clippo.__version__`, read as text, because an import would need torch at build time."""
    text = (HERE / "clippo" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"', text, flags=re.MULTILINE).group(1)


# CONTRIBUTING.md, "Versions", lists the versions that were run.
INSTALL_REQUIRES = [
    "transformers>=5.18",  # the first whose top-level AutoImageProcessor works without torchvision
    "torch>=2.11",
    "accelerate>=1.7",  # older releases resume in the middle of an epoch with other batches
    "datasets>=4.0",  # the List feature
    "evaluate>=0.4.3",
    "pillow>=11.0",
    "freetype-py>=2.4",
    "numpy>=2.0",
    "safetensors>=0.8",
]

EXTRAS_REQUIRE = {
    "shaping": ["uharfbuzz>=0.50", "python-bidi>=0.6"],
    "plot": ["matplotlib>=3.8"],
    "evaluation": ["scikit-learn>=1.7", "scipy>=1.15"],
    "finetune": ["peft>=0.17"],
    "pictograms": ["resvg>=0.2"],
    "train": ["tensorboard>=2.16"],
    "test": [
        *("pytest>=8.2", "pytest-xdist>=3.5", "hypothesis>=6.100", "setuptools>=77"),
        *("nbclient>=0.10", "ipykernel>=6.29"),  # the notebook
    ],
    "dev": ["ruff>=0.17", "pre-commit>=3.5"],
    "release": ["build>=1.2", "twine>=6.1"],
    "docs": ["mkdocs-material>=9.8", "mkdocstrings-python>=2.0"],
}
# Adapters to other projects. They install many packages of their own, so `all` leaves them out.
INTEGRATIONS = {
    "sentence-transformers": ["sentence-transformers>=6.2"],
    "timm": ["timm>=1.0.20", "torchvision"],
    "search": ["faiss-cpu>=1.9"],
    "demo": ["gradio>=6.0"],  # 6.31 needs Pillow below 13
    "qdrant": ["qdrant-client>=1.16"],
    "onnx": ["onnx>=1.20", "onnxscript>=0.7", "onnxruntime>=1.30", "sympy>=1.13"],
    "clip-benchmark": ["clip-benchmark>=1.6", "numpy<2.4"],  # its accuracy() calls float() on arrays of one axis
}
EXTRAS_REQUIRE["all"] = sorted({requirement for extra in EXTRAS_REQUIRE.values() for requirement in extra})

setup(
    name="clippo",
    version=version(),
    description="CLIPPO in Hugging Face transformers: one Vision Transformer embeds images and rendered text",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0 AND (OFL-1.1 OR GPL-2.0-or-later WITH Font-exception-2.0)",  # code and fonts
    license_files=["LICENSE", "THIRD_PARTY_NOTICES.md"],
    keywords=["vision-language", "contrastive learning", "pixel-based text", "transformers", "image-text retrieval"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Topic :: Text Processing",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    # Named one by one: find_packages() would also take tests/ and would miss the mapped folders.
    packages=[
        "clippo",
        "clippo.conversion",
        "clippo.data",
        "clippo.demo",
        "clippo.demo.space",  # files of a Space: no __init__.py
        "clippo.emoji",
        "clippo.evaluation",
        "clippo.integrations",
        "clippo.pictograms",
        "clippo.release",
        "clippo.search",
        "clippo.tasks",
        "clippo.tasks.generation",
        "clippo.tasks.glue",
        "clippo.tasks.pairs",
        "clippo.tasks.vqa",
        "clippo.training",
        "clippo.visualization",
        "clippo.web",
        "clippo.web.page",  # sources of the page alone: no __init__.py
        "clippo.modeling_clippo",
        "clippo.processing",
        "clippo.recipes",  # data alone: no __init__.py
    ],
    package_dir={
        "clippo": "clippo",
        "clippo.modeling_clippo": "modeling_clippo",
        "clippo.processing": "processing",
        "clippo.recipes": "recipes",
        "clippo.web.page": "web",
    },
    package_data={
        "clippo": ["py.typed"],
        "clippo.demo.space": ["*"],
        "clippo.evaluation": ["*.json"],
        "clippo.processing": ["fonts/*"],
        "clippo.recipes": ["*.yaml", "*/*.yaml"],
        "clippo.web.page": ["*.html", "*.js", "*.css"],
    },
    entry_points={"console_scripts": ["clippo = clippo.cli:main"]},
    # An editable install puts this folder on sys.path. The default mode installs an import hook, which comes too late
    # when the working directory holds a clone named `clippo`: Python takes that folder for an empty namespace package
    # (setuptools issue 3557).
    options={"editable_wheel": {"mode": "compat"}},
    install_requires=INSTALL_REQUIRES,
    extras_require={**EXTRAS_REQUIRE, **INTEGRATIONS},
    zip_safe=False,  # FreeType opens the fonts by file name
)
