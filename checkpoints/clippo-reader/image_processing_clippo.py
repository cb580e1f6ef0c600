"""The code of this checkpoint is the package clippo. Install it, or work in a checkout, and `import clippo`."""

from clippo import ClippoImageProcessor  # noqa: F401
