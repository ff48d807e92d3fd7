"""Starts a session by REST, shows what it asks, approves it, and prints the answer.

    conductor dev &
    python examples/approve_over_rest.py

Without CONDUCTOR_API_URL and CONDUCTOR_API_KEY it talks to the `conductor dev` of this directory.
"""

import sys

from conductor_ai.client import ApprovalView, ClientError, Conductor
from conductor_ai.embedded.runtime import read_runtime
from conductor_ai.settings import load

TASK = "What does the shop sell, and at which prices? Use sql_query."


def connect() -> Conductor:
    """A client of the server that the settings name, with its key."""
    settings = load()
    if settings.api_url is not None and settings.api_key is not None:
        return Conductor(settings.api_url, settings.api_key.get_secret_value())
    runtime = read_runtime(settings.data_dir.absolute())
    if runtime is None:
        sys.exit("No server: start `conductor dev`, or set CONDUCTOR_API_URL and CONDUCTOR_API_KEY.")
    return Conductor(runtime.api_url, runtime.api_key_file.read_text(encoding="utf-8").strip())


def decide(client: Conductor, approval: ApprovalView) -> None:
    """Show one call with its consequence, and approve exactly that."""
    print(f"\n{approval.tool} ({approval.risk} risk): {approval.summary}")
    for line in approval.evidence:
        print(f"  {line.label}: {line.value}")
    decided = client.approvals.approve(approval, comment="It only reads.")
    print(f"  {decided.status} by {decided.decisions[0].by}")


def main() -> None:
    """Start, wait, approve, wait, print."""
    with connect() as client:
        started = client.sessions.run(TASK, model="demo")
        print(f"started {started.session_id}")
        session = client.sessions.wait(started.session_id, timeout=120)
        while not session.status.ended:
            for approval in session.pending_approvals:
                decide(client, approval)
            session = client.sessions.wait(started.session_id, timeout=120)
        print(f"\n{session.status} after {len(session.steps)} steps:\n{session.final_answer}")


if __name__ == "__main__":
    try:
        main()
    except ClientError as error:
        sys.exit(str(error))
