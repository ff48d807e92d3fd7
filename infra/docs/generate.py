"""Makes the reference pages and `.env.example` from the code: `python -m infra.docs.generate [--check]`."""

import sys
from collections.abc import Callable, Mapping

from infra.docs import client_page, errors_page, events_page, names_page, routes_page, settings_page, tools_page
from infra.docs.source import ROOT

PAGES: Mapping[str, Callable[[], str]] = {
    ".env.example": settings_page.render_env,
    "docs/reference/settings.md": settings_page.render,
    "docs/reference/routes.md": routes_page.render,
    "docs/reference/client.md": client_page.render,
    "docs/reference/errors.md": errors_page.render,
    "docs/reference/events.md": events_page.render,
    "docs/reference/tools.md": tools_page.render,
    "docs/reference/search-attributes.md": names_page.render,
}


def stale() -> list[str]:
    """The generated files that are not what the code says now."""
    return [
        path
        for path, render in PAGES.items()
        if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != render()
    ]


def main(arguments: list[str]) -> int:
    """Write what is stale; with `--check` only say so and return 1."""
    found = stale()
    for path in found:
        if "--check" in arguments:
            print(f"{path} is stale. Run: python -m infra.docs.generate", file=sys.stderr)
        else:
            (ROOT / path).write_text(PAGES[path](), encoding="utf-8")
            print(f"wrote {path}")
    return 1 if found and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
