r"""Keep control sequences from other sources off the terminal.

Text from devices, runtimes and files may appear in our messages. While a command runs, stdout and stderr are therefore
`PlainStream`, which shows control characters as escapes, such as \x1b. Progress bars need a terminal and are drawn
through `console`, which escapes such text too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["PlainStream", "console", "plain_streams", "shown"]

# Control characters except line breaks and tabs, marks of text direction, lone surrogates.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """Return text with all control characters escaped, except line breaks and tabs."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


class PlainStream:
    """A text stream that passes text through `shown`. It is not a terminal, so libraries write no colours to it.

    Args:
        stream: the stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text."""
        self.stream.write(shown(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        """Return False."""
        return False

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the stream."""
        return getattr(self.stream, name)


@contextmanager
def plain_streams() -> Iterator[None]:
    """Replace stdout and stderr by plain streams in the body."""
    before = sys.stdout, sys.stderr
    ours: tuple[Any, Any] = PlainStream(sys.stdout), PlainStream(sys.stderr)
    sys.stdout, sys.stderr = ours
    try:
        yield
    finally:
        if sys.stdout is ours[0]:  # unless the body has replaced it, as for a closed pipe
            sys.stdout = before[0]
        if sys.stderr is ours[1]:
            sys.stderr = before[1]


def console(*, stderr: bool = False) -> Console:
    """Return a rich console for stdout or stderr without markup, emoji or escapes in text."""
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(shown(text), **{**options, "markup": False, "emoji": False, "highlight": False})

    stream: Any = sys.stderr if stderr else sys.stdout
    return PlainConsole(
        file=stream.stream if isinstance(stream, PlainStream) else stream, markup=False, emoji=False, highlight=False
    )
