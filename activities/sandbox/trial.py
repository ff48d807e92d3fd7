"""A trial run in each language: a sandbox counts as available once it has really run something."""

import uuid

from activities.sandbox.base import Check, Language, LanguageUnavailable, Sandbox, SandboxJob
from conductor_ai.errors import ToolUnavailable

TRIAL_SECONDS = 20

_SAYS = "ready"

_SOURCES = {
    Language.PYTHON: f"print({_SAYS!r})",
    Language.JAVASCRIPT: f"console.log({_SAYS!r})",
}


async def try_languages(sandbox: Sandbox) -> Check:
    """Run a line of each language. A sandbox that cannot start at all fails at the first."""
    missing: dict[Language, str] = {}
    for language, source in _SOURCES.items():
        job = SandboxJob(
            language=language,
            source=source,
            timeout_seconds=TRIAL_SECONDS,
            session_id="trial",
            call_id=f"trial-{uuid.uuid4().hex}",
            run_id="trial",
            attempt=1,
        )
        try:
            outcome = await sandbox.run(job)
        except LanguageUnavailable as error:
            missing[language] = error.message
        except ToolUnavailable as error:
            return Check.failed(error.message)
        else:
            if outcome.stdout.strip() != _SAYS or outcome.exit_code != 0:
                missing[language] = (
                    f"A trial run of {language} with {sandbox.name} failed (exit code {outcome.exit_code}"
                    f"{', timed out' if outcome.timed_out else ''}): {_last_line(outcome.stderr)}"
                )
    return Check(missing)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    last = lines[-1].rstrip(".") if lines else "it wrote nothing to stderr"
    return f"{last[:200]}."
