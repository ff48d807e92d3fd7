"""What every runner of code promises, for JavaScript: the same as `test_sandbox.py` shows with Python."""

import time
import uuid

import pytest

from activities.sandbox.base import OUTPUT_LIMIT, Language, Sandbox, SandboxOutcome
from tests.fixtures_docker import EVERY_WAY, a_job, processes_with, wait_until

pytestmark = [pytest.mark.parametrize("sandbox", EVERY_WAY, indirect=True), pytest.mark.usefixtures("filled")]


async def ran(sandbox: Sandbox, source: str, timeout: float = 20) -> SandboxOutcome:
    """The outcome of a piece of JavaScript."""
    return await sandbox.run(a_job(source, Language.JAVASCRIPT, timeout))


@pytest.mark.parametrize("code", [0, 3, 137, 255])
async def test_exit_codes_of_node(sandbox: Sandbox, code: int) -> None:
    """The program's own exit code is told."""
    outcome = await ran(sandbox, f"process.exit({code})")
    assert (outcome.exit_code, outcome.timed_out, outcome.oom_killed) == (code, False, False)


@pytest.mark.parametrize(
    "source",
    ["const x = 1;\nnull.field", "const x = 1;\nconst = 2", "const x = 1;\nPromise.reject(new TypeError('no'))"],
)
async def test_errors_of_node_show_their_line(sandbox: Sandbox, source: str) -> None:
    """An exception, an error of syntax and a promise that nobody waits for end the program, with the line."""
    outcome = await ran(sandbox, source)
    assert outcome.exit_code == 1
    assert "main.js:2" in outcome.stderr
    assert "Error" in outcome.stderr


async def test_node_ignores_signals(sandbox: Sandbox) -> None:
    """Handlers for every signal that can be handled do not keep the timeout from coming."""
    source = """
for (const name of Object.keys(require('os').constants.signals)) {
  try { process.on(name, () => {}); } catch {}
}
console.log('ignoring'); setInterval(() => {}, 1000);
"""
    started = time.monotonic()
    outcome = await ran(sandbox, source, timeout=1.5)
    assert (outcome.stdout, outcome.timed_out, outcome.exit_code) == ("ignoring\n", True, None)
    assert time.monotonic() - started < 3.5


async def test_a_flood_of_node_is_capped_in_the_middle(sandbox: Sandbox) -> None:
    """Of 3 MB on each stream the first and the last lines are kept."""
    source = """
const { writeSync } = require('fs');
function all(fd, text) {
  let rest = Buffer.from(text);
  while (rest.length) {
    try { rest = rest.subarray(writeSync(fd, rest)); } catch (e) { if (e.code !== 'EAGAIN') throw e; }
  }
}
for (const fd of [1, 2]) all(fd, 'first\\n' + 'x'.repeat(3e6) + '\\nlast\\n');
"""
    outcome = await ran(sandbox, source)
    assert outcome.exit_code == 0
    for text in (outcome.stdout, outcome.stderr):
        assert text.startswith("first\n")
        assert text.endswith("\nlast\n")
        assert len(text.encode()) <= OUTPUT_LIMIT
    assert outcome.stdout_truncated
    assert outcome.stderr_truncated


async def test_binary_output_of_node_becomes_text(sandbox: Sandbox) -> None:
    """Bytes that are no UTF-8, and NUL, come back as U+FFFD."""
    outcome = await ran(sandbox, "process.stdout.write(Buffer.from([97, 0, 98, 255, 254, 99, 10]))")
    assert outcome.stdout == "a\ufffdb\ufffd\ufffdc\n"


async def test_nul_in_a_source_of_node(sandbox: Sandbox) -> None:
    """A NUL in the code is the program's own error."""
    outcome = await ran(sandbox, "console.log('a');\n\0console.log('b');\n")
    assert (outcome.exit_code, outcome.timed_out) == (1, False)


async def test_a_source_of_one_megabyte_for_node(sandbox: Sandbox) -> None:
    """A long program arrives whole: its last line runs."""
    outcome = await ran(sandbox, ("//" + "x" * 997 + "\n") * 1048 + "console.log('the end')")
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == ("the end\n", "", 0)


async def test_standard_input_of_node_is_empty(sandbox: Sandbox) -> None:
    """A program that reads its input gets the end of it; an empty program ends well."""
    outcome = await ran(sandbox, "console.log(JSON.stringify(require('fs').readFileSync(0, 'utf8')))")
    assert outcome.stdout == '""\n'
    assert (await ran(sandbox, "")).exit_code == 0


async def test_children_of_node_that_survive(sandbox: Sandbox) -> None:
    """A detached child that holds the pipes does not delay the result; a real sandbox ends it."""
    mark = f"4.{uuid.uuid4().int % 10**9:09}"
    source = f"""
const child = require('child_process').spawn('sleep', ['{mark}'], {{ detached: true, stdio: 'inherit' }});
child.on('spawn', () => {{ child.unref(); console.log('parent done'); process.exit(0); }});
"""
    started = time.monotonic()
    outcome = await ran(sandbox, source)
    assert (outcome.stdout, outcome.exit_code) == ("parent done\n", 0)
    assert time.monotonic() - started < 3.5
    seconds = 8 if sandbox.name == "unsafe" else 1
    await wait_until(lambda: processes_with(mark) == [], "the child has ended", seconds)
