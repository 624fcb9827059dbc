"""An index on the loopback that knows strangers by our packages' names: what installing ours has to withstand."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SUMMARY = "A stranger"
HIGHER = "99.0"


def wheel(
    name: str, version: str, *, summary: str, requires: Iterable[str] = (), tag: str = "py3-none-any"
) -> tuple[str, bytes]:
    """A wheel without code, as its file name and its bytes. `requires` are requirements, with an extra's marker."""
    stem = name.replace("-", "_")
    folder = f"{stem}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", f"Summary: {summary}"]
    for requirement in requires:
        metadata.append(f"Requires-Dist: {requirement}")
        if "extra ==" in requirement:
            metadata.append(f"Provides-Extra: {requirement.split('extra ==')[1].strip()[1:-1]}")
    files = {
        f"{folder}/METADATA": "\n".join(metadata) + "\n",
        f"{folder}/WHEEL": f"Wheel-Version: 1.0\nGenerator: strangers\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = [f"{path},sha256={_digest(text.encode())},{len(text.encode())}" for path, text in files.items()]
    files[f"{folder}/RECORD"] = "\n".join([*record, f"{folder}/RECORD,,"]) + "\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{stem}-{version}-{tag}.whl", content.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


@contextmanager
def index(names: Iterable[str], versions: Iterable[str]) -> Iterator[str]:
    """Serve strangers by `names`, in each of `versions`, and nothing else; yields the address of the index."""
    files = {name: dict(wheel(name, version, summary=SUMMARY) for version in versions) for name in names}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")  # simple/NAME or simple/NAME/FILE
            offered = files.get(parts[1], {}) if len(parts) > 1 else {}
            if len(parts) == 3 and parts[2] in offered:
                self.answer(offered[parts[2]], "application/octet-stream")
            elif len(parts) == 2 and offered:
                links = "".join(f'<a href="/simple/{parts[1]}/{file}">{file}</a><br>' for file in offered)
                self.answer(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
            else:
                self.send_error(404)

        def answer(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":  # uv looks how large a file is, to fetch its metadata alone
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: whoever installs from here reports what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
