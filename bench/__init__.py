"""Measurements: one command, ratios within one run. See bench/README.md."""
