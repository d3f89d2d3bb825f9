"""JSON files of results that belong to settings: continued where those are equal, never mixed where they differ."""

import contextlib
import csv
import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dim.errors import UserError
from dim.files import replacing, write_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class IdentifiedFile:
    """A JSON file whose parts belong to an identity; written whole at each `write`.

    A file NAME.json of another identity is kept as NAME.1.json, NAME.2.json ..., and comes back when its identity is
    asked for again. Two processes may add to the same file at once: each keeps what the other has added.

    Args:
        identity: what the results belong to.
        parts: name -> value of what is taken over from an existing file of the same identity.
        about: what else the file should say; never taken over.

    Attributes:
        content: what is written.
        kind: what messages call the file.

    Raises:
        UserError: if the file at `path` is something else.
    """

    VERSION = 1
    kind = "results file"

    def __init__(
        self, path: Path, identity: Mapping[str, Any], parts: Mapping[str, Any], about: Mapping[str, Any] | None = None
    ) -> None:
        self.path = path
        self._parts = list(parts)
        self.content: dict[str, Any] = {
            "schema_version": self.VERSION,
            "identity": json.loads(json.dumps(identity)),
            **(about or {}),
            **parts,
        }
        existing = self._read(path)
        if existing is None or existing["identity"] != self.content["identity"]:
            existing = self._bring_back()
        if existing is not None:
            self.take_over(existing)

    def take_over(self, existing: Mapping[str, Any]) -> None:
        """Adds to the parts what those of a file of the same identity have more."""
        for part in self._parts:
            self.content[part] = _merged(existing[part], self.content[part])

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["schema_version"] != self.VERSION:
                raise UserError(f"{path} has schema {content['schema_version']}: choose another --output")
            if missing := [name for name in ("identity", *self._parts) if name not in content]:
                raise KeyError(missing[0])
            return content
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no {self.kind}: move it away or choose another --output") from error

    def _bring_back(self) -> dict[str, Any] | None:
        """The file of this identity that was put aside, back in its place; None if there is none."""
        for aside in self._put_aside_before():
            with contextlib.suppress(UserError):
                content = self._read(aside)
                if content is not None and content["identity"] == self.content["identity"]:
                    self._put_aside()
                    aside.rename(self.path)
                    return content
        return None

    def _put_aside_before(self) -> list[Path]:
        others = self.path.parent.glob(f"{glob.escape(self.path.stem)}.*{glob.escape(self.path.suffix)}")
        return sorted(path for path in others if path.stem.rpartition(".")[2].isdigit())

    def _put_aside(self) -> None:
        """Moves what is at `path` to the first free number."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")).exists():
            number += 1
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(aside)

    def write(self) -> None:
        """Writes the content, atomically, with what another process wrote meanwhile."""
        with _one_at_a_time(self.path.parent):
            try:
                existing = self._read(self.path)
                if existing is not None and existing["identity"] == self.content["identity"]:
                    self.take_over(existing)
                elif existing is not None:
                    self._put_aside()
            except UserError:  # damaged since: what was found in hours must not be lost over it
                self._put_aside()
            write_json(self.path, self.content)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Waits until no other process is in this block for the same folder, where the file system knows locks."""
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _merged(theirs: Any, ours: Any) -> Any:
    """Both, key by key; ours where they differ."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return ours
    return {**theirs, **{name: _merged(theirs.get(name), value) for name, value in ours.items()}}


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows under the union of their keys, in the order in which they appear, atomically."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path, "w") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
