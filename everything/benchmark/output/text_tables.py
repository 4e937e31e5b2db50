"""Tables: on a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

_LINE = 2000  # characters, of a line in a file


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column is left-aligned, all others right."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        rule = [":--", *("--:" for _ in self.header[1:])]
        lines = [" | ".join(row) for row in (self.header, rule, *self.rows)]
        return f"**{self.title}**\n\n" + "\n".join(f"| {line} |" for line in lines)

    def rich(self) -> RichTable:
        """Return the table for a terminal."""
        table = RichTable(title=self.title, title_justify="left", box=None, pad_edge=False)
        for i, name in enumerate(self.header):
            table.add_column(name, justify="right" if i else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


def print_tables(console: Console, found: Sequence[Table], notes: Sequence[str]) -> None:
    """Print tables, then notes; a file gets them at full width."""
    tables = [table.rich() for table in found]
    lines = [Text(f"- {note}") for note in notes]
    if not console.is_terminal:
        # Lines of a file need not be cut.
        console = Console(file=console.file, width=_LINE)
        console = Console(file=console.file, width=_widest(console, [*tables, *lines]))
    for table in tables:
        console.print(table, "")
    for line in lines:
        console.print(line)


def _widest(console: Console, parts: Sequence[RichTable | Text]) -> int:
    titles = [len(str(part.title)) for part in parts if isinstance(part, RichTable)]
    return max([console.measure(part).maximum for part in parts] + titles)
