"""Keeping output within a limit, and taking Docker's frames apart."""

import struct
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from activities.sandbox.base import Language, SandboxJob
from activities.sandbox.docker_stream import Demultiplexer
from activities.sandbox.output import MARKER_ROOM, Captured
from activities.sandbox.program import launcher, transfer

LIMIT = 1024


def captured(chunks: list[bytes]) -> Captured:
    """What a small capture makes of chunks."""
    made = Captured(LIMIT)
    for chunk in chunks:
        made.feed(chunk)
    return made


@given(st.lists(st.binary(max_size=700), max_size=12))
def test_the_limit_holds_for_any_bytes(chunks: list[bytes]) -> None:
    """Whatever comes, the text is storable and within the limit, and says so if something is missing."""
    text, cut = captured(chunks).text()
    assert len(text.encode()) <= LIMIT
    assert "\0" not in text
    assert cut == ("bytes of output were cut out" in text)


@given(st.text(max_size=LIMIT // 4))
def test_short_text_is_whole(text: str) -> None:
    """What fits comes back as it was, but for NUL."""
    assert captured([text.encode()]).text() == (text.replace("\0", "\ufffd"), False)


@given(st.text(alphabet="aé日🙂", min_size=1, max_size=40), st.integers(1, 3 * LIMIT), st.integers(1, 97))
def test_long_text_keeps_both_ends(pattern: str, length: int, size: int) -> None:
    """The beginning and the end are there to the character, torn nowhere, and the count of the cut is exact."""
    text = (pattern * length)[:length]
    raw = text.encode()
    result, cut = captured([raw[i : i + size] for i in range(0, len(raw), size)]).text()
    if not cut:
        assert result == text
        return
    head, _, rest = result.partition("\n[... ")
    count, _, tail = rest.partition(" bytes of output were cut out here ...]\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head.encode()) + int(count) + len(tail.encode()) == len(raw)
    assert min(len(head.encode()), len(tail.encode())) > (LIMIT - MARKER_ROOM) // 2 - 4


def test_memory_stays_bounded() -> None:
    """A flood is not collected."""
    made = Captured(LIMIT)
    for _ in range(1000):
        made.feed(b"x" * 1000)
    assert made.total == 1_000_000
    assert len(made._head) + len(made._tail) <= 4 * LIMIT


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=50)), max_size=20), st.integers(1, 64))
def test_frames_cut_anywhere(frames: list[tuple[int, bytes]], size: int) -> None:
    """However the network cuts the frames, each stream gets its own bytes; other streams are passed over."""
    raw = b"".join(struct.pack(">BxxxL", stream, len(data)) + data for stream, data in frames)
    made = Demultiplexer()
    for i in range(0, len(raw), size):
        made.feed(raw[i : i + size])
    for stream, found in ((1, made.stdout), (2, made.stderr)):
        expected = b"".join(data for number, data in frames if number == stream)
        assert bytes(found._head + found._tail) == expected


def test_the_code_is_in_no_argument() -> None:
    """The launcher's arguments say nothing of a job; hard stop, length and code go by the transfer."""
    argv = launcher(Language.PYTHON, "python3", "/tmp", 660)
    assert argv[-1] == "/tmp/main.py"
    assert "660" in argv
    job = SandboxJob(
        language=Language.PYTHON, source="é\n", timeout_seconds=1.2, session_id="s", call_id="c", run_id="r", attempt=1
    )
    assert transfer(job) == b"7 3\n\xc3\xa9\n"


def test_the_launcher_ends_with_its_stream() -> None:
    """Without a whole job it runs nothing: stdin closed at once, closed in the middle, or open for longer than it waits."""
    argv = launcher(Language.PYTHON, "python3", "/nonexistent", 1)
    for sent in (b"", b"7", b"7 100\nprint(1)"):
        done = subprocess.run(argv, input=sent, capture_output=True, timeout=10, check=False)
        assert (done.returncode, done.stdout) == (125, b""), sent
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as waiting:
        assert waiting.wait(timeout=5) == 125
