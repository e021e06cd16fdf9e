"""The lab's data sets: cut so that nothing is used twice, and downloaded where they are missing."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from laboratory import torch  # noqa: F401

from benchmarks.extraction import data as sets

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


class Home(ThreadingHTTPServer):
    """A server of files that may break off, and may know ranges.

    Attributes
    ----------
    files : contents by path
    breaks_after : bytes after which a transfer ends, once; None: it does not
    knows_ranges : whether it continues
    asked : (path, first byte asked for) of every request
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks_after: int | None = None
        self.knows_ranges = True
        self.asked: list[tuple[str, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Home

    def do_GET(self) -> None:
        name, content = self.path.lstrip("/"), self.server.files[self.path.lstrip("/")]
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        self.server.asked.append((name, start))
        if not self.server.knows_ranges:
            start = 0
        end = self.server.breaks_after or len(content)
        self.server.breaks_after = None
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:end])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def home() -> Iterator[Home]:
    with Home() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def mnist_home(home: Home, data: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home.files = {name: (data / "mnist" / name).read_bytes() for name in (IMAGES, LABELS)}
    monkeypatch.setattr(sets, "_MNIST", home.url)
    return home


def same(one: sets.Pictures, other: sets.Pictures) -> bool:
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


def test_no_digit_serves_two_purposes(data: Path) -> None:
    parts = sets.load("mnist", 0, data)
    own = [part for name, part in vars(parts).items() if name != "foreign"]
    images = [bytes(image) for part in own for image in part.images]
    assert len(images) == 70_000 == len(set(images))


def test_missing_files_are_downloaded_once(mnist_home: Home, data: Path, tmp_path: Path) -> None:
    known = sets.mnist(data, "t10k")
    assert same(sets.mnist(tmp_path, "t10k"), known)
    assert same(sets.mnist(tmp_path, "t10k"), known)
    assert mnist_home.asked == [(IMAGES, 0), (LABELS, 0)]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_transfer_that_broke_off_goes_on(
    mnist_home: Home, data: Path, tmp_path: Path, knows_ranges: bool
) -> None:
    mnist_home.breaks_after, mnist_home.knows_ranges = 500_000, knows_ranges
    with pytest.raises(OSError, match="broke off"):
        sets.mnist(tmp_path, "t10k")
    assert not (tmp_path / "mnist" / IMAGES).exists()
    assert same(sets.mnist(tmp_path, "t10k"), sets.mnist(data, "t10k"))
    assert mnist_home.asked == [(IMAGES, 0), (IMAGES, 500_000), (LABELS, 0)]


def test_another_file_than_the_published_is_refused(mnist_home: Home, tmp_path: Path) -> None:
    labels = bytearray(gzip.decompress(mnist_home.files[LABELS]))
    labels[-1] ^= 1
    mnist_home.files[LABELS] = gzip.compress(labels)
    with pytest.raises(ValueError, match=f"{LABELS}.*delete it"):
        sets.mnist(tmp_path, "t10k")


def test_cifars_own_archive_is_downloaded_and_read(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (10, 1 + 3072), dtype=np.uint8)
    rows[:, 0] = np.arange(10)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, part in zip(sets._CIFAR_FILES["train"], np.split(rows, 5), strict=True):
            member = tarfile.TarInfo(name)
            member.size = part.nbytes
            tar.addfile(member, io.BytesIO(part.tobytes()))
    home.files["cifar-10-binary.tar.gz"] = archive.getvalue()
    monkeypatch.setattr(sets, "_CIFAR", f"{home.url}cifar-10-binary.tar.gz")
    with pytest.raises(ValueError, match="not the file"):
        sets.cifar10(tmp_path, "train", 7)
    digest = sets.hashlib.md5(archive.getvalue(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(sets, "_CIFAR_MD5", digest)
    found = sets.cifar10(tmp_path, "train", 7)
    assert found.labels.tolist() == list(range(7))
    np.testing.assert_allclose(found.images.reshape(7, -1) * 255, rows[:7, 1:], atol=1e-4)
