"""The real anthropic SDK in the real worker, against a local fake of the Messages API."""

import json
from collections.abc import AsyncIterator

import pytest

from conductor_ai.testing import Call, Failure, Reply
from conductor_ai.testing.fake_anthropic import FakeAnthropic
from tests.fixtures_dev import Dev, dev_in, reachable_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

MODEL = "claude-sonnet-5-5"
SECRET = "sk-ant-canary-0123456789"


@pytest.fixture(scope="module")
async def claude() -> AsyncIterator[tuple[Dev, FakeAnthropic]]:
    """A stack whose Claude is a fake server."""
    with reachable_folder() as folder:
        async with (
            FakeAnthropic() as fake,
            dev_in(folder / "data", ANTHROPIC_API_KEY=SECRET, ANTHROPIC_BASE_URL=fake.url) as dev,
        ):
            yield dev, fake


async def test_a_hard_day_of_the_api(claude: tuple[Dev, FakeAnthropic]) -> None:
    """Parallel calls, 429 with Retry-After, 529, an overload in mid-stream and a cut call: the session ends well.

    What was cut is not run, what was billed is counted, and the key appears nowhere.
    """
    dev, fake = claude
    code = {"code": "print(6 * 7)", "language": "python"}
    fake.script.add(
        Failure(status=429, type="rate_limit_error", headers={"retry-after": "1"}),
        Reply(
            text="Two things at once.",
            calls=(
                Call(tool="code_run", arguments=code),
                Call(tool="code_run", arguments={**code, "code": "print(1)"}),
            ),
        ),
        Failure(status=529, type="overloaded_error"),
        Reply(text="I begin to answer", error_type="overloaded_error", input_tokens=70),
        Reply(text="Let me", calls=(Call(tool="code_run", arguments={}, cut='{"code": "print('),), stop="max_tokens"),
        Reply(text="It is 42."),
    )
    before = len(fake.received)
    session_id = await dev.run("What is 6 times 7?", model=MODEL)
    session = await dev.ended(session_id, seconds=60)
    assert session["status"] == "completed", session["error"]
    assert session["final_answer"] == "It is 42."
    first, last = session["steps"]
    assert [a["observation"].strip() for a in first["actions"]] == ["42", "1"]
    assert (first["attempts"], last["actions"]) == (2, [])
    assert last["attempts"] == 4, "529, the broken stream, the cut reply and the answer"
    assert session["input_tokens"] == 100 + 70 + 100 + 100
    assert session["total_cost_usd"] > 0
    received = fake.received[before:]
    assert len(received) == 6
    results = [block for block in received[2].json["messages"][-1]["content"] if block["type"] == "tool_result"]
    assert len(results) == 2
    everything = json.dumps(session) + "".join(
        path.read_text(errors="replace") for path in (dev.data_dir / "logs").glob("*.log")
    )
    assert SECRET not in everything


async def test_refusal_and_bad_key(claude: tuple[Dev, FakeAnthropic]) -> None:
    """A refusal and a rejected key end the session at once, each with its own reason."""
    dev, fake = claude
    fake.script.add(Reply(text="I would rather not.", stop="refusal"))
    refused = await dev.ended(await dev.run("Something bad", model=MODEL))
    assert (refused["status"], refused["stop_reason"], refused["error"]["code"]) == (
        "failed",
        "refusal",
        "model_refusal",
    )
    fake.script.add(Failure(status=401, type="authentication_error"))
    before = len(fake.received)
    rejected = await dev.ended(await dev.run("Hello", model=MODEL))
    assert rejected["error"]["code"] == "model_authentication"
    assert len(fake.received) == before + 1


async def test_old_models(claude: tuple[Dev, FakeAnthropic]) -> None:
    """Opus is billed as Opus; a model that is about to retire warns; one that has retired names its replacement."""
    dev, fake = claude
    fake.script.add(
        Reply(text="a", input_tokens=1000, output_tokens=1000), Reply(text="a", input_tokens=1000, output_tokens=1000)
    )
    opus = await dev.ended(await dev.run("x", model="claude-opus-4-5-20251101"))
    sonnet = await dev.ended(await dev.run("x", model=MODEL))
    assert opus["total_cost_usd"] > sonnet["total_cost_usd"]
    assert opus["warnings"]
    body = {"model": "claude-3-opus-20240229", "messages": [{"role": "user", "content": "x"}]}
    retired = await dev.http.post("/v1/agents/run", json=body)
    assert (retired.status_code, retired.json()["code"]) == (422, "model_retired")
    assert "claude-opus-5-5" in retired.json()["detail"]
