"""Undoing compression: whatever comes in, in whatever pieces, no more comes out than there is room for."""

import gzip
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.egress.unpack import unpacker


def unpacked(coding: str, wire: bytes, *, room: int = 1_000_000, piece: int = 1_000_000) -> bytes:
    """Feed the bytes in pieces, as the network would."""
    unpack = unpacker([coding])
    assert unpack is not None
    out = bytearray()
    for start in range(0, len(wire), piece):
        out += unpack.feed(wire[start : start + piece], room - len(out))
    return bytes(out)


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50), st.sampled_from(["gzip", "deflate", "raw", "identity"]))
def test_any_body_comes_out_as_it_went_in_however_it_is_cut(body: bytes, piece: int, packed: str) -> None:
    """Proves that pieces of any size, from one byte, give the same body in every coding."""
    raw = zlib.compressobj(wbits=-15)
    wire = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw": raw.compress(body) + raw.flush(),
        "identity": body,
    }[packed]
    coding = "deflate" if packed == "raw" else packed
    if packed == "raw":
        # The first piece must hold enough for the missing header to be noticed, as network reads do.
        piece = max(piece, 2)
    assert unpacked(coding, wire, piece=piece) == body


@pytest.mark.parametrize("piece", [1, 7, 1_000_000])
def test_members_of_gzip_follow_each_other(piece: int) -> None:
    """Proves that a body of several gzip members is read whole, and that zero padding after them is no damage."""
    wire = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two") + b"\0" * 9
    assert unpacked("gzip", wire, piece=piece) == b"one two"


def test_a_bomb_never_takes_more_memory_than_there_is_room() -> None:
    """Proves that 200 MB in one piece from the wire are not made and then cut, but never made."""
    bomb = gzip.compress(b"\0" * 200_000_000)
    unpack = unpacker(["gzip"])
    assert unpack is not None
    tracemalloc.start()
    try:
        assert len(unpack.feed(bomb, 50_001)) == 50_001
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(bomb) + 1_000_000
    assert len(bomb) < 1_000_000


@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate"])
def test_no_room_gives_nothing(coding: str) -> None:
    """Proves that a full buffer stays full."""
    wire = {"identity": b"abc", "gzip": gzip.compress(b"abc"), "deflate": zlib.compress(b"abc")}[coding]
    assert unpacked(coding, wire, room=0) == b""


@pytest.mark.parametrize(("coding", "wire"), [("gzip", b"plain text"), ("deflate", b"\xff\xff\xff\xff")])
def test_damaged_data_is_told(coding: str, wire: bytes) -> None:
    """Proves that what is not in its encoding gives nothing, and is told from an empty body."""
    unpack = unpacker([coding])
    assert unpack is not None
    assert unpack.feed(wire, 100) == b""
    assert unpack.damaged


def test_sound_data_before_damage_is_kept() -> None:
    """Proves that a body that is damaged in its middle is read up to about there."""
    body = random.Random(7).randbytes(20_000)
    wire = bytearray(zlib.compress(body))
    wire[10_000:10_050] = b"\xff" * 50
    unpack = unpacker(["deflate"])
    assert unpack is not None
    out = unpack.feed(bytes(wire[:-4]), 100_000)
    assert out[:8_000] == body[:8_000]


def test_junk_behind_the_last_member_is_no_damage() -> None:
    """Proves that what browsers overlook is overlooked."""
    unpack = unpacker(["gzip"])
    assert unpack is not None
    assert unpack.feed(gzip.compress(b"x") + b"junk", 100) + unpack.feed(b"more junk", 100) == b"x"
    assert not unpack.damaged
    assert not unpack.unfinished


@pytest.mark.parametrize(
    ("codings", "known"),
    [([], True), ([""], True), ([" GZIP "], True), (["x-gzip"], True), (["gzip", "gzip"], False), (["br"], False)],
)
def test_only_what_was_asked_for_is_unpacked(codings: list[str], known: bool) -> None:
    """Proves which codings there are, and that two at once are none."""
    assert (unpacker(codings) is not None) == known
