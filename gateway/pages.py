"""What the gateway answers itself: its health, its metrics and its documentation."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from gateway.backends import Backends
from gateway.exchange import Exchange, Page
from gateway.openapi.document import document
from gateway.problems import RETRY_SECONDS, Problem
from gateway.transcode.bindings import Binding
from gateway.transcode.contracts import Contracts

_ASSETS: Mapping[str, str] = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Meterline</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def pages(contracts: Contracts, bindings: list[Binding], backends: Backends) -> dict[str, Page]:
    """The pages by their paths."""
    made: dict[str, Callable[[Exchange], Awaitable[Response]]] = {
        "/healthz": _healthz,
        "/readyz": _readyz(backends),
        "/metrics": _metrics,
        "/openapi.json": _fixed(orjson.dumps(document(contracts, bindings)), "application/json"),
        "/docs": _fixed(_DOCS.encode(), "text/html"),
        "/docs/start.js": _fixed(_START.encode(), "text/javascript"),
        **{f"/docs/{name}": _fixed(_asset(name).read_bytes(), kind) for name, kind in _ASSETS.items()},
    }
    return {path: Page(f"GET {path}", make) for path, make in made.items()}


def _asset(name: str) -> Traversable:
    """A file of Swagger UI, out of the package that carries it."""
    (version,) = (resources.files("swagger_ui_bundle") / "vendor").iterdir()
    return version / name


def _fixed(content: bytes, media_type: str) -> Callable[[Exchange], Awaitable[Response]]:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "no-cache", "content-security-policy": _POLICY}

    async def answer(exchange: Exchange) -> Response:
        if exchange.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return answer


async def _healthz(_: Exchange) -> Response:
    return Response(b'{"status":"alive"}', media_type="application/json", headers={"cache-control": "no-store"})


def _readyz(backends: Backends) -> Callable[[Exchange], Awaitable[Response]]:
    async def answer(_: Exchange) -> Response:
        states = await backends.states()
        away = [service for service, state in states.items() if state != "SERVING"]
        if away:
            detail = f"Not serving: {', '.join(away)}."
            retry = {"retry-after": str(RETRY_SECONDS)}
            raise Problem(503, "SERVICE_UNAVAILABLE", detail, headers=retry, extra={"services": states})
        content = orjson.dumps({"status": "ready", "services": states})
        return Response(content, media_type="application/json", headers={"cache-control": "no-store"})

    return answer


async def _metrics(_: Exchange) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST, headers={"cache-control": "no-store"})
