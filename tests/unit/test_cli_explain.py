"""`conductor sessions explain`: the sentence first, then who has to act, then the facts; nothing steers the terminal."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from conductor_ai.cli.app import app
from conductor_ai.contracts.explain import (
    EngineFacts,
    ExplainFacts,
    PendingActivity,
    QueueFacts,
    StoredFacts,
    WaitingApproval,
)
from conductor_ai.contracts.status import Phase, Status
from conductor_ai.explain import explain
from tests.fixtures_cli import KEY, SESSION, FakeConductor, Reply, serving, session

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
PATH = f"/v1/agents/{SESSION}/explain"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` and no data directory of the checkout has a say here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeConductor]:
    """A server with one running session."""
    with serving(FakeConductor(session(1))) as server:
        yield server


def conductor(fake: FakeConductor, *arguments: str) -> Result:
    """Runs the command against the server."""
    env = {"CONDUCTOR_API_URL": fake.url, "CONDUCTOR_API_KEY": KEY}
    return CliRunner().invoke(app, arguments, env=env, catch_exceptions=False)


def explained(engine: EngineFacts, *, degraded: bool = False) -> dict[str, Any]:
    """What the server would answer about a session that waits for a decision about a tool with an odd name."""
    stored = StoredFacts(
        status=Status.RUNNING,
        phase=Phase.AWAITING_APPROVAL,
        created_at=NOW,
        updated_at=NOW,
        approvals=(
            WaitingApproval(id="appr_1", tool="odd\x1b[31m", requested_at=NOW, expires_at=NOW + timedelta(hours=1)),
        ),
        degraded=degraded,
    )
    return explain(SESSION, ExplainFacts(at=NOW, stored=stored, engine=engine)).model_dump(mode="json")


def test_for_people_and_for_programs(fake: FakeConductor) -> None:
    """Sentence, advice, who has to act, and Temporal's facts; `--json` is what the server said."""
    pending = PendingActivity(
        activity="call_model",
        state="started",
        queue="q",
        attempt=3,
        maximum_attempts=6,
        started_at=NOW,
        heartbeat_at=NOW,
    )
    queue = QueueFacts(name="q", kind="activity", pollers=2, last_poll_at=NOW, backlog=7)
    answer = explained(EngineFacts(reachable=True, workflow="running", activities=(pending,), queues=(queue,)))
    fake.replies += [(PATH, Reply(200, answer)), (PATH, Reply(200, answer))]
    shown = conductor(fake, "sessions", "explain", SESSION)
    assert shown.exit_code == 0
    first, *_ = shown.stdout.splitlines()
    assert first.startswith("A person has to decide about odd")
    assert "in 1 h" in first
    assert "\x1b" not in shown.stdout
    for words in (
        "A person has to act.", "Also:\nThe model is being asked", "call_model started, attempt 3; started",
        "queue q (activity): workers 2, last asked", "about 7 waiting",
    ):  # fmt: skip
        assert words in shown.stdout
    assert json.loads(conductor(fake, "sessions", "explain", SESSION, "--json").stdout)["reason"] == "awaiting_approval"


def test_temporal_away_and_a_copy(fake: FakeConductor) -> None:
    """No facts of Temporal are made up, and a copy is called one."""
    fake.replies.append((PATH, Reply(200, explained(EngineFacts(reachable=False), degraded=True))))
    shown = conductor(fake, "sessions", "explain", SESSION).stdout
    assert shown.startswith("Temporal does not answer.")
    assert "this is from a copy and may be old" in shown
    assert "queue " not in shown


def test_show_says_where_to_ask(fake: FakeConductor) -> None:
    """Somebody who looks at a session that has not ended learns of the command."""
    assert f"conductor sessions explain {SESSION}" in conductor(fake, "sessions", "show", SESSION).stdout
