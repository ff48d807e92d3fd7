"""What somebody with the source would try: another organisation's sessions by every route, and approving what they have not seen."""

from typing import Any

import pytest

from conductor_ai.names import new_id
from infra.docs.routes_page import operations
from tests.fixtures_api import Api, is_problem


async def test_a_grant_fixes_something(api: Api) -> None:
    """A grant in which every argument may differ would approve whatever a model thinks of: it is refused, and decides nothing."""
    approval = await api.hand.ask(await api.start())
    body = {
        "decision": "approve",
        "arguments_sha256": approval["arguments_sha256"],
        "remember": {"match": "template", "free": ["query"], "scope": "org"},
    }
    url = f"/v1/approvals/{approval['id']}/decision"
    refused = is_problem(await api.post(url, body), 422, "invalid_request")
    assert refused["errors"][0]["pointer"] == "/remember/free"
    assert (await api.get(f"/v1/approvals/{approval['id']}")).json()["status"] == "pending"
    assert (await api.get("/v1/grants")).json()["data"] == []
    body["remember"] = {"match": "template", "free": ["query", "params", "nothing"]}
    is_problem(await api.post(url, body), 422, "invalid_request")


async def _asked_again(api: Api, approval: dict[str, Any]) -> str:
    """As if it had been approved, had met another effect than was shown, and were asked a second time."""
    async with api.deps.database.connection() as connection:
        await connection.execute("UPDATE conductor.approvals SET status = 'approved' WHERE id = $1", approval["id"])
        await connection.execute("UPDATE conductor.tool_calls SET round = 2 WHERE call_id = $1", approval["call_id"])
        again: str = await connection.fetchval(
            "INSERT INTO conductor.approvals (id, call_id, session_id, org_id, args_sha, consequence, rule, expires_at, round, "
            "arguments) SELECT $2, call_id, session_id, org_id, args_sha, jsonb_set(consequence, '{summary}', '\"4,000 rows\"'), "
            "rule, expires_at, 2, arguments FROM conductor.approvals WHERE id = $1 RETURNING id",
            approval["id"],
            new_id("appr"),
        )
    return again


async def test_the_short_form_does_not_approve_an_effect_that_nobody_has_seen(api: Api) -> None:
    """The call is asked again with another effect: who saw the first does not approve the second by its step or its digest."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    again = await _asked_again(api, approval)
    seen: tuple[dict[str, Any], ...] = ({}, {"arguments_sha256": approval["arguments_sha256"]})
    for step_id in ("1", approval["call_id"]):
        for more in seen:
            answer = await api.post(f"/v1/agents/{session_id}/approve/{step_id}", {"approved": True, **more})
            assert again in is_problem(answer, 409, "ambiguous")["detail"]
    shown = (await api.get(f"/v1/approvals/{again}")).json()
    assert (shown["status"], shown["summary"]) == ("pending", "4,000 rows")


async def test_another_organisation_gets_nowhere_with_a_real_id(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every route of the document that names a session, an approval, a call or a grant, by an administrator of another
    organisation, under a key that the owner has used: 404, and nothing is changed, kept or said."""
    monkeypatch.setattr("api.agents_cancel.WAIT_SECONDS", 0.05)
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    stranger = await api.other()
    before = (await api.get(f"/v1/agents/{session_id}")).json()
    ids = {
        "session_id": session_id,
        "approval_id": approval["id"],
        "step_id": approval["call_id"],
        "grant_id": new_id("grant"),
    }
    digest = {"arguments_sha256": approval["arguments_sha256"]}
    bodies: dict[str, dict[str, Any]] = {
        "decision": {"decision": "approve", **digest}, "{step_id}": {"approved": True}, "messages": {"content": "x"},
        "budget": {"max_total_tokens": 1},
    }  # fmt: skip
    tried = 0
    for method, path, _ in operations((await api.get("/openapi.json")).json()):
        if not any(f"{{{name}}}" in path for name in ids):
            continue
        url = path.format(**ids)
        body = None if method in ("GET", "DELETE") else bodies.get(path.rsplit("/", 1)[1], {})
        headers = {**stranger.as_(next(iter(stranger.secrets))), "Idempotency-Key": "theirs"}
        for role in stranger.secrets:
            answer = await api.http.request(method, url, json=body, headers={**headers, **stranger.as_(role)})
            assert answer.status_code in (403, 404), (method, path, role, answer.text)
            assert session_id not in answer.text
        tried += 1
    assert tried >= 8
    batch = {"decisions": [{"approval_id": approval["id"], "decision": "approve", **digest}]}
    [result] = (await stranger.post("/v1/approvals/decisions", batch)).json()["results"]
    assert (result["status"], result["code"], result["approval"]) == (404, "not_found", None)
    for url in (f"/v1/approvals?session_id={session_id}", "/v1/agents", "/v1/grants"):
        assert (await stranger.get(url)).json()["data"] == []
    assert (await api.get(f"/v1/agents/{session_id}")).json() == before
