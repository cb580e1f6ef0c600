"""Griffe extension: griffe reads only the plural heading `Examples:` as examples; the docstrings write `Example:`."""

import re

from griffe import Extension, Object


class ExampleSections(Extension):
    """Puts the heading of every docstring into the plural before griffe parses it."""

    def on_object(self, *, obj: Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
