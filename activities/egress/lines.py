"""Readable text from the pieces of a page: words, lines, paragraphs, lists, rows of tables, verbatim blocks."""

import re

_WIDE = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uffef"
_BETWEEN_WIDE = re.compile(rf"(?<=[{_WIDE}])\s*\n\s*(?=[{_WIDE}])")
"""Chinese and Japanese have no spaces: a line that the author broke there is put together again (CSS Text 3, 4.1.3)."""

FENCE = "```"


def words_of(text: str) -> str:
    """Text with every run of white space as one space."""
    return " ".join((_BETWEEN_WIDE.sub("", text) if "\n" in text else text).split())


class Lines:
    """Collects text. White space between pieces is decided when the next piece comes; the largest gap wins."""

    def __init__(self) -> None:
        self.size = 0
        """Characters so far, about."""
        self._parts: list[str] = []
        self._gap = ""
        self._mark = ""
        """What the next text begins with: a bullet, a heading's signs."""
        self._fresh = False
        """True at the start of a cell: its first block begins there and not on a line of its own."""
        self._cells = 0
        """Cells that were begun since the last text of this row, but the first."""
        self._in_row = False
        self._row_gap: str | None = None
        """What is due before the first text of this row; None once that has come."""
        self._lists: list[int | None] = []
        """For each open list the number of its next item, None without numbers."""
        self._first_item = False
        self._fences: list[bool] = []

    def text(self) -> str:
        """All of it."""
        return "\n".join(line.rstrip() for line in "".join(self._parts).split("\n")).strip("\n")

    def gap(self, gap: str) -> None:
        """White space that is due before the next text."""
        if not self._mark and not self._fresh:
            self._gap = max(self._gap, gap, key=lambda text: (text.count("\n"), len(text)))

    def mark(self, mark: str) -> None:
        """Begin the next text with this."""
        self._mark = mark

    def unmark(self) -> None:
        """There was no such text."""
        self._mark = ""

    def words(self, text: str) -> None:
        """A piece of running text."""
        words = words_of(text)
        if not words:
            if text:
                self.gap(" ")
            return
        if text[0].isspace():
            self.gap(" ")
        self._put(words)
        if text[-1].isspace():
            self.gap(" ")

    def begin_list(self, first: int | None) -> None:
        """`first`: the number of its first item, None for bullets."""
        self.gap("\n\n")
        self._lists.append(first)
        self._first_item = True

    def end_list(self) -> None:
        if self._lists:
            self._lists.pop()
        self.unmark()
        self.gap("\n\n")

    def begin_item(self) -> None:
        """Items follow each other without empty lines, inner lists are indented."""
        number = self._lists[-1] if self._lists else None
        self.unmark()
        self.gap("\n")
        if len(self._lists) > 1 or not self._first_item:
            self._gap = "\n"
        self._first_item = False
        if number is not None:
            self._lists[-1] = number + 1
        sign = "- " if number is None else f"{number}. "
        self._mark = "  " * min(len(self._lists) - 1, 8) + sign

    def end_item(self) -> None:
        self.unmark()
        self.gap("\n")

    def begin_row(self) -> None:
        self._fresh, self._in_row, self._cells = False, False, 0
        self.gap("\n")
        self._row_gap = self._gap

    def begin_cell(self) -> None:
        if self._in_row:
            self._cells += 1
            self._gap = ""
        self._in_row = self._fresh = True
        self.unmark()

    def end_cell(self) -> None:
        self._fresh = False
        self.unmark()
        self._gap = ""

    def end_row(self) -> None:
        self._fresh, self._in_row, self._cells = False, False, 0
        self.gap("\n")

    def begin_verbatim(self) -> None:
        """Everything as it is from here on; between fences, but not in a table."""
        self.gap("\n\n")
        fenced = not self._in_row
        self._fences.append(fenced)
        if fenced:
            self._mark += FENCE + "\n"

    def end_verbatim(self) -> None:
        fenced = self._fences.pop() if self._fences else False
        if fenced and not self._mark and self._parts:
            self._parts[-1] = self._parts[-1].rstrip()
            self._parts.append("\n" + FENCE)
        self.unmark()
        self.gap("\n\n")

    def verbatim(self, text: str) -> None:
        """Text with its spaces and line ends."""
        if text:
            self._put(text)

    @property
    def ends_in_word(self) -> bool:
        """True if the next piece would follow a letter or digit without a space."""
        return bool(self._parts) and not self._gap and not self._mark and self._parts[-1][-1:].isalnum()

    def _put(self, text: str) -> None:
        if self._parts:
            self._parts.append(self._row_gap if self._in_row and self._row_gap is not None else self._gap)
        if self._in_row:
            self._row_gap = None
        if self._cells:
            self._parts.append(" |" * self._cells + " ")
        self._parts.append(self._mark)
        self._parts.append(text)
        self.size += len(text)
        self._gap = self._mark = ""
        self._cells, self._fresh = 0, False
