"""The comparison of two images (infra/docker/twice.py): what it must not overlook."""

import io
import tarfile
from pathlib import Path

import pytest

from infra.docker.twice import context, differing


def saved(path: Path, **changed: object) -> Path:
    """An image as `docker save` writes it: one layer with one file, and a link to what a layer below would hold."""
    entry = tarfile.TarInfo("opt/file")
    contents = bytes(str(changed.pop("contents", "same")), "ascii")
    entry.size, entry.mtime = len(contents), 1
    for name, value in changed.items():
        setattr(entry, name, value)
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(contents))
        link = tarfile.TarInfo("opt/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/usr/bin/elsewhere"
        archive.addfile(link)
    with tarfile.open(path, mode="w") as archive:
        for name, data in (("a/layer.tar", layer.getvalue()), ("manifest.json", b'[{"Layers": ["a/layer.tar"]}]')):
            part = tarfile.TarInfo(name)
            part.size = len(data)
            archive.addfile(part, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"contents": "else"}, "contents"),
        ({"mode": 0o600}, "mode"),
        ({"uid": 1}, "owner"),
        ({"mtime": 2}, "time"),
        ({"pax_headers": {"SCHILY.xattr.user.x": "1"}}, "attributes"),
    ],
)
def test_every_kind_of_difference_is_named(tmp_path: Path, changed: dict[str, object], what: str) -> None:
    """Contents of the same length, permissions, owner, time and extended attributes; equal images have none."""
    one = saved(tmp_path / "one.tar")
    assert differing(one, saved(tmp_path / "same.tar")) == []
    assert differing(one, saved(tmp_path / "two.tar", **changed)) == [f"layer 0: /opt/file differs in {what}"]


def test_a_file_that_one_has_alone(tmp_path: Path) -> None:
    """It is named from either side."""
    one, two = saved(tmp_path / "one.tar"), saved(tmp_path / "two.tar", name="opt/other")
    assert differing(one, two) == [f"layer 0: /opt/{name} is in one of them alone" for name in ("file", "other")]


def test_the_second_source_has_other_times_and_permissions(tmp_path: Path) -> None:
    """Two contexts hold the same files, those that .dockerignore lets in; otherwise two builds would prove little."""
    folders = tmp_path / "one", tmp_path / "two"
    for number, folder in enumerate(folders):
        context(folder, None, closed=number == 1)
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in folders]
    assert names[0] == names[1]
    assert {"requirements.txt", "infra/docker/Dockerfile", "infra/docker/sbom.py", "api"} <= set(names[0])
    assert not [name for name in names[0] if name.startswith(("tests", ".git"))]
    one, two = (folder / "requirements.txt" for folder in folders)
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_mtime != two.stat().st_mtime
    assert two.stat().st_mode & 0o077 == 0
