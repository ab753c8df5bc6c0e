"""Hand a folder to Neuroglancer in the browser of this machine, and to nobody else."""

import importlib.util
import logging
from collections.abc import Collection
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tomoglean.provenance import Refused

HOST = "127.0.0.1"
PUBLIC = "https://neuroglancer-demo.appspot.com"

log = logging.getLogger(__name__)


def viewer(state: dict[str, Any]) -> Any:
    """Start Neuroglancer itself on this machine, if `pip install neuroglancer` was done.

    Returns
    -------
    neuroglancer.Viewer
        It lives as long as it is held; None without the package.
    """
    if importlib.util.find_spec("neuroglancer") is None:
        return None
    neuroglancer = importlib.import_module("neuroglancer")
    neuroglancer.set_server_bind_address(HOST)
    opened = neuroglancer.Viewer()
    opened.set_state(state)
    return opened


def address(port: int) -> str:
    """Return where the public Neuroglancer opens it; no voxel leaves this machine."""
    return f"{PUBLIC}/#!http://{HOST}:{port}/neuroglancer.json"


def server(folder: Path, port: int, origins: Collection[str]) -> ThreadingHTTPServer:
    """Open a server of a folder's files, for this machine only.

    Other pages are not let in (CORS), nor other names of this machine, so that no page
    elsewhere can read the volume.

    Parameters
    ----------
    folder
        Whose files are served.
    port
        Where on this machine.
    origins
        Pages that may read them, such as https://neuroglancer-demo.appspot.com.

    Raises
    ------
    Refused
        If the port is taken.
    """
    handler = partial(_Handler, origins=origins, directory=str(folder.resolve()))
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise Refused(
            f"view: expected port {port} to be free, found {error.strerror}; choose another"
            " by --port"
        ) from error


class _Handler(SimpleHTTPRequestHandler):
    """Files only: no listings, nothing that links lead to, no other host's pages."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, origins: Collection[str], **more: Any) -> None:
        self.origins = origins
        super().__init__(*args, **more)

    def send_head(self) -> Any:
        """Refuse what is not meant for this server."""
        _, port = self.request.getsockname()
        known = {f"{name}:{port}" for name in (HOST, "localhost")}
        if self.headers.get("Host") not in known:
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        file = Path(self.translate_path(self.path)).resolve()
        if not file.is_relative_to(self.directory):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        """List no folder."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def do_OPTIONS(self) -> None:
        """Answer what browsers ask before they fetch."""
        self.send_response(HTTPStatus.NO_CONTENT)
        self.send_header("Access-Control-Allow-Methods", "GET, HEAD")
        self.send_header("Access-Control-Allow-Headers", "range")
        self.send_header("Access-Control-Allow-Private-Network", "true")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def end_headers(self) -> None:
        """Let in the pages of Neuroglancer; give files as they are now."""
        origin = self.headers.get("Origin") if self.headers else None
        if origin in self.origins:
            self.send_header("Access-Control-Allow-Origin", str(origin))
        self.send_header("Vary", "Origin")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of every chunk."""
