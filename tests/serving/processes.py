"""Servers as processes of their own: started on a free port, waited for, stopped."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import PATIENCE, ROOT, missing

from powfast.tariff import EvidenceTariff

KEYS = "2026a:" + bytes(range(32)).hex()


def program(name: str) -> str:
    """A program of this environment, or of the system."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        missing(f"{name} is not installed")
    return found


def settings(folder: Path, store: str, base_work: float = 1000.0, **more: str) -> dict[str, str]:
    """An environment from which a server starts, whose store may take its time."""
    tariff = folder / "tariff.json"
    tariff.write_text(EvidenceTariff(base_work=base_work).to_json())
    given = {"tariff": str(tariff), "keys": KEYS, "store": store, "store_timeout": "60", **more}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POWFAST_")}
    return {
        **clean,
        **{f"POWFAST_{name.upper()}": value for name, value in given.items()},
        "OPENBLAS_NUM_THREADS": "1",
    }


@contextmanager
def started(
    command: Sequence[str], port: int, *, environ: dict[str, str], folder: Path = ROOT
) -> Iterator[str]:
    """Run a server until its port answers, and to its end; give its URL."""
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            command, env=environ, cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while not _listening(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    pytest.fail(f"{command[0]} did not start:\n{log.read()}")
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nginx(example: Path, folder: Path, **ports: int) -> Iterator[str]:
    """Run nginx on an example, its ports replaced: `p8080=12345`."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in kinds)
    (text,) = _copied(example, folder, ports, "nginx.conf")
    text = text.replace("http {", f"http {{ access_log off; {paths}")
    (folder / "nginx.conf").write_text(text)
    options = f"user root; daemon off; pid {folder}/nginx.pid; error_log stderr;"
    command = [program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-g", options]
    with started(command, ports["p8080"], environ=dict(os.environ), folder=folder) as url:
        yield url


@contextmanager
def caddy(example: Path, folder: Path, **ports: int) -> Iterator[str]:
    """Run Caddy on an example, its ports replaced."""
    _copied(example, folder, ports, "Caddyfile")
    environ = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = [program("caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    with started(command, ports["p8080"], environ=environ, folder=folder) as url:
        yield url


@contextmanager
def traefik(example: Path, folder: Path, **ports: int) -> Iterator[str]:
    """Run Traefik on an example, its ports replaced, until it has read its routes."""
    _copied(example, folder, ports, "traefik.yaml", "powfast.yaml")
    command = [program("traefik"), "--configFile=traefik.yaml"]
    with started(command, ports["p8080"], environ=dict(os.environ), folder=folder) as url:
        deadline = time.monotonic() + PATIENCE
        while httpx.get(f"{url}/v1/").status_code == 404:
            assert time.monotonic() < deadline, "traefik has no routes"
            time.sleep(0.02)
        yield url


@contextmanager
def envoy(example: Path, folder: Path, **ports: int) -> Iterator[str]:
    """Run Envoy on an example, its ports replaced, and with more patience for the gate."""
    (text,) = _copied(example, folder, ports, "envoy.yaml")
    assert "timeout: 1s" in text
    (folder / "envoy.yaml").write_text(text.replace("timeout: 1s", "timeout: 60s"))
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    command = [program("envoy"), "-c", "envoy.yaml", *options]
    with started(command, ports["p8080"], environ=dict(os.environ), folder=folder) as url:
        yield url


def _copied(example: Path, folder: Path, ports: dict[str, int], *names: str) -> list[str]:
    """Copy an example's files, with other ports; return what they say."""
    texts = [(example / name).read_text() for name in names]
    for name, port in ports.items():
        usual = re.compile(rf"\b{name[1:]}\b")
        assert any(map(usual.search, texts)), name
        texts = [usual.sub(str(port), text) for text in texts]
    for name, text in zip(names, texts, strict=True):
        (folder / name).write_text(text)
    return texts
