"""The fakes as programs: `python -m conductor_ai.testing.fake_…` serves a script file until it is stopped."""

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

REQUEST = {"model": "m", "max_tokens": 5, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("module", "path"), [("fake_anthropic", "/v1/messages"), ("fake_openai", "/v1/chat/completions")]
)
async def test_a_script_file_is_served(module: str, path: str, tmp_path: Path) -> None:
    """The first request gets the first step; the process ends on an interrupt without a traceback."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"kind": "reply", "text": "From a file."}, {"kind": "failure", "status": 429}]))
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", f"conductor_ai.testing.{module}", "--port", str(port), "--script", str(script)),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with httpx.AsyncClient(headers={"x-api-key": "k"}) as client:
            answers: list[httpx.Response] = []
            async with asyncio.timeout(20):
                while len(answers) < 2:
                    try:
                        answers.append(await client.post(f"http://127.0.0.1:{port}{path}", json=REQUEST))
                    except httpx.ConnectError:
                        await asyncio.sleep(0.05)
        assert "From a file" in answers[0].text
        assert answers[1].status_code == 429
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    assert errors == b""


@pytest.mark.parametrize("module", ["fake_anthropic", "fake_openai"])
async def test_a_wrong_script_says_where(module: str, tmp_path: Path) -> None:
    """A typing error in the file is told with its place, before anything is served."""
    script = tmp_path / "script.json"
    script.write_text('[{"kind": "reply", "txet": "x"}]')
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", f"conductor_ai.testing.{module}", "--script", str(script)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode != 0
    assert b"txet" in errors
