"""The tests. A package, so that shared modules have one name for the type checker."""
