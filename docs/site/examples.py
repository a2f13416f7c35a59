"""Examples in docstrings are code: the reference shows them as such."""
import re
import textwrap

import griffe

EXAMPLE = re.compile(r"^Example( \([^\n]*\))?:\n((?:[ ]+[^\n]*\n?|\n)+)", re.M)


class Examples(griffe.Extension):
    """`Example:` with indented lines becomes a block of Python."""

    def on_object(self, *, obj, **more):
        """Of each class and function, before it is shown."""
        del more
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(fenced, obj.docstring.value)


def fenced(found):
    """The example as Markdown."""
    return f"**Example**{found[1] or ''}\n\n```python\n{textwrap.dedent(found[2]).strip()}\n```\n"
