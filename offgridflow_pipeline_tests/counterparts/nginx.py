"""nginx as a process of an unprivileged user, with a file of conf.d inside an otherwise empty configuration."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from string import Template

import pytest

from offgridflow_pipeline_tests.counterparts.processes import free_port, wait_until_ready
from offgridflow_pipeline_tests.counterparts.scripted_server import own_certificate

#: `sbin` is not in the path of everybody.
PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
MAIN = Template("""
pid $folder/nginx.pid;
error_log stderr notice;
daemon off;
events { worker_connections 128; }
http {
  access_log off;
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi;
  scgi_temp_path $folder/scgi;
  include $folder/site.conf;
}
""")


class Proxy:
    """A running nginx."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, host: str, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> HTTPResponse:
        """The answer to one request, byte for byte as written here."""
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=10, context=_any_certificate())
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": host, **(headers or {})}.items():
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        response.body = response.read() if response.status != 101 else b""
        connection.close()
        return response


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def nginx(site: Path, **variables: str) -> Iterator[Proxy]:
    """nginx with the file `site` after envsubst; OGF_LISTEN and the certificate are chosen here."""
    if PROGRAM is None:
        pytest.skip("nginx is not installed (Debian package nginx)")
    folder = Path(tempfile.mkdtemp(prefix="ogf-nginx-"))
    port = free_port()
    certificate = str(own_certificate(folder))
    rendered = site.read_text()
    known = {"OGF_LISTEN": f"127.0.0.1:{port}", "OGF_CERTIFICATE": certificate, "OGF_CERTIFICATE_KEY": certificate}
    for name, value in (known | variables).items():
        rendered = rendered.replace(f"${{{name}}}", value)  # as envsubst: nginx's own variables stay
    (folder / "site.conf").write_text(rendered)
    (folder / "nginx.conf").write_text(MAIN.substitute(folder=folder))
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user)
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            [PROGRAM, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=user, cwd="/",
        )  # fmt: skip
        try:
            wait_until_ready("nginx", process, log, lambda: socket.create_connection(("127.0.0.1", port), 1))
            yield Proxy(port)
        finally:
            process.terminate()
            process.wait(10)
            shutil.rmtree(folder, ignore_errors=True)
