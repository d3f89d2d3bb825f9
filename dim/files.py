"""Files that are either whole or not there: written under a temporary name, then renamed. And locks on them."""

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

POLL_SECONDS = 0.2
"""How often a lock that another process holds is asked for."""


@contextlib.contextmanager
def replacing(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file object whose content appears at `path` only if the block ends without an error.

    The temporary file stands in the same folder, so that the rename is atomic.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    # Not mkstemp, whose 0600 would hide results from a group that shares the folder: here the umask decides.
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, content: Any) -> None:
    """Writes `content` as indented JSON, atomically."""
    with replacing(path, "w") as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")


@contextlib.contextmanager
def locked(path: Path, seconds: float) -> Iterator[int | None]:
    """Keeps other processes out of `locked(path)`; `path` itself is not touched, and need not exist.

    Yields the lock's descriptor, or None if another process kept it for so many seconds. Children that the descriptor
    is passed to hold the lock until the last of them is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file that is open for writing: network file systems lock no other, and the file at `path` is replaced.
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor if _acquire(descriptor, seconds) else None
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, seconds: float) -> bool:
    """False if another process keeps the lock; where there are no locks, nobody can be kept out."""
    limit = time.monotonic() + seconds
    while fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > limit:
                return False
            time.sleep(POLL_SECONDS)
        except OSError:  # a file system without locks
            break
    return True


def sha256(path: str | Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
