"""`docs/reference/errors.md`: every stable code, its meaning from the enum, its HTTP status from the API's table."""

from api.problems import STATUSES
from conductor_ai.errors import Code
from infra.docs.markdown import page, table
from infra.docs.source import field_docs


def render() -> str:
    """The page."""
    docs = field_docs("conductor_ai/errors.py", "Code")
    over_http = [
        (f"`{code.value}`", str(STATUSES[code][0]), docs.get(code.name, "")) for code in Code if code in STATUSES
    ]
    of_sessions = [(f"`{code.value}`", docs.get(code.name, "")) for code in Code if code not in STATUSES]
    return page(
        "Error codes",
        "Codes are stable: programs look at them, people read the sentences beside them. No message echoes what was sent, "
        "the text of an exception, or a connection string.",
        "## Responses of the API\n\n"
        "Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) documents, `application/problem+json`, with the "
        "members `type`, `title`, `status`, `detail`, `instance`, `code`, `request_id` and `errors` (a list of "
        "`{pointer, message}`). A 503 carries `Retry-After`.\n\n"
        + table(("code", "status", "meaning"), over_http)
        + "\n\nA body that is no JSON at all is `invalid_request` with status 400.",
        "## Failures of sessions and commands\n\n"
        "A session that failed has one of these, or `internal`, in `error.code`, with `message` and `retryable`. "
        "`configuration` ends a command of the command line; `fenced` is seen in Temporal alone.\n\n"
        + table(("code", "meaning"), of_sessions),
        "## Results of tools\n\n"
        "A tool's failure that the model can act on is no error of the session. Its codes are on the pages of the tools: "
        "[web_fetch](web_fetch.md), [code_run](code_run.md), [sql_query](sql_query.md). Conductor itself adds\n\n"
        + table(("code", "meaning"), OBSERVATIONS),
    )


OBSERVATIONS = (
    ("`unknown_tool`", "The model called a tool that the session does not have."),
    ("`invalid_arguments`", "The arguments do not fit the tool's schema; nothing was run."),
    ("`denied`", "A person said no; the comment is part of the message."),
    ("`approval_expired`", "Nobody decided in time."),
    ("`policy_denied`", "The policy refuses the call: nobody is asked."),
    ("`tool_unavailable`", "The tool's infrastructure stayed away through all attempts."),
    ("`not_executed`", "The call was interrupted before it took effect, and it is certain that it never will."),
    ("`outcome_unknown`", "The call was interrupted and nobody can tell whether it took effect."),
    ("`abandoned`", "The session ended before the call had a result."),
)
