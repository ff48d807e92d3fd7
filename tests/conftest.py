"""Loads the modules with shared fixtures. A fixture starts its server only when a test asks for it."""

import os

import pytest

pytest_plugins = [
    # First what the others import: pytest rewrites the assertions of a module only before it is imported.
    "tests.fixtures_servers",
    "tests.fixtures_api",
    "tests.fixtures_pooler",
    "tests.fixtures_sql",
    "tests.fixtures_docker",
    "tests.fixtures_dev",
]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """CI lets nothing be skipped: what a developer's machine may lack, CI has installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    in_ci = os.environ.get("CI") == "true"  # noqa: TID251 - CI tells itself by this variable, it is no setting of ours
    if in_ci and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
