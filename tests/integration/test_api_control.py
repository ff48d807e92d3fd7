"""Messages, pause, resume, budget, batches, the short form and grants over HTTP, with a workflow that answers as the real one."""

from typing import Any

import httpx
import pytest

from conductor_ai import names
from conductor_ai.contracts.control import ControlAnswer, MessageNotice
from conductor_ai.contracts.session import Fence
from conductor_ai.stores.access import Role
from conductor_ai.stores.model_journal import ModelJournal
from tests.fixtures_api import Api, is_problem


async def test_a_message_is_stored_and_announced(api: Api) -> None:
    """202 with its id; the session shows it as not read yet."""
    session_id = await api.start()
    answer = await api.post(f"/v1/agents/{session_id}/messages", {"content": "And in euros?"})
    assert answer.status_code == 202
    shown = (await api.get(f"/v1/agents/{session_id}")).json()["messages"]
    assert [(m["content"], m["before_step"]) for m in shown][-1] == ("And in euros?", None)
    assert shown[-1]["message_id"] == answer.json()["message_id"]


async def test_a_message_for_an_idle_session_is_refused_by_a_busy_one(api: Api) -> None:
    """409, and nothing of it stays."""
    session_id = await api.start()
    body = {"content": "Hello?", "if_busy": "reject"}
    is_problem(await api.post(f"/v1/agents/{session_id}/messages", body), 409, "session_busy")
    assert len((await api.get(f"/v1/agents/{session_id}")).json()["messages"]) == 1


