"""From a request to a session: which model, which tools, until when."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from api.fallbacks import fallback_models
from api.idempotency import checked
from api.outputs import checked_schema
from api.problems import FieldError, Refused
from api.requests import ApprovalRequest, LimitsRequest, RunRequest, exact
from conductor_ai import catalog
from conductor_ai.contracts.control import Limits
from conductor_ai.contracts.policy import OnExpiry
from conductor_ai.contracts.session import SessionInput
from conductor_ai.errors import Code, Unavailable
from conductor_ai.names import new_id
from conductor_ai.settings import Settings
from conductor_ai.stores.sessions import IdempotencyKey, Message, NewSession
from conductor_ai.stores.tools import PublishedTool
from conductor_ai.text import first_line

ROUTE = "POST /v1/agents/run"


def idempotency_key(header: str | None, body_sha256: str) -> IdempotencyKey | None:
    """The key of a start, if the caller sent one.

    Raises:
        Refused: it is no key.
    """
    key = checked(header)
    return None if key is None else IdempotencyKey(route=ROUTE, key=key, body_sha=body_sha256)


def default_model(settings: Settings) -> str:
    """The model of sessions that name none."""
    return catalog.default_model(settings.anthropic_api_key is not None, settings.default_model)


def chosen_tools(asked: Sequence[str] | None, published: Sequence[PublishedTool]) -> tuple[str, ...]:
    """The session's tools: null means all that are available, an empty list means none.

    Raises:
        Refused: a name is unknown, or of a tool that is not available.
        Unavailable: all were asked for, and no worker has said yet what it has.
    """
    if asked is None:
        if not published:
            raise Unavailable(
                "No worker has published its tools yet, so it is not known which ones this session would get. Start a "
                'worker, or ask for `"tools": []`.',
                code=Code.ENGINE_UNAVAILABLE,
                retry_after=5,
            )
        return tuple(tool.spec.name for tool in published if tool.available)
    known = {tool.spec.name: tool for tool in published}
    errors: list[FieldError] = []
    for index, name in enumerate(asked):
        tool = known.get(name)
        if tool is None:
            errors.append(FieldError(f"/tools/{index}", "There is no such tool. GET /v1/tools lists them."))
        elif not tool.available:
            reason = tool.spec.note or "GET /v1/tools says more."
            errors.append(FieldError(f"/tools/{index}", f"{tool.spec.name} is not available at present. {reason}"))
    if errors:
        raise Refused(
            "The session asks for a tool that this server does not have.", code=Code.UNKNOWN_TOOL, errors=errors
        )
    return tuple(dict.fromkeys(asked))


def new_session(
    request: RunRequest, org_id: str, settings: Settings, published: Sequence[PublishedTool], now: datetime
) -> NewSession:
    """The session that a request asks for, with a random id. The only place where a workflow's input is made.

    Raises:
        InvalidRequest: the model is unknown or retired.
        Refused: the tools or limits cannot be had.
        Unavailable: no worker has published its tools yet.
    """
    if request.max_steps > settings.max_steps_limit:
        message = f"At most {settings.max_steps_limit} steps are allowed (CONDUCTOR_MAX_STEPS_LIMIT)."
        raise Refused(message, code=Code.INVALID_REQUEST, errors=[FieldError("/max_steps", message)])
    today = now.astimezone(UTC).date()
    model = catalog.resolve(request.model or default_model(settings), today)
    limits, asking = request.limits or LimitsRequest(), request.approval or ApprovalRequest()
    seconds = limits.deadline_seconds
    asked = next(message.content for message in request.messages if message.role == "user")
    title = request.title or first_line(asked)
    fallbacks = fallback_models(request.fallback_models, model, today)
    output_schema = checked_schema(request.output_schema)
    return NewSession(
        input=SessionInput(
            session_id=new_id("sess"),
            org_id=org_id,
            model=model.id,
            fallback_models=tuple(fallback.id for fallback in fallbacks),
            tools=chosen_tools(request.tools, published),
            max_steps=request.max_steps,
            deadline_at=None if seconds is None else now + timedelta(seconds=seconds),
            approval_ttl_seconds=asking.expires_in or settings.approval_ttl_seconds,
            on_expiry=OnExpiry(asking.on_expiry),
            ask_every_call=asking.policy == "ask_every_call",
            limits=Limits(max_cost_usd=exact(limits.max_cost_usd), max_total_tokens=limits.max_total_tokens),
            mode=request.mode,
            idle_timeout_seconds=request.idle_timeout_seconds,
            continue_as_new_steps=settings.continue_as_new_steps,
            model_max_attempts=settings.model_max_attempts,
            compact_at=settings.compact_at or None,
            allow_signals=settings.allow_signals,
            title=title,
        ),
        messages=tuple(Message(message.role, message.content) for message in request.messages),
        title=title,
        system_prompt=request.system_prompt or "",
        metadata=None if request.metadata is None else dict(request.metadata),
        warnings=tuple(sentence for each in (model, *fallbacks) for sentence in catalog.warnings(each, today)),
        output_schema=output_schema,
    )
