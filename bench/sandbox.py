"""Time from a call of code to its result: Docker cold, Docker with containers kept ready, bubblewrap. `python -m bench.sandbox`."""

import argparse
import asyncio
import statistics
import time
import uuid

from activities.sandbox.base import Language, Sandbox, SandboxJob
from activities.sandbox.bubblewrap import BubblewrapSandbox
from activities.sandbox.docker import DockerSandbox
from conductor_ai.settings import load
from conductor_ai.wiring.parts import images_of

SOURCES = {Language.PYTHON: "print(1)", Language.JAVASCRIPT: "console.log(1)"}
READY = 2


def job(language: Language) -> SandboxJob:
    """The shortest program."""
    return SandboxJob(
        language=language,
        source=SOURCES[language],
        timeout_seconds=30,
        session_id="bench",
        call_id=f"bench-{uuid.uuid4().hex}",
        run_id="bench",
        attempt=1,
    )


async def filled(sandbox: Sandbox) -> None:
    """Wait until what the sandbox keeps ready is there: this measures a call that finds it so."""
    pool = sandbox._pool if isinstance(sandbox, DockerSandbox) else None  # noqa: SLF001 - nobody else needs to know
    while pool is not None and not pool.full:
        await asyncio.sleep(0.05)


async def one(sandbox: Sandbox, language: Language) -> float:
    """Milliseconds of one call, from the job to the result with everything removed."""
    await filled(sandbox)
    before = time.perf_counter()
    outcome = await sandbox.run(job(language))
    assert outcome.stdout == "1\n", outcome
    return (time.perf_counter() - before) * 1000


async def main(rounds: int) -> None:
    """All sandboxes that work here, in turn, so that what else the machine does meets all of them."""
    settings = load()
    cold, warm = (DockerSandbox(images_of(settings), base_url=settings.docker_host) for _ in range(2))
    contenders: dict[str, Sandbox] = {}
    if (await cold.check()).available:
        await warm.check()
        warm.keep_ready(READY)
        contenders |= {"Docker, cold": cold, f"Docker, {READY} kept ready": warm}
    bubblewrap = BubblewrapSandbox()
    if (await bubblewrap.check()).available:
        contenders["bubblewrap"] = bubblewrap
    missing = {name: (await sandbox.check()).missing for name, sandbox in contenders.items()}
    taken: dict[tuple[str, Language], list[float]] = {
        (name, language): [] for name in contenders for language in Language if language not in missing[name]
    }
    for _ in range(rounds):
        for (name, language), found in taken.items():
            found.append(await one(contenders[name], language))
    print(f"| sandbox | language | median of {rounds} | fastest | slowest |\n|---|---|---|---|---|")
    for (name, language), found in taken.items():
        middle, least, most = statistics.median(found), min(found), max(found)
        print(f"| {name} | {language} | {middle:.0f} ms | {least:.0f} ms | {most:.0f} ms |")
    for sandbox in (cold, warm, bubblewrap):
        await sandbox.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    asyncio.run(main(parser.parse_args().rounds))
