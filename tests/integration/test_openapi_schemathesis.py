"""What a machine makes of the OpenAPI document: schemathesis sends what it allows and what it forbids, and follows its links."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from api.reading import Reader
from conductor_ai.stores.access import Role
from infra.docs.source import ROOT
from tests.fixtures_api import Api
from tests.fixtures_socket import listening

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

EXAMPLES = 10
"""For each operation, in each phase."""
SECONDS = 170


async def test_schemathesis_finds_nothing(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All checks and stateful links, against the real server: no request gets an answer that the document does not describe."""
    follow = Reader.follow

    async def follow_briefly(self: Reader, *args: Any, seconds: float, **more: Any) -> Any:
        return await follow(self, *args, seconds=min(seconds, 0.02), **more)

    monkeypatch.setattr(Reader, "follow", follow_briefly)  # nothing here is worth waiting for
    for number in range(3):
        await api.hand.ask(await api.start(tools=[], title=f"Session {number}"))
    async with listening(api) as port:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("schemathesis"),
            f"--config-file={ROOT / 'tests/schemathesis.toml'}",
            "run",
            f"http://127.0.0.1:{port}/openapi.json",
            "--checks=all",
            "--phases=examples,coverage,fuzzing,stateful",
            f"--max-examples={EXAMPLES}",
            f"--header=Authorization: Bearer {api.secrets[Role.ADMIN]}",
            "--continue-on-failure",
            "--no-shrink",
            "--output-sanitize=false",
            "--seed=1",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
    assert process.returncode == 0, said.decode()
