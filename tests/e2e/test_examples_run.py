"""The examples against `conductor dev`, as the documentation says to start them."""

import asyncio
import sys

import pytest

from infra.docs.source import ROOT
from tests.fixtures_dev import dev_in, environment, reachable_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_the_examples_run() -> None:
    """A session is approved over REST by the example program; the example tool is published, asked, and answers."""
    with reachable_folder() as folder:
        settings = {"PYTHONPATH": str(ROOT / "examples"), "CONDUCTOR_TOOL_MODULES": "business_days"}
        async with dev_in(folder / "data", **settings) as dev:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(ROOT / "examples/approve_over_rest.py"),
                env=environment() | {"CONDUCTOR_DATA_DIR": str(folder / "data")},
                cwd=folder,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said = (await asyncio.wait_for(process.communicate(), 60))[0].decode()
            assert process.returncode == 0, said
            assert "sql_query (low risk): Reads (SELECT): products." in said
            assert "completed after 2 steps" in said

            code, listed = await dev.conductor(
                "run", 'demo: call business_days {"first": "2026-12-21", "last": "2027-01-03"}', "--yes"
            )
            assert code == 0, listed
            assert "10 working days from 2026-12-21 to 2027-01-03." in listed
