"""JSON files of results that belong to settings: continued where those are equal, never mixed where they differ."""

import contextlib
import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dim.errors import UserError
from dim.files import locked, replacing, write_json

LOCK_SECONDS = 600.0
"""How long to wait for another process that is writing the same file, which takes milliseconds."""


class IdentifiedFile:
    """A JSON file whose parts belong to an identity.

    When NAME.json is written and holds another identity's parts, these are kept as NAME.1.json, NAME.2.json ..., one
    for each identity, and found there when they are asked for again. Several processes may add to the same file.

    Args:
        identity: what the results belong to.
        parts: name -> value of what is taken over from an existing file of the same identity.
        about: what else the file should say; never taken over.

    Attributes:
        content: what the file holds, or will.
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
        if not self._is_own(existing):
            aside = self._aside(self.content["identity"])
            existing = self._read(aside) if aside else None
        self._take(existing)

    @contextlib.contextmanager
    def updating(self) -> Iterator[None]:
        """The block changes the parts of `content` as the file has them by then; after it the file is written."""
        with locked(self.path, LOCK_SECONDS) as lock:
            if lock is None:
                raise UserError(f"{self.path} is being written by another process that does not end: stop it")
            existing, aside = self._read_or_move(), None
            if not self._is_own(existing):
                aside = self._aside(self.content["identity"])
                if existing is not None:
                    place = self._aside(existing["identity"]) or self._free()
                    write_json(place, {**existing, "aside_of": self.path.name})
                existing = self._read(aside) if aside else None
            self._take(existing)
            yield
            write_json(self.path, self.content)
            if aside:
                aside.unlink(missing_ok=True)

    def write(self) -> None:
        """Puts what is known in its place."""
        with self.updating():
            pass

    def _is_own(self, content: Mapping[str, Any] | None) -> bool:
        return content is not None and content["identity"] == self.content["identity"]

    def _take(self, existing: Mapping[str, Any] | None) -> None:
        if existing is not None:
            self.content.update({part: existing[part] for part in self._parts})

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

    def _read_or_move(self) -> dict[str, Any] | None:
        """What is at `path`; what became unreadable since is moved away, so that no result is lost over it."""
        try:
            return self._read(self.path)
        except UserError:
            self.path.rename(self._free())
            return None

    def _aside(self, identity: Any) -> Path | None:
        """Where results of this identity were put aside; files that were not put aside here are left alone."""
        pattern = re.compile(rf"{re.escape(self.path.stem)}\.\d+{re.escape(self.path.suffix)}")
        for path in sorted(self.path.parent.glob("*")):
            if pattern.fullmatch(path.name):
                with contextlib.suppress(UserError):
                    content = self._read(path) or {}
                    if content.get("aside_of") == self.path.name and content["identity"] == identity:
                        return path
        return None

    def _free(self) -> Path:
        number = 1
        while (path := self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")).exists():
            number += 1
        return path


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows under the union of their keys, in the order in which they appear, atomically."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path, "w") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
