"""Small pieces of Markdown."""

from collections.abc import Iterable, Sequence

NOTICE = "<!-- Made by `python -m infra.docs.generate`. Change the code, not this file. -->"


def cell(text: str) -> str:
    """Text that stays inside one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every cell is Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell(item) for item in line)} |" for line in lines)


def page(title: str, *parts: str) -> str:
    """A generated page."""
    return "\n\n".join([f"# {title}", NOTICE, *(part.strip("\n") for part in parts)]) + "\n"
