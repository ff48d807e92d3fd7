"""Records the kept histories anew: `python -m tests.replay.record`. Run it only when a change of the workflow is meant.

A history that was recorded by an older version and does not replay any more is a session that would hang in production:
keep the old file beside the new one and use `workflow.patched` until no such session is left.
"""

import asyncio
import re
import tempfile
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.fixtures_servers import migrated_database, postgres_in, temporal_in
from tests.replay.shapes import SHAPES

HISTORIES = Path(__file__).parent / "histories"


async def record(folder: Path) -> None:
    """Write every shape's histories into the folder."""
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        async with postgres_in(Path(scratch)) as postgres, temporal_in(Path(scratch)) as temporal:
            client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
            url = await migrated_database(postgres)
            for shape in SHAPES:
                for name, history in (await shape(client, url)).items():
                    (folder / f"{name}.json").write_text(scrubbed(history.to_json()) + "\n", encoding="utf-8")


def scrubbed(text: str) -> str:
    """Without what belongs to the machine that recorded it: stack traces with paths, host name, process id."""
    text = re.sub(r'("stackTrace": ")(?:[^"\\]|\\.)*"', r'\1"', text)
    return re.sub(r'("identity": ")[^"]*"', r'\1worker@test"', text)


if __name__ == "__main__":
    asyncio.run(record(HISTORIES))
