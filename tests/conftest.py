"""Loads the modules with shared fixtures. A fixture starts its server only when a test asks for it."""

pytest_plugins = [
    "tests.fixtures_servers",
    "tests.fixtures_api",
    "tests.fixtures_sql",
]
