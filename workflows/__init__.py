"""Temporal workflows: deterministic, pure, free of I/O."""
