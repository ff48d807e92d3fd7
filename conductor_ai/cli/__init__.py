"""The command `conductor`: a thin layer over the REST API and over `conductor_ai.wiring`.

Nothing heavy is imported before a command runs: `conductor --help` answers at once.
"""

from conductor_ai.cli.app import main

__all__ = ["main"]
