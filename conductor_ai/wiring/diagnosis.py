"""What `conductor doctor` looks at."""

from activities.sandbox.off import OffSandbox
from activities.sql.setup import check as check_sql
from conductor_ai.doctor import Check, effective, examine
from conductor_ai.settings import Settings
from conductor_ai.wiring.parts import sandbox_of, sql_target


async def diagnose(settings: Settings) -> list[Check]:
    """What `conductor doctor` shows: every dependency, what is wrong with it and what to do."""
    settings = effective(settings)
    return await examine(
        settings, [("code_run", lambda: _look_at_sandbox(settings)), ("sql_query", lambda: _look_at_sql(settings))]
    )


async def _look_at_sandbox(settings: Settings) -> list[Check]:
    sandbox = await sandbox_of(settings, serves=True)
    try:
        if isinstance(sandbox, OffSandbox):
            return [Check("code_run", ok=False, detail=sandbox.describe(), advice="The other tools work without it.")]
        found = await sandbox.check()
        return [Check("code_run", ok=True, detail=sandbox.describe(), advice=found.reason)]
    finally:
        await sandbox.close()


async def _look_at_sql(settings: Settings) -> list[Check]:
    target = sql_target(settings)
    if target is None:
        advice = (
            "Set CONDUCTOR_SQL_URL to a database and a login of its own, or leave it: the tool is then not offered."
        )
        return [Check("sql_query", ok=True, detail="No database is set for sql_query.", advice=advice)]
    try:
        problems = await check_sql(target)
    finally:
        await target.close()
    if not problems:
        return [
            Check("sql_query", ok=True, detail="The database answers; login, role and ledger are as they should be.")
        ]
    return [Check("sql_query", ok=False, detail=problem) for problem in problems]
