"""What an installation sets: ports, host lists, the development exception; wrong settings are told at start."""

import pytest

from activities.egress.client import Egress
from activities.egress.rules import HostList, parse_exception, parse_ports
from conductor_ai.errors import ConfigurationError


def test_ports_and_ranges_are_read() -> None:
    """Proves the form of the setting, blanks and single-port ranges included."""
    assert parse_ports(" 80, 443 ,8000-9000,5-5") == (
        range(80, 81),
        range(443, 444),
        range(8000, 9001),
        range(5, 6),
    )


@pytest.mark.parametrize(
    "text",
    ["", ",", "0", "65536", "80-", "-80", "90-80", "a", "80;443", "8 0", "１", "1-2-3", "1000000", "+80", "80.0"],
)
def test_other_port_lists_are_a_configuration_error(text: str) -> None:
    """Proves that a typing error stops the start instead of opening or closing ports."""
    with pytest.raises(ConfigurationError):
        parse_ports(text)


@pytest.mark.parametrize(
    ("text", "exception"),
    [("127.0.0.1:8123", ("127.0.0.1", 8123)), ("[::1]:1", ("::1", 1)), ("127.9.9.9:65535", ("127.9.9.9", 65535))],
)
def test_the_exception_is_a_loopback_address_and_a_port(text: str, exception: tuple[str, int]) -> None:
    """Proves the form of the one exception."""
    assert parse_exception(text) == exception


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1", "localhost:80", "10.0.0.1:80", "8.8.8.8:80", "127.0.0.1:0", "127.0.0.1:99999", "127.1:80",
     "[::ffff:127.0.0.1]:80", "169.254.169.254:80", "127.0.0.1:x", ":80", "[::1%lo]:80"],
)  # fmt: skip
def test_nothing_but_loopback_can_be_the_exception(text: str) -> None:
    """Proves that the exception cannot be turned into a way to other networks."""
    with pytest.raises(ConfigurationError):
        parse_exception(text)


def test_the_client_checks_its_exception_itself() -> None:
    """Proves that a caller who parses nothing gets no further."""
    with pytest.raises(ConfigurationError):
        Egress(exception=("10.0.0.1", 80))


@pytest.mark.parametrize("entry", ["", ".", "http://a.org", "a b.org", "*.a.org", "127.1", "a.org:80", "a.org/"])
def test_an_entry_that_is_no_host_is_a_configuration_error(entry: str) -> None:
    """Proves that an entry that could never match is told, instead of being a list that does nothing."""
    with pytest.raises(ConfigurationError):
        HostList.of([entry])


def test_addresses_can_stand_in_a_list() -> None:
    """Proves that literal addresses are compared in their canonical form."""
    hosts = HostList.of(["8.8.8.8", "[2A00::0001]"])
    assert "8.8.8.8" in hosts
    assert "2a00::1" in hosts
    assert not HostList.of([])
