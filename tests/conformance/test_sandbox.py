"""What every runner of code promises: the program's output, its end, its limits in time and output."""

import asyncio
import json
import time
import uuid

import pytest

from activities.sandbox.base import OUTPUT_LIMIT, Language, Sandbox
from tests.fixtures_docker import EVERY_WAY, a_job, processes_with, wait_until

pytestmark = [pytest.mark.parametrize("sandbox", EVERY_WAY, indirect=True), pytest.mark.usefixtures("filled")]

JS = Language.JAVASCRIPT


@pytest.mark.parametrize(
    ("language", "source"),
    [
        (Language.PYTHON, "import sys\nprint('out')\nprint('err', file=sys.stderr)"),
        (JS, "console.log('out'); console.error('err')"),
    ],
)
async def test_outputs_are_apart(sandbox: Sandbox, language: Language, source: str) -> None:
    """Standard output and standard error come back as two texts, with exit code 0."""
    outcome = await sandbox.run(a_job(source, language))
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == ("out\n", "err\n", 0)
    flags = (outcome.timed_out, outcome.oom_killed, outcome.stdout_truncated, outcome.stderr_truncated)
    assert not any(flags)
    assert outcome.duration_ms > 0


@pytest.mark.parametrize(
    ("language", "source"),
    [
        (Language.PYTHON, "print('before')\nimport time\ntime.sleep(60)\nprint('after')"),
        (JS, "console.log('before'); setTimeout(() => console.log('after'), 60000)"),
        (JS, "console.log('before'); for (;;) {}"),
    ],
)
async def test_partial_output_survives_a_timeout(sandbox: Sandbox, language: Language, source: str) -> None:
    """What was printed before the time was over is kept, and the end comes at the timeout and not much later."""
    outcome = await sandbox.run(a_job(source, language, timeout=1.5))
    assert (outcome.stdout, outcome.timed_out, outcome.exit_code) == ("before\n", True, None)
    assert 1400 <= outcome.duration_ms < 2500


async def test_ignored_signals_do_not_help(sandbox: Sandbox) -> None:
    """A program that ignores every signal that can be ignored ends at its timeout all the same."""
    source = """
import signal
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
print('ignoring')
while True:
    signal.pause()
"""
    started = time.monotonic()
    outcome = await sandbox.run(a_job(source, timeout=1.5))
    assert (outcome.stdout, outcome.timed_out) == ("ignoring\n", True)
    assert time.monotonic() - started < 3.5


@pytest.mark.parametrize("code", [0, 1, 3, 125, 137, 255])
async def test_exit_codes(sandbox: Sandbox, code: int) -> None:
    """The program's own exit code is told; 137 said by the program itself is neither a kill nor a lack of memory."""
    outcome = await sandbox.run(a_job(f"import sys; sys.exit({code})"))
    assert (outcome.exit_code, outcome.timed_out, outcome.oom_killed) == (code, False, False)


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", 137), ("SIGSEGV", 139), ("SIGTERM", 143)])
async def test_death_by_signal(sandbox: Sandbox, name: str, code: int) -> None:
    """A program that a signal ended has exit code 128 + signal, and what it printed is kept."""
    outcome = await sandbox.run(a_job(f"import os, signal; print('x'); os.kill(os.getpid(), signal.{name})"))
    assert (outcome.stdout, outcome.exit_code, outcome.oom_killed) == ("x\n", code, False)


async def test_errors_show_their_line(sandbox: Sandbox) -> None:
    """A traceback names the line of the code and shows it, so that the model can mend it."""
    outcome = await sandbox.run(a_job("x = 1\nprint(x / 0)"))
    assert outcome.exit_code == 1
    assert "line 2" in outcome.stderr
    assert "print(x / 0)" in outcome.stderr
    assert "ZeroDivisionError" in outcome.stderr


