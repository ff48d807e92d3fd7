"""What a statement brought back, and how it is told to the model and to programs."""

import json
from dataclasses import dataclass, field

from activities.sql.shaping import ResultColumn
from conductor_ai.contracts.base import Json
from conductor_ai.contracts.tools import ToolResult

MAX_TOTAL_CHARACTERS = 200_000
"""Of all cells of a result together."""
MAX_CONTENT_BYTES = 32_000
BATCH = 16
"""Rows that are in our memory at once before the cap is looked at."""


@dataclass
class Rows:
    """The rows of one statement, capped."""

    columns: tuple[ResultColumn, ...] = ()
    rows: list[list[Json]] = field(default_factory=list)
    affected: int | None = None
    """Rows that a write touched; None for a read."""
    truncated: bool = False
    cut: tuple[str, ...] = ()
    """What was cut: `rows`, `cells`, `size`."""

    def mark(self, what: str) -> None:
        """Note that something was left out."""
        self.truncated = True
        if what not in self.cut:
            self.cut += (what,)

    def result(self) -> ToolResult:
        """As the answer of a tool."""
        lines = [json.dumps([column.name for column in self.columns], ensure_ascii=False)] if self.columns else []
        size, shown = len(lines[0].encode()) if lines else 0, 0
        for row in self.rows:
            line = json.dumps(row, ensure_ascii=False)
            size += len(line.encode()) + 1
            if size > MAX_CONTENT_BYTES:
                break
            lines.append(line)
            shown += 1
        return ToolResult(
            ok=True,
            content="\n".join([self._summary(shown), *lines]),
            data={
                "columns": [{"name": column.name, "type": column.type_name} for column in self.columns],
                "rows": [*self.rows],
                "row_count": len(self.rows),
                "affected": self.affected,
                "cut": list(self.cut),
            },
            truncated=self.truncated or shown < len(self.rows),
        )

    def _summary(self, shown: int) -> str:
        parts = []
        if self.affected is not None:
            parts.append(f"{self.affected} row{'' if self.affected == 1 else 's'} affected.")
        if self.columns or self.affected is None:
            parts.append(f"{len(self.rows)} row{'' if len(self.rows) == 1 else 's'} returned.")
        if "rows" in self.cut:
            parts.append("There are more: raise max_rows or narrow the query.")
        if "size" in self.cut:
            parts.append("The rest was too large and is left out: select fewer or shorter columns.")
        if "cells" in self.cut:
            parts.append("Cells that end in '… (cut)' were longer.")
        if shown < len(self.rows):
            parts.append(f"Only the first {shown} are in this text.")
        return " ".join(parts)
