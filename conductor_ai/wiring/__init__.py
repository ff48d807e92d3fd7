"""The only package that knows workflows, activities, stores and the API together: it builds the processes."""

from conductor_ai.wiring.dev import run_dev, stack
from conductor_ai.wiring.diagnosis import diagnose
from conductor_ai.wiring.sandboxes import check_sandbox, prepare_sandbox, reap_sandbox
from conductor_ai.wiring.serving import run_api
from conductor_ai.wiring.store import list_keys, make_key, revoke_key, run_migrations
from conductor_ai.wiring.worker import WorkerParts, run_worker, worker_parts, workers

__all__ = [
    "WorkerParts",
    "check_sandbox",
    "diagnose",
    "list_keys",
    "make_key",
    "prepare_sandbox",
    "reap_sandbox",
    "revoke_key",
    "run_api",
    "run_dev",
    "run_migrations",
    "run_worker",
    "stack",
    "worker_parts",
    "workers",
]