async def test_a_finite_flood_is_capped_in_the_middle(sandbox: Sandbox) -> None:
    """Of 3 MB on each stream the first and the last lines are kept, within 64 KB, and the cut is told."""
    source = """
import sys
for stream in (sys.stdout, sys.stderr):
    stream.write('first\\n' + 'x' * 3_000_000 + '\\nlast\\n')
"""
    outcome = await sandbox.run(a_job(source))
    assert outcome.exit_code == 0
    for text, cut in ((outcome.stdout, outcome.stdout_truncated), (outcome.stderr, outcome.stderr_truncated)):
        assert text.startswith("first\n")
        assert text.endswith("\nlast\n")
        assert "bytes of output were cut out here" in text
        assert len(text.encode()) <= OUTPUT_LIMIT
        assert cut


async def test_an_endless_flood_ends_at_the_timeout(sandbox: Sandbox) -> None:
    """Output without end costs no more than its limit, and neither delays the kill nor hides the time-out."""
    source = "import sys\nwhile True:\n    sys.stdout.write('y' * 65536); sys.stderr.write('z' * 65536)"
    started = time.monotonic()
    outcome = await sandbox.run(a_job(source, timeout=2))
    assert outcome.timed_out
    assert outcome.stdout_truncated
    assert time.monotonic() - started < 4.5


async def test_output_exactly_at_the_limit_is_whole(sandbox: Sandbox) -> None:
    """64 KB are not cut; one byte more is."""
    whole = await sandbox.run(a_job(f"print('x' * {OUTPUT_LIMIT}, end='')"))
    assert (whole.stdout, whole.stdout_truncated) == ("x" * OUTPUT_LIMIT, False)
    more = await sandbox.run(a_job(f"print('x' * {OUTPUT_LIMIT + 1}, end='')"))
    assert more.stdout_truncated


async def test_unicode_both_ways(sandbox: Sandbox) -> None:
    """UTF-8 in the source comes out as it went in."""
    text = "zażółć – 日本語 – 🙂 – \u202eabc"
    outcome = await sandbox.run(a_job(f"print({text!r})\nprint(len({text!r}))"))
    assert outcome.stdout == f"{text}\n{len(text)}\n"
    outcome = await sandbox.run(a_job(f"console.log({json.dumps(text, ensure_ascii=False)})", JS))
    assert outcome.stdout == f"{text}\n"


async def test_binary_output_becomes_text(sandbox: Sandbox) -> None:
    """Bytes that are no UTF-8, and NUL, come back as U+FFFD: the result can always be stored."""
    outcome = await sandbox.run(a_job("import sys; sys.stdout.buffer.write(b'a\\x00b\\xff\\xfec\\n')"))
    assert outcome.stdout == "a\ufffdb\ufffd\ufffdc\n"


async def test_nul_in_the_source(sandbox: Sandbox) -> None:
    """A NUL in the code is the program's own error and nothing else."""
    outcome = await sandbox.run(a_job("print('a')\n\0print('b')\n"))
    assert not outcome.timed_out
    assert outcome.exit_code is not None


async def test_a_source_of_one_megabyte(sandbox: Sandbox) -> None:
    """A long program arrives whole: its last line runs."""
    lines = "#" + "x" * 998 + "\n"
    outcome = await sandbox.run(a_job(lines * 1048 + "print('the end')"))
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == ("the end\n", "", 0)


async def test_an_odd_source_is_not_read_by_a_shell(sandbox: Sandbox) -> None:
    """Quotes, dollars, backslashes and the absence of a line end reach the interpreter as they are."""
    text = """'"$HOME `id` \\n %s ; exit 9 #"""
    outcome = await sandbox.run(a_job(f"print({text!r})"))
    assert (outcome.stdout, outcome.exit_code) == (text + "\n", 0)


async def test_an_empty_program(sandbox: Sandbox) -> None:
    """Nothing in, nothing out."""
    outcome = await sandbox.run(a_job(""))
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == ("", "", 0)


async def test_standard_input_is_empty(sandbox: Sandbox) -> None:
    """A program that asks for input gets the end of it, and does not hang."""
    outcome = await sandbox.run(a_job("import sys; print(repr(sys.stdin.read()))"))
    assert outcome.stdout == "''\n"


async def test_the_code_is_in_no_command_line(sandbox: Sandbox) -> None:
    """Neither the code nor a part of it is an argument of a process, where every user of the machine could read it."""
    mark = f"mark-{uuid.uuid4().hex}"
    run = asyncio.ensure_future(sandbox.run(a_job(f"print('{mark}')\nimport time; time.sleep(1)")))
    seen: list[str] = []
    while not run.done():
        seen += processes_with(mark)
        await asyncio.sleep(0.05)
    assert (await run).stdout == f"{mark}\n"
    assert seen == []


