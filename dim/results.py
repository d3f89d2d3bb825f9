"""JSON files of results that belong to settings: continued where those are equal, never mixed where they differ."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dim.errors import UserError
from dim.files import replacing, write_json


class IdentifiedFile:
    """A JSON file whose parts belong to an identity; written whole at each `write`.

    A file with another identity at the same path is kept under another name before the first write.

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
        self._other = False
        self.content: dict[str, Any] = {
            "schema_version": self.VERSION,
            "identity": json.loads(json.dumps(identity)),
            **(about or {}),
            **parts,
        }
        if path.exists():
            existing = self._read(["identity", *parts])
            if existing["identity"] == self.content["identity"]:
                self.content.update({part: existing[part] for part in parts})
            else:
                self._other = True

    def _read(self, needed: Sequence[str]) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text("utf-8"))
            if content["schema_version"] != self.VERSION:
                raise UserError(f"{self.path} has schema {content['schema_version']}: choose another --output")
            if missing := [name for name in needed if name not in content]:
                raise KeyError(missing[0])
            return content
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path} is no {self.kind}: move it away or choose another --output") from error

    def write(self) -> None:
        """Writes the content, atomically."""
        if self._other:
            number = 1
            while (kept := self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")).exists():
                number += 1
            self.path.rename(kept)
            self._other = False
        write_json(self.path, self.content)


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows under the union of their keys, in the order in which they appear, atomically."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path, "w") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
