"""What an installation allows: ports, hosts, and the one address of the development stack."""

from collections.abc import Iterable
from dataclasses import dataclass

from activities.egress.hosts import canonical_host
from activities.egress.reasons import Refused
from activities.egress.verdict import Verdict, verdict
from conductor_ai.errors import ConfigurationError

MAX_PORT = 65535


def parse_ports(text: str) -> tuple[range, ...]:
    """Ports from a setting such as `80,443,8000-9000`.

    Raises:
        ConfigurationError: a part is no port and no range of ports, or there is none.
    """
    ports = tuple(_ports(part.strip()) for part in text.split(",") if part.strip())
    if not ports:
        raise ConfigurationError("The list of ports for web_fetch is empty. Write for example 80,443,8000-9000.")
    return ports


def _ports(part: str) -> range:
    first, dash, last = part.partition("-")
    numbers = [
        int(word) for word in (first, last if dash else first) if word.isascii() and word.isdigit() and len(word) <= 5
    ]
    if len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1] <= MAX_PORT:
        raise ConfigurationError(f"{part!r} is no port or range of ports. Write for example 80,443,8000-9000.")
    return range(numbers[0], numbers[1] + 1)


def parse_exception(text: str) -> tuple[str, int]:
    """The loopback address and port of `127.0.0.1:8123` or `[::1]:8123`.

    Raises:
        ConfigurationError: it is not a literal loopback address with a port.
    """
    address, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()):
        raise ConfigurationError(f"{text!r} is no address with a port. Write for example 127.0.0.1:8123.")
    return checked_exception((address.removeprefix("[").removesuffix("]"), int(port)))


def checked_exception(exception: tuple[str, int]) -> tuple[str, int]:
    """The exception itself, if it is a literal loopback address and a port.

    Raises:
        ConfigurationError: it is anything else.
    """
    address, port = exception
    if verdict(address) is not Verdict.LOOPBACK or not 1 <= port <= MAX_PORT:
        raise ConfigurationError("The exception for development must be a literal loopback address and a port.")
    return address, port


@dataclass(frozen=True, slots=True)
class HostList:
    """Host names in their canonical form. An entry with a leading dot means every subdomain, not the name itself."""

    exact: frozenset[str]
    suffixes: tuple[str, ...]

    @classmethod
    def of(cls, entries: Iterable[str]) -> "HostList":
        """A list from a setting's entries.

        Raises:
            ConfigurationError: an entry is no host name.
        """
        exact: set[str] = set()
        suffixes: list[str] = []
        for entry in entries:
            try:
                host = canonical_host(entry.removeprefix("."))
            except Refused as refused:
                raise ConfigurationError(
                    f"{entry!r} in a list of hosts for web_fetch is no host. Write for example example.org, or "
                    ".example.org for its subdomains."
                ) from refused
            if entry.startswith("."):
                suffixes.append("." + host)
            else:
                exact.add(host)
        return cls(frozenset(exact), tuple(suffixes))

    def __bool__(self) -> bool:
        return bool(self.exact or self.suffixes)

    def __contains__(self, host: str) -> bool:
        return host in self.exact or host.endswith(self.suffixes)
