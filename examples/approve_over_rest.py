"""Starts a session by REST, shows what it asks, approves it, and prints the answer.

    conductor dev &
    python examples/approve_over_rest.py

Without CONDUCTOR_API_URL and CONDUCTOR_API_KEY it talks to the `conductor dev` of this directory.
"""

import sys
from pathlib import Path
from typing import Any

import httpx

from conductor_ai.embedded.runtime import read_runtime
from conductor_ai.settings import load

TASK = "What does the shop sell, and at which prices? Use sql_query."


def connect() -> httpx.Client:
    """A client of the server that the settings name, with its key."""
    settings = load()
    if settings.api_url is not None and settings.api_key is not None:
        url, key = settings.api_url, settings.api_key.get_secret_value()
    else:
        runtime = read_runtime(settings.data_dir.absolute())
        if runtime is None:
            sys.exit("No server: start `conductor dev`, or set CONDUCTOR_API_URL and CONDUCTOR_API_KEY.")
        url, key = runtime.api_url, Path(runtime.api_key_file).read_text(encoding="utf-8").strip()
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=70, trust_env=False)


def answer(response: httpx.Response) -> dict[str, Any]:
    """The body; an error ends the program with its sentence."""
    body: dict[str, Any] = response.json()
    if response.is_error:
        sys.exit(f"{body['code']}: {body['detail']}")
    return body


def decide(client: httpx.Client, approval: dict[str, Any]) -> None:
    """Show one call with its consequence, and approve exactly that."""
    print(f"\n{approval['tool']} ({approval['risk']} risk): {approval['summary']}")
    for line in approval["evidence"]:
        print(f"  {line['label']}: {line['value']}")
    decision = {"decision": "approve", "arguments_sha256": approval["arguments_sha256"], "comment": "It only reads."}
    decided = answer(client.post(f"/v1/approvals/{approval['id']}/decision", json=decision))
    print(f"  {decided['status']} by {decided['decisions'][0]['by']}")


def main() -> None:
    """Start, wait, approve, wait, print."""
    with connect() as client:
        body = {"messages": [{"role": "user", "content": TASK}], "model": "demo"}
        session = answer(client.post("/v1/agents/run", json=body))
        url = session["poll_url"]
        print(f"started {session['session_id']}")
        session = answer(client.get(url))
        while session["status"] in ("pending", "running"):
            for approval in session["pending_approvals"]:
                decide(client, approval)
            session = answer(client.get(url, params={"wait": 20, "since_version": session["version"]}))
        print(f"\n{session['status']} after {len(session['steps'])} steps:\n{session['final_answer']}")


if __name__ == "__main__":
    main()