async def test_a_message_that_was_read_is_not_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model may read it together with a later one before it can be taken back: then it counts, and sending it again would
    have it read twice."""
    session_id = await api.start()
    run_id, told = await api.deps.engine.current_run(session_id), api.deps.engine.control
    assert run_id is not None

    async def read_meanwhile(session_id: str, name: str, notice: MessageNotice, **options: Any) -> ControlAnswer | None:
        answer = await told(session_id, name, notice, **options)
        if name == names.MESSAGE:
            fence = Fence(session_id=session_id, next_call_no=2)
            await ModelJournal(api.hand.journal).read_messages(fence, run_id, 1, (notice.message_id,))
        return answer

    monkeypatch.setattr(api.deps.engine, "control", read_meanwhile)
    answer = await api.post(f"/v1/agents/{session_id}/messages", {"content": "Hello?", "if_busy": "reject"})
    assert answer.status_code == 202, answer.text
    assert (await api.get(f"/v1/agents/{session_id}")).json()["messages"][-1]["content"] == "Hello?"


async def test_what_has_ended_takes_nothing(api: Api) -> None:
    """Messages, pause, resume and budget of a session that has ended: 409, none of them a fault."""
    session_id = await api.start()
    await api.hand.step(session_id, text="Hello.")
    await api.hand.finish(session_id)
    url = f"/v1/agents/{session_id}"
    is_problem(await api.post(f"{url}/messages", {"content": "x"}), 409, "session_ended")
    is_problem(await api.post(f"{url}/pause", {}), 409, "session_ended")
    is_problem(await api.post(f"{url}/resume", {}), 409, "session_ended")
    is_problem(await patch(api, f"{url}/budget", {"max_total_tokens": 5}), 409, "session_ended")


async def patch(api: Api, url: str, body: object, role: Role = Role.ADMIN) -> httpx.Response:
    """A PATCH with a key of that role."""
    return await api.http.request("PATCH", url, json=body, headers=api.as_(role))


@pytest.mark.parametrize("name", ["messages", "pause", "resume", "budget"])
async def test_who_may(api: Api, name: str) -> None:
    """Viewers and approvers may not steer a session."""
    session_id = await api.start()
    method = "PATCH" if name == "budget" else "POST"
    bodies: dict[str, dict[str, object]] = {"budget": {"max_total_tokens": 9}, "messages": {"content": "x"}}
    for role in (Role.VIEWER, Role.APPROVER):
        url = f"/v1/agents/{session_id}/{name}"
        answer = await api.http.request(method, url, json=bodies.get(name, {}), headers=api.as_(role))
        is_problem(answer, 403, "forbidden")


async def test_a_batch_has_a_result_for_each(api: Api) -> None:
    """One is approved, one denied, one has another digest, one never was: each as it would have been alone, in order."""
    first, second, third = [await api.hand.ask(await api.start()) for _ in range(3)]
    never = {"id": "appr_" + "0" * 32, "arguments_sha256": "0" * 64}
    wanted = [
        (first, "approve"),
        (second, "deny"),
        ({**third, "arguments_sha256": "0" * 64}, "approve"),
        (never, "deny"),
    ]
    body = {
        "decisions": [
            {"approval_id": a["id"], "decision": d, "arguments_sha256": a["arguments_sha256"]} for a, d in wanted
        ]
    }
    results = (await api.post("/v1/approvals/decisions", body)).json()["results"]
    assert [(r["status"], r["code"]) for r in results] == [
        (200, None),
        (200, None),
        (412, "digest_mismatch"),
        (404, "not_found"),
    ]
    assert [r["approval"] and r["approval"]["status"] for r in results] == ["approved", "denied", None, None]
    assert (await api.get(f"/v1/approvals/{third['id']}")).json()["status"] == "pending"


async def test_an_edit_and_an_answer_are_decisions(api: Api) -> None:
    """They close the approval as such; the same again is 200, the same kind with another text is 409."""
    for decision, field, one, other in (
        ("edit", "arguments", {"query": "SELECT 2"}, {"query": "SELECT 3"}),
        ("answer", "answer", "42", "43"),
    ):
        approval = await api.hand.ask(await api.start())
        url = f"/v1/approvals/{approval['id']}/decision"
        given = {"decision": decision, "arguments_sha256": approval["arguments_sha256"]}
        first = await api.post(url, {**given, field: one})
        assert (first.status_code, first.json()["status"]) == (200, f"{decision}ed")
        assert (await api.post(url, {**given, field: one})).json() == first.json()
        is_problem(await api.post(url, {**given, field: other}), 409, "already_decided")


async def test_an_edit_must_fit_the_tool(api: Api) -> None:
    """Arguments that the published schema refuses: 422 with pointers, no word of the values, and nothing is decided."""
    approval = await api.hand.ask(await api.start())
    url = f"/v1/approvals/{approval['id']}/decision"
    given = {"decision": "edit", "arguments_sha256": approval["arguments_sha256"]}
    answer = is_problem(await api.post(url, {**given, "arguments": {"query": 5}}), 422, "invalid_request")
    assert [each["pointer"] for each in answer["errors"]] == ["/arguments/query"]
    assert (await api.get(f"/v1/approvals/{approval['id']}")).json()["status"] == "pending"


async def test_the_short_form(api: Api) -> None:
    """`approve/{step}` decides the call of that step; with arguments it edits; a step without a call is a 404."""
    session_id = await api.start()
    approval = await api.hand.ask(session_id)
    url = f"/v1/agents/{session_id}/approve"
    is_problem(await api.post(f"{url}/7", {"approved": True}), 404, "not_found")
    is_problem(await api.post(f"{url}/1", {"approved": False, "modified_args": {}}), 422, "invalid_request")
    wrong = {"approved": True, "arguments_sha256": "0" * 64}
    is_problem(await api.post(f"{url}/1", wrong), 412, "digest_mismatch")
    done = await api.post(f"{url}/{approval['call_id']}", {"approved": True, "modified_args": {"query": "SELECT 2"}})
    assert (done.status_code, done.json()["status"]) == (200, "edited")


async def test_a_grant_is_listed_and_revoked(api: Api) -> None:
    """Made with a decision, seen by this organisation alone, revoked once; again is the same answer."""
    approval = await api.hand.ask(await api.start())
    given = {"decision": "approve", "arguments_sha256": approval["arguments_sha256"], "remember": {"uses": 3}}
    assert (await api.post(f"/v1/approvals/{approval['id']}/decision", given)).is_success
    [grant] = (await api.get("/v1/grants")).json()["data"]
    assert (grant["approval_id"], grant["uses_left"], grant["arguments"]) == (approval["id"], 3, {"query": "SELECT 1"})
    other = await api.other()
    is_problem(await other.get(f"/v1/grants/{grant['id']}"), 404, "not_found")
    url = f"/v1/grants/{grant['id']}"
    is_problem(await other.http.request("DELETE", url, headers=other.as_(Role.ADMIN)), 404, "not_found")
    is_problem(await api.http.request("DELETE", url, headers=api.as_(Role.OPERATOR)), 403, "forbidden")
    revoked = await api.http.request("DELETE", url, headers=api.as_(Role.APPROVER))
    again = await api.http.request("DELETE", url, headers=api.as_(Role.ADMIN))
    assert revoked.json() == again.json()
    assert revoked.json()["revoked_at"] is not None
    assert (await api.get("/v1/grants")).json()["data"] == []
    assert len((await api.get("/v1/grants", params={"live": "false"})).json()["data"]) == 1