async def test_a_program_that_closes_its_streams(sandbox: Sandbox) -> None:
    """Closing stdout and stderr is not the end of the program: its exit code still counts."""
    outcome = await sandbox.run(a_job("import os, time; os.close(1); os.close(2); time.sleep(0.5); os._exit(7)"))
    assert outcome.exit_code == 7
    assert outcome.duration_ms >= 500


async def test_children_that_survive(sandbox: Sandbox) -> None:
    """A child that left the process group and holds the pipes does not delay the result; a real sandbox ends it."""
    mark = f"mark-{uuid.uuid4().hex}"
    source = f"""
import subprocess, sys
code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(4)'
subprocess.Popen([sys.executable, '-c', code, '{mark}'], start_new_session=True)
print('parent done')
"""
    started = time.monotonic()
    outcome = await sandbox.run(a_job(source))
    assert (outcome.stdout, outcome.exit_code) == ("parent done\n", 0)
    assert time.monotonic() - started < 3.5
    if sandbox.name == "unsafe":
        # Nothing holds it there: it is gone once its own time is over.
        await wait_until(lambda: processes_with(mark) == [], "the child ended by itself", 8)
    else:
        await wait_until(lambda: processes_with(mark) == [], "the child was ended", 1)


async def test_cancel_is_quick_and_leaves_nothing(sandbox: Sandbox) -> None:
    """Cancelled in the middle of a stubborn program: raised within a second, and by then everything is gone."""
    mark = f"mark-{uuid.uuid4().hex}"
    source = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', '{mark}'])
time.sleep(60)
"""
    run = asyncio.ensure_future(sandbox.run(a_job(source, timeout=60)))
    await wait_until(lambda: processes_with(mark) != [], "the program runs")
    started = time.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert time.monotonic() - started < 1
    await wait_until(lambda: processes_with(mark) == [], "its processes are gone", 0.5)


async def test_cancel_of_a_flood(sandbox: Sandbox) -> None:
    """A program that never stops writing is cancelled as quickly as any other."""
    run = asyncio.ensure_future(sandbox.run(a_job("while True: print('y' * 1000)", timeout=60)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(run), 1)
    started = time.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("after", [0, 0.005, 0.02, 0.05, 0.1, 0.2])
async def test_cancel_at_any_moment(sandbox: Sandbox, after: float) -> None:
    """A cancel before, during and after the start is raised within a second, and twice is the same as once."""
    mark = f"mark-{uuid.uuid4().hex}"
    source = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', '{mark}'])"
    run = asyncio.ensure_future(sandbox.run(a_job(source, timeout=60)))
    await asyncio.wait([run], timeout=after)
    started = time.monotonic()
    run.cancel()
    await asyncio.wait([run], timeout=0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert time.monotonic() - started < 1
    await wait_until(lambda: processes_with(mark) == [], "its processes are gone", 0.5)


async def test_runs_do_not_see_each_other(sandbox: Sandbox) -> None:
    """Four at a time: each gets its own output, and no file of another run."""
    source = "import os; print(sorted(os.listdir('.'))); open('mine', 'w').write('{0}'); print('{0}')"
    jobs = [a_job(source.format(number)) for number in range(4)]
    outcomes = await asyncio.gather(*(sandbox.run(job) for job in jobs))
    assert [outcome.stdout for outcome in outcomes] == [f"['main.py']\n{number}\n" for number in range(4)]


async def test_it_describes_itself(sandbox: Sandbox) -> None:
    """The text for `GET /v1/tools` says what is in force, and the plain process says that it is unsafe."""
    said = sandbox.describe()
    assert said.lower().startswith(sandbox.name)
    assert ("without isolation" in said) == (sandbox.name == "unsafe")


async def test_it_is_found_available(sandbox: Sandbox) -> None:
    """The trial run succeeds in both languages here."""
    found = await sandbox.check()
    assert found.available
    assert found.missing == {}
