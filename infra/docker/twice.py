"""Builds Conductor's image twice and compares the two: their layers, with every time in them, and how they start.

    python -m infra.docker.twice [--cached] [--wheels FOLDER] [options of docker build …]

The two builds have nothing in common but the source: other folders, other times of the files, another umask. --cached: the
first one may be what the engine still has of an earlier build; the second one never is. --wheels: see the Dockerfile.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TAGS = ("conductor-twice:first", "conductor-twice:second")


def docker(*arguments: str) -> str:
    """What Docker's program says."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode:
        raise SystemExit(f"docker {arguments[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def context(folder: Path, wheels: Path | None, *, closed: bool) -> None:
    """What the Dockerfile copies, as it is here, or as a checkout with umask 077 at another time would have it."""
    wanted = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    for name in [".dockerignore", "infra/docker/Dockerfile", *wanted]:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy2(source, target)
    if wheels:
        shutil.copytree(wheels, folder / "wheels", dirs_exist_ok=True)
    if closed:
        for path in folder.rglob("*"):
            path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (10**9, 10**9))


@contextmanager
def built_twice(wheels: Path | None, options: list[str], *, cached: bool) -> Iterator[tuple[str, str]]:
    """The tags of two builds. Afterwards nothing is left that they made."""
    # Nothing but what was made here may be removed, and the program names, among what it made, what it began with.
    before = set(docker("images", "--all", "--quiet").split())
    made: list[str] = []
    try:
        for number, tag in enumerate(TAGS):
            again = [] if cached and number == 0 else ["--no-cache"]
            with tempfile.TemporaryDirectory(prefix=f"conductor-build-{number}-") as name:
                folder = Path(name, *["elsewhere"] * number)
                context(folder, wheels, closed=number == 1)
                dockerfile = str(folder / "infra/docker/Dockerfile")
                said = docker("build", *again, *options, "--tag", tag, "--file", dockerfile, str(folder))
            made += [
                found for found in re.findall(r"^ ---> ([0-9a-f]{12})$", said, re.MULTILINE) if found not in before
            ]
        yield TAGS
    finally:
        remove(*TAGS)
        # What has a tag by now is also somebody else's, who builds the same beside this.
        remove(*[image for image in reversed(made) if said_of(image, "{{len .RepoTags}}") == "0"])


def said_of(image: str, template: str) -> str:
    """What the engine says of an image, or nothing if it is gone."""
    command = ["docker", "image", "inspect", "--format", template, image]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def remove(*images: str) -> None:
    """Remove these images, except what other ones are built upon, and those that are gone already."""
    for image in images:
        subprocess.run(["docker", "rmi", image], capture_output=True, check=False)  # noqa: S607


def inspected(image: str) -> dict[str, Any]:
    """What the engine knows of an image, without its number, its time and those of the build's containers."""
    known = json.loads(docker("image", "inspect", image))[0]
    config = {key: value for key, value in known["Config"].items() if key not in ("Hostname", "Image")}
    return {"config": config, "layers": known["RootFS"]["Layers"], "platform": (known["Os"], known["Architecture"])}


def layers(saved: Path) -> list[dict[str, dict[str, Any]]]:
    """Every entry of every layer of an image that was saved."""
    found = []
    with tarfile.open(saved) as archive:
        (manifest,) = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        for name in manifest["Layers"]:
            entries = {}
            with tarfile.open(fileobj=archive.extractfile(name), mode="r") as layer:
                for entry in layer:
                    data = layer.extractfile(entry) if entry.isreg() else None
                    entries[entry.name] = {
                        "kind": entry.type,
                        "mode": oct(entry.mode),
                        "owner": (entry.uid, entry.gid),
                        "link": entry.linkname,
                        "time": entry.mtime,
                        "attributes": {key: value for key, value in entry.pax_headers.items() if key != "mtime"},
                        "contents": hashlib.file_digest(data, "sha256").hexdigest() if data else "",  # type: ignore[arg-type]
                    }
            found.append(entries)
    return found


def differing(one: Path, two: Path) -> list[str]:
    """Where two saved images differ, and in what."""
    found, (first, second) = [], (layers(one), layers(two))
    if len(first) != len(second):
        return [f"{len(first)} layers and {len(second)}"]
    for number, (left, right) in enumerate(zip(first, second, strict=True)):
        for name in sorted(left.keys() | right.keys()):
            if name not in left or name not in right:
                found.append(f"layer {number}: /{name} is in one of them alone")
            elif what := [key for key in left[name] if left[name][key] != right[name][key]]:
                found.append(f"layer {number}: /{name} differs in {', '.join(what)}")
    return found


def differences(one: str, two: str) -> list[str]:
    """What two images differ in. Layers with the same digest are the same to the last bit; others are looked into."""
    first, second = inspected(one), inspected(two)
    found = [f"{key}: {first[key]} and {second[key]}" for key in ("config", "platform") if first[key] != second[key]]
    if first["layers"] != second["layers"]:
        with tempfile.TemporaryDirectory(prefix="conductor-saved-") as name:
            saved = (Path(name, "first.tar"), Path(name, "second.tar"))
            for image, path in zip((one, two), saved, strict=True):
                docker("save", "--output", str(path), image)
            found += differing(*saved) or ["digests of layers, but no entry: the order of the entries, perhaps"]
    return found


def main() -> int:
    """Build, compare, say what differs. 1 where something does."""
    parser = argparse.ArgumentParser(usage=(__doc__ or "").split("\n")[2].strip(), allow_abbrev=False)
    parser.add_argument("--cached", action="store_true")
    parser.add_argument("--wheels", type=Path)
    known, options = parser.parse_known_args()
    with built_twice(known.wheels, options, cached=known.cached) as tags:
        found, digests = differences(*tags), inspected(tags[0])["layers"]
    if found:
        print(f"{len(found)} differences", *found[:50], sep="\n")
        return 1
    print("Equal, with every time in them:", *digests, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
