"""A tool call as the workflow sees it: small, by reference, with what the policy says of it."""

from activities.tools.registry import Registry, preview
from conductor_ai.approvals import Policy, Subject
from conductor_ai.contracts.session import CallRef
from conductor_ai.contracts.status import CallState
from conductor_ai.stores.transcript import StoredCall
from conductor_ai.text import first_line


def call_ref(call: StoredCall, registry: Registry, policy: Policy, subject: Subject) -> CallRef:
    """The reference to a stored call."""
    refused = call.state is CallState.INVALID and call.result is not None and call.result.error is not None
    return CallRef(
        call_id=call.call_id,
        tool=first_line(call.tool, 64),
        arguments_sha256=call.args_sha,
        error=call.result.error.code if refused and call.result and call.result.error else None,
        facts=call.facts,
        queue=registry.queue(call.tool),
        timeout_seconds=registry.timeout_seconds(call.tool, call.arguments),
        preview=preview(call.arguments),
        ruling=policy.rule(subject),
        round=call.round,
        state=call.state if call.state.settled else None,
    )
