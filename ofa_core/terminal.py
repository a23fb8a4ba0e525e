r"""What reaches the terminal: text only.

Devices, runtimes and files say what they like, and all of it may end in a line of ours. So while a command runs, stdout
and stderr are `PlainStream`: what a terminal would obey is shown as an escape, such as \x1b. Progress bars, which need
a terminal, are drawn through `console`, which lets no such text through either.
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

# Control characters but line breaks and tabs; marks that change the direction of text; lone surrogates.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """Return text in which nothing is left that a terminal would obey, line breaks and tabs apart."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


class PlainStream:
    """A text stream through `shown`. It is no terminal, so that nobody writes colours to it.

    Args:
        stream: where the text goes.
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
        """Return what else the stream has."""
        return getattr(self.stream, name)


@contextmanager
def plain_streams() -> Iterator[None]:
    """Make stdout and stderr plain streams in the body."""
    before = sys.stdout, sys.stderr
    ours: tuple[Any, Any] = PlainStream(sys.stdout), PlainStream(sys.stderr)
    sys.stdout, sys.stderr = ours
    try:
        yield
    finally:
        if sys.stdout is ours[0]:  # not if the body has replaced it, as for a closed pipe
            sys.stdout = before[0]
        if sys.stderr is ours[1]:
            sys.stderr = before[1]


def console(*, stderr: bool = False) -> Console:
    """Return a console of rich for stdout or stderr that takes text as it is: no markup, no emoji, no escapes."""
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(shown(text), **{**options, "markup": False, "emoji": False, "highlight": False})

    stream: Any = sys.stderr if stderr else sys.stdout
    return PlainConsole(
        file=stream.stream if isinstance(stream, PlainStream) else stream, markup=False, emoji=False, highlight=False
    )
