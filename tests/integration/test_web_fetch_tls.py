"""web_fetch over TLS with real certificates: the name is verified, the checked address is dialled."""

import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from activities.egress.messages import Request
from activities.egress.reasons import Failed, Failure
from tests.fixtures_web import PUBLIC, Site, answer, serving, web_with


@dataclass
class Authority:
    """A certificate authority that lives as long as the tests, and a host `example.org` that it vouches for."""

    trusted: ssl.SSLContext
    host: ssl.SSLContext
    asked_for: list[str | None]
    """The names that clients sent (SNI)."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Made by openssl: one self-signed certificate for example.org and one public-looking address."""
    folder: Path = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=example.org", "-addext", f"subjectAltName=DNS:example.org,IP:{PUBLIC}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    trusted = ssl.create_default_context(cafile=str(certificate))
    host = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    host.load_cert_chain(certificate, key)
    asked: list[str | None] = []
    host.sni_callback = lambda _connection, name, _context: asked.append(name)
    return Authority(trusted, host, asked)


@pytest_asyncio.fixture
async def site(authority: Authority) -> AsyncIterator[Site]:
    """A host that speaks TLS."""
    authority.asked_for.clear()
    async with serving(answer(b"secret page"), tls=authority.host) as listening:
        yield listening


async def test_the_original_name_is_verified_at_the_checked_address(authority: Authority, site: Site) -> None:
    """Proves that TLS is for the name of the URL although an address is dialled: SNI, certificate and Host."""
    web = web_with(site, ssl_context=authority.trusted)
    response = await web.egress.send(Request(url="https://example.org/"))
    assert response.body == b"secret page"
    assert authority.asked_for == ["example.org"]
    assert web.dialler.dialled == [(PUBLIC, 443)]
    assert b"\r\nHost: example.org\r\n" in site.requests[0]


async def test_an_address_is_verified_as_an_address(authority: Authority, site: Site) -> None:
    """Proves that https to a literal address needs a certificate for that address."""
    web = web_with(site, ssl_context=authority.trusted)
    assert (await web.egress.send(Request(url=f"https://{PUBLIC}/"))).status == 200


@pytest.mark.parametrize("host", ["other.org", "sub.example.org", "55.66.77.88"])
async def test_a_certificate_for_another_name_is_a_failure(authority: Authority, site: Site, host: str) -> None:
    """Proves that nothing is sent to a host that cannot show the name that was asked for."""
    web = web_with(site, {host: [[PUBLIC]]}, ssl_context=authority.trusted)
    with pytest.raises(Failed) as failed:
        await web.egress.send(Request(url=f"https://{host}/", method="POST", body=b"password"))
    assert (failed.value.reason, failed.value.sent) == (Failure.TLS, False)
    assert site.requests == []


async def test_an_unknown_authority_is_a_failure_whatever_the_environment_says(
    authority: Authority, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Proves that only certifi's roots count by default: SSL_CERT_FILE does not add one."""
    roots = tmp_path / "roots.pem"
    roots.write_text(ssl.DER_cert_to_PEM_cert(authority.trusted.get_ca_certs(binary_form=True)[0]))
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    with pytest.raises(Failed) as failed:
        await web_with(site).egress.send(Request(url="https://example.org/"))
    assert failed.value.reason is Failure.TLS
    assert site.requests == []


async def test_a_host_without_tls_is_a_failure_before_anything_is_sent(authority: Authority) -> None:
    """Proves that https never falls back to plain text."""
    async with serving(answer(b"plain"), greets=True) as plain:
        with pytest.raises(Failed) as failed:
            await web_with(plain, ssl_context=authority.trusted).egress.send(Request(url="https://example.org/"))
    assert not failed.value.sent
    assert plain.requests == []
