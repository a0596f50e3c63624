"""Google Secret Manager and Azure Key Vault for tests, spoken to by the official clients.

Google's is a gRPC server of the service's own messages; Azure's is HTTP behind a transport that stands for the
vault's address (its client refuses to send a token to plain http). Shapes: google-cloud-secret-manager and
azure-keyvault-secrets as locked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import grpc
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport
from azure.keyvault.secrets import SecretClient
from google.cloud.secretmanager import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceGrpcTransport
from google.cloud.secretmanager_v1.types import AccessSecretVersionRequest, AccessSecretVersionResponse

Secrets = Mapping[str, Sequence[str]]


@contextmanager
def google_keeper(secrets: Secrets) -> Iterator[SecretManagerServiceClient]:
    """A client of a server with these secrets, versions oldest first; the project `denied` is forbidden."""

    def access(request: AccessSecretVersionRequest, context: grpc.ServicerContext) -> AccessSecretVersionResponse:
        name, _, version = request.name.partition("/versions/")
        if name.startswith("projects/denied/"):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "secretmanager.versions.access denied")
        if name not in secrets:
            context.abort(grpc.StatusCode.NOT_FOUND, "Secret not found")
        number = len(secrets[name]) if version == "latest" else int(version)
        return AccessSecretVersionResponse(
            name=f"{name}/versions/{number}", payload={"data": secrets[name][number - 1].encode()}
        )

    server = grpc.server(ThreadPoolExecutor(2))
    method = grpc.unary_unary_rpc_method_handler(
        access, AccessSecretVersionRequest.deserialize, AccessSecretVersionResponse.serialize
    )
    service = "google.cloud.secretmanager.v1.SecretManagerService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"AccessSecretVersion": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield SecretManagerServiceClient(transport=SecretManagerServiceGrpcTransport(channel=channel))
    server.stop(None)


class _Token:
    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken("token-of-the-process", 4102444800)


class _Elsewhere(RequestsTransport):
    """Sends what goes to a vault's https address to the fake."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def send(self, request: Any, **options: Any) -> Any:
        stated, parts = request.url, urlsplit(request.url)
        request.headers["X-Vault"] = parts.netloc
        request.url = parts._replace(scheme="http", netloc=f"127.0.0.1:{self._port}").geturl()
        try:
            return super().send(request, **options)
        finally:
            request.url = stated


@contextmanager
def key_vault_keeper(secrets: Secrets) -> Iterator[Callable[[str], SecretClient]]:
    """Makes clients of vaults with these secrets, versions oldest first; the secret `denied` is forbidden."""

    class Vault(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            vault = self.headers["X-Vault"]
            if self.headers.get("Authorization") != "Bearer token-of-the-process":
                challenge = 'Bearer authorization="https://login.example/tenant", resource="https://vault.azure.net"'
                return self._answer(401, {}, {"WWW-Authenticate": challenge})
            _, _, name, *version = urlsplit(self.path).path.rstrip("/").split("/")
            if name == "denied":
                return self._answer(403, {"error": {"code": "Forbidden", "message": "not authorized"}})
            if name not in secrets:
                return self._answer(404, {"error": {"code": "SecretNotFound", "message": f"{name} was not found"}})
            number = int(version[0], 16) if version else len(secrets[name])
            identity = f"https://{vault}/secrets/{name}/{number:032x}"
            return self._answer(200, {"value": secrets[name][number - 1], "id": identity, "attributes": {}})

        def _answer(self, status: int, content: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Vault) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield lambda url: SecretClient(url, _Token(), transport=_Elsewhere(server.server_port), retry_total=0)
        server.shutdown()
