"""How Temporal is reached: by settings alone, for a server of one's own, Temporal Cloud, and profiles; and where metrics go."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.service import TLSConfig

from conductor_ai.errors import ConfigurationError
from conductor_ai.settings import load
from conductor_ai.temporal import connect_config

VARIABLES = (
    "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_PROFILE", "TEMPORAL_TLS", "TEMPORAL_CONFIG_FILE",
    "OTEL_EXPORTER_OTLP_ENDPOINT", "CONDUCTOR_SECRETS_DIR",
)  # fmt: skip
REPORTING = """
import asyncio, sys
from conductor_ai.settings import Settings
from conductor_ai.temporal import connect
async def main():
    address, endpoint = sys.argv[1:]
    client = await connect(Settings.model_validate({"temporal_address": address, "otlp_endpoint": endpoint}))
    await client.count_workflows()
    await asyncio.sleep(60)
asyncio.run(main())
"""
"""A process that talks to Temporal, and goes on until it is killed."""
PROFILE = """
[profile.cloud]
address = "somewhere.example:7233"
namespace = "team.a1b2c"
api_key = "key-of-the-profile"
"""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without any of Temporal's variables, in a folder without .env."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def given(**more: Any) -> dict[str, Any]:
    """What the client would get."""
    return {"target_host": "127.0.0.1:7233", "namespace": "default"} | more


def test_nothing_set(environment: pytest.MonkeyPatch) -> None:
    """The server of this machine, in clear."""
    assert connect_config(load()) == given()


def test_temporal_cloud_by_three_variables(environment: pytest.MonkeyPatch) -> None:
    """Address, namespace and key; the key turns TLS on."""
    environment.setenv("TEMPORAL_ADDRESS", "team.a1b2c.example:7233")
    environment.setenv("TEMPORAL_NAMESPACE", "team.a1b2c")
    environment.setenv("TEMPORAL_API_KEY", "a-key")
    wanted = given(target_host="team.a1b2c.example:7233", namespace="team.a1b2c", api_key="a-key", tls=True)
    assert connect_config(load()) == wanted


def test_the_key_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Kubernetes mounts it: the key is in no variable."""
    (tmp_path / "TEMPORAL_API_KEY").write_text("from-a-file\n", encoding="utf-8")
    environment.setenv("CONDUCTOR_SECRETS_DIR", str(tmp_path))
    assert connect_config(load()) == given(api_key="from-a-file", tls=True)


def test_a_profile_is_not_overruled_by_defaults(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Address and namespace of the profile count unless they were given; what was given wins."""
    (tmp_path / "temporal.toml").write_text(PROFILE, encoding="utf-8")
    environment.setenv("TEMPORAL_PROFILE", "cloud")
    found = connect_config(load())
    assert found == given(
        target_host="somewhere.example:7233", namespace="team.a1b2c", api_key="key-of-the-profile", tls=True
    )
    environment.setenv("TEMPORAL_NAMESPACE", "other")
    assert connect_config(load())["namespace"] == "other"
    assert connect_config(load())["target_host"] == "somewhere.example:7233"


def test_certificates(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Mutual TLS for a server of one's own: certificate and key by path, read when the client is made."""
    for name in ("cert", "key"):
        (tmp_path / name).write_text(f"the {name}", encoding="utf-8")
        environment.setenv(f"TEMPORAL_TLS_CLIENT_{name.upper()}_PATH", str(tmp_path / name))
    tls = connect_config(load())["tls"]
    assert isinstance(tls, TLSConfig)
    assert (tls.client_cert, tls.client_private_key) == (b"the cert", b"the key")


@pytest.mark.parametrize(
    ("name", "value"), [("TEMPORAL_PROFILE", "missing"), ("TEMPORAL_TLS_CLIENT_CERT_PATH", "/nowhere/cert.pem")]
)
def test_a_configuration_that_cannot_be_read(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A sentence at the start, not a traceback."""
    environment.setenv(name, value)
    with pytest.raises(ConfigurationError, match="Temporal's own configuration"):
        connect_config(load())


async def test_metrics_reach_a_collector(temporal: Client) -> None:
    """The SDK sends its metrics as OTLP over HTTP to the place that the standard variable names."""
    seen = asyncio.get_running_loop().create_future()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(next(line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-length")))
        body = await reader.readexactly(size)
        if not seen.done():
            seen.set_result((head.split("\r\n")[0], body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    collector = await asyncio.start_server(collect, "127.0.0.1", 0)
    async with collector:
        port = collector.sockets[0].getsockname()[1]
        # In a process of its own: the exporter ends with its process, and not before.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", REPORTING, temporal.service_client.config.target_host, f"http://127.0.0.1:{port}"
        )
        try:
            line, body = await asyncio.wait_for(seen, 40)
        finally:
            process.kill()
            await process.wait()
    assert line.startswith("POST /v1/metrics ")
    assert b"temporal_request" in body
