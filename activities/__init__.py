"""Temporal activities: everything that touches the outside, each safe to run twice."""
