"""Loads the modules with shared fixtures. A fixture starts its server only when a test asks for it."""

pytest_plugins = [
    # First what the others import: pytest rewrites the assertions of a module only before it is imported.
    "tests.fixtures_servers",
    "tests.fixtures_api",
    "tests.fixtures_sql",
    "tests.fixtures_docker",
    "tests.fixtures_dev",
]
