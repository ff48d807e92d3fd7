"""Where servers that run as another user keep their files."""

import os
import secrets
import shutil
from pathlib import Path

from conductor_ai.embedded.children import Account
from conductor_ai.errors import ConfigurationError

SYSTEM_DIR = Path("/var/lib/conductor")
"""For root whose data directory other users cannot reach, such as one below /root."""

HOME_PREFIX = "conductor-postgres-"
EXECUTE = 0o1


def may_enter(mode: int, owner: int, group: int, account: Account) -> bool:
    """Whether `account` may pass a directory (or run a program) with these permissions. Ignores ACLs."""
    if account.uid == owner:
        return bool(mode >> 6 & EXECUTE)
    if account.gid == group:
        return bool(mode >> 3 & EXECUTE)
    return bool(mode & EXECUTE)


def reachable(path: Path, account: Account) -> bool:
    """Whether `account` may pass every directory above `path`, and `path` itself."""
    resolved = path.resolve()
    for part in (resolved, *resolved.parents):
        status = part.stat()
        if not may_enter(status.st_mode, status.st_uid, status.st_gid, account):
            return False
    return True


def private_dir(path: Path) -> Path:
    """Makes `path` and its parents; as root others may pass (not list), or a server's other user never gets in."""
    path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    return path


def noted(note: Path, parent: Path, prefix: str) -> Path:
    """The directory that a note of ours names.

    A data directory may have come with a copied folder: what it names is made ours, or removed, only if it is a
    directory such as we make, where we make them.

    Raises:
        ConfigurationError: it is not.
    """
    found = Path(note.read_text(encoding="utf-8").strip())
    if found.parent != parent or not found.name.startswith(prefix) or found.is_symlink():
        raise ConfigurationError(
            f"{note} names a directory that Conductor did not make. Remove the file if you trust it."
        )
    return found


def home_for(data_dir: Path, account: Account | None, *, system_dir: Path = SYSTEM_DIR) -> Path:
    """A directory of 0700 that belongs to `account`: `data_dir`/home, or below `system_dir` if it cannot get there.

    The second place has a random name, kept in `data_dir`/home-elsewhere: whoever deletes `data_dir` starts afresh.
    """
    private_dir(data_dir)
    note = data_dir / "home-elsewhere"
    if account is None:
        home = data_dir / "home"
    elif note.exists():
        home = noted(note, system_dir, HOME_PREFIX)
    elif reachable(data_dir, account):
        home = data_dir / "home"
    else:
        try:
            system_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"Postgres does not run as root, the user nobody cannot reach {data_dir}, and {system_dir} cannot be "
                f"made ({error.strerror}). Set CONDUCTOR_DATA_DIR to a directory that other users can pass."
            ) from error
        home = system_dir / f"{HOME_PREFIX}{secrets.token_hex(8)}"
        note.write_text(f"{home}\n", encoding="utf-8")
    home.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(home, account.uid, account.gid)
    home.chmod(0o700)
    return home


def program_for(source: Path, version: str, account: Account | None, *, system_dir: Path = SYSTEM_DIR) -> Path:
    """`source` (a folder with bin, lib and share) or, when `account` cannot reach it, a copy below `system_dir`."""
    if account is None or reachable(source / "bin" / "postgres", account):
        return source
    target = system_dir / f"postgres-{version}"
    if not target.exists():
        system_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        fresh = system_dir / f"copy-{secrets.token_hex(8)}"
        shutil.copytree(source, fresh, ignore=shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a"))
        fresh.chmod(0o755)
        try:
            fresh.rename(target)
        except OSError:  # Another start was quicker; its copy is as good.
            shutil.rmtree(fresh)
            if not target.exists():
                raise
    return target
