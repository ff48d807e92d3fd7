"""Which providers, tools and sandbox a worker gets."""

import logging
import os
from typing import Any

from activities.egress.client import Egress
from activities.egress.rules import parse_exception
from activities.providers.base import Factory, Provider
from activities.sandbox.base import Language, Sandbox
from activities.sandbox.off import OffSandbox
from activities.sandbox.select import Unavailable as NoSandbox
from activities.sandbox.select import choose
from activities.sql.target import SqlTarget
from activities.tools.base import Tool
from activities.tools.code_run import CodeRun
from activities.tools.registry import Registry, built_in_modules, discover, named_modules
from activities.tools.sql_query import SqlQuery
from activities.tools.web_fetch import WebFetch
from conductor_ai.embedded.page import page_of_this_stack
from conductor_ai.settings import Settings

log = logging.getLogger(__name__)


def provider_factories(settings: Settings) -> dict[str, Factory]:
    """The providers, each made when it is first needed."""

    def anthropic() -> Provider:
        from activities.providers.anthropic import AnthropicProvider

        key = settings.anthropic_api_key
        return AnthropicProvider(key.get_secret_value() if key else None, settings.anthropic_base_url)

    def openai_compatible() -> Provider:
        from activities.providers.openai_compatible import OpenAICompatibleProvider, key_for

        own, router = settings.openai_api_key, settings.openrouter_api_key
        key = key_for(
            settings.openai_base_url,
            own.get_secret_value() if own else None,
            router.get_secret_value() if router else None,
        )
        return OpenAICompatibleProvider(settings.openai_base_url, key)

    def demo() -> Provider:
        from activities.providers.demo import DemoProvider

        return DemoProvider()

    return {"anthropic": anthropic, "openai_compatible": openai_compatible, "demo": demo}


def _egress(settings: Settings) -> Egress:
    exception: tuple[str, int] | None = None
    if settings.dev_page is not None:
        exception = parse_exception(page_of_this_stack(settings.dev_page, os.getppid()))
        log.warning("web_fetch may ask the demo page at %s: the one exception to the egress check", settings.dev_page)
    return Egress(
        ports=settings.web_ports,
        allow_hosts=settings.web_allow_hosts,
        deny_hosts=settings.web_deny_hosts,
        exception=exception,
    )


def images_of(settings: Settings) -> dict[Language, str]:
    """The image of each language."""
    return {Language.PYTHON: settings.sandbox_image_python, Language.JAVASCRIPT: settings.sandbox_image_node}


async def sandbox_of(settings: Settings, *, serves: bool, ready: int = 0) -> Sandbox:
    """The sandbox of this machine, tried. `ready`: containers of each language to keep ready from now on."""
    if not serves:
        return OffSandbox("Code is run by other workers.")
    chosen = await choose(
        settings.sandbox,
        images=images_of(settings),
        docker_host=settings.docker_host,
        runtime=settings.sandbox_runtime,
        unsafe_subprocess=settings.unsafe_subprocess,
        ready=ready,
    )
    return OffSandbox(chosen.reason) if isinstance(chosen, NoSandbox) else chosen


def sql_target(settings: Settings) -> SqlTarget | None:
    """The database of sql_query, if one is set."""
    if settings.sql_url is None:
        return None
    return SqlTarget(
        settings.sql_url.get_secret_value(),
        settings.sql_role,
        settings.sql_ledger,
        settings.sql_timeout_seconds,
        search_path=settings.sql_search_path,
        row_tolerance=settings.sql_row_tolerance,
    )


def registry_of(settings: Settings, sandbox: Sandbox) -> Registry:
    target = sql_target(settings)
    tools: list[Tool[Any]] = [WebFetch(_egress(settings)), CodeRun(sandbox)]
    if target is not None:
        tools.append(SqlQuery(target))
    tools += discover([*built_in_modules(), *named_modules(settings.tool_modules)])
    return Registry(tools)
