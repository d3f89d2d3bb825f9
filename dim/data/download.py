"""Downloads that survive interruptions, slow hosts and wrong content."""

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from dim.errors import UserError
from dim.files import locked
from dim.progress import progress_bar

LOCK_SECONDS = 4 * 3600.0  # for another process's download of the same file
TIMEOUT = 30.0  # seconds without a byte after which a source has failed
MINIMUM_RATE = 100_000  # bytes a second below which another source is tried
PATIENCE = 15.0  # seconds over which the rate is taken
_BLOCK = 1 << 16


class _SourceError(Exception):
    """Why one source did not deliver."""


def md5_of(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(urls: Sequence[str], path: Path, md5: str) -> None:
    """Downloads `path` from the first of `urls` to deliver it; the file appears only once its MD5 is right.

    What has arrived is kept in `<path>.part` and completed by the next source or the next run, whichever source
    it came from: the MD5 guards the whole. A slow source gives way to the next; the last one may take its time.
    Of several processes that ask for the same file one downloads it, and the others wait.

    Raises:
        UserError: if no source delivered, with the reason of each.
    """
    try:
        for seconds in (0.0, LOCK_SECONDS):
            with locked(path, seconds) as lock:
                if lock is not None:
                    if not (path.exists() and md5_of(path) == md5):
                        _fetch(urls, path, md5)
                    return
            if not seconds:
                print(f"waiting for another process, which downloads {path}", file=sys.stderr, flush=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    raise UserError(f"another process has been downloading {path} for hours: stop it, and try again")


def _fetch(urls: Sequence[str], path: Path, md5: str) -> None:
    part = path.with_name(path.name + ".part")
    reasons = []
    for url in urls:
        try:
            _complete(url, part, md5, 0 if url == urls[-1] else MINIMUM_RATE)
            part.replace(path)
            return
        except _SourceError as error:
            reasons.append(f"{urlsplit(url).netloc}: {error}")
    kept = f"; {part.stat().st_size / 1e6:.1f} MB are kept in {part}" if part.exists() else ""
    raise UserError(
        f"could not download {path.name} ({'; '.join(reasons)}){kept}: "
        f"try again later or put the file into {path.parent} yourself"
    )


def _complete(url: str, part: Path, md5: str, minimum_rate: float) -> None:
    """Completes `part` from one source until its MD5 is right, if need be from the start."""
    for resumed in (part.exists(), False):
        _receive(url, part, minimum_rate)
        found = md5_of(part)
        if found == md5:
            return
        part.unlink()
        if not resumed:  # else what was there before may be at fault
            break
    raise _SourceError(f"its content has MD5 {found}, not {md5}")


def _receive(url: str, part: Path, minimum_rate: float) -> None:
    """Completes `part` from one source; raises _SourceError if it breaks off or is slow."""
    have = part.stat().st_size if part.exists() else 0
    response, have = _request(url, have)
    if response is None:
        return
    with response, part.open("ab" if have else "wb") as file:
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        with progress_bar(f"{part.stem} from {urlsplit(url).netloc}", total, have, in_bytes=True) as advance:
            window_start, window_bytes = time.monotonic(), 0
            while block := _read(response):
                file.write(block)
                advance(len(block))
                have += len(block)
                window_bytes += len(block)
                if (elapsed := time.monotonic() - window_start) >= PATIENCE:
                    if window_bytes / elapsed < minimum_rate:
                        raise _SourceError(f"only {window_bytes / elapsed / 1e3:.0f} kB a second")
                    window_start, window_bytes = time.monotonic(), 0
    if total is not None and have < total:
        raise _SourceError(f"broke off after {have} of {total} bytes")


def _request(url: str, have: int) -> tuple[http.client.HTTPResponse | None, int]:
    """(response, bytes to keep before its content); no response if nothing is missing."""
    request = urllib.request.Request(url, headers={"User-Agent": "deep-infomax"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is as long as the file, or longer: its MD5 tells
            return None, have
        raise _SourceError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _SourceError(str(getattr(error, "reason", error))) from error
    resumed = response.status == 206
    if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        response.close()
        raise _SourceError("answered with a range that was not asked for")
    return response, have if resumed else 0


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _SourceError(str(error) or type(error).__name__) from error
