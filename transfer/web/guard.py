"""The first step of every request and the last of every answer: it refuses foreign hosts and
foreign pages, and sets safe headers.

A page on another site can make a visitor's browser call 127.0.0.1. The page cannot read the
answers, but it could make the machine work. If it lets a name of its own point to 127.0.0.1 (DNS
rebinding), it could even read them. So Host must be one of our names, and a POST must come from our
own page or from no page at all.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
PAGE = HEADERS["Content-Security-Policy"] + "; connect-src 'self' https: http:"
"""Policy of the page for whole pages: it fetches the IIIF address that a reader enters, and no
other."""
HERE = {"localhost", "127.0.0.1", "::1"}


class Guard:
    """ASGI middleware. host: the address on which the server listens. hosts: further names of this
    server. A proxy under one of them may pass on the browser's Origin with a Host of its own
    choice."""

    def __init__(self, app, host: str, hosts: tuple[str, ...] = ()):
        self.app = app
        self.proxies = {name.lower() for name in hosts}
        self.names = HERE | {host.lower()} | {name.lower() for name in hosts}
        self.everywhere = host in ("0.0.0.0", "::", "")
        if self.everywhere:
            own = socket.gethostname().lower()
            self.names |= {own, own.removesuffix(".local") + ".local"}

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def guarded(message):
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if scope["path"] == "/page.html":
                    headers["Content-Security-Policy"] = PAGE
                headers.setdefault(
                    "Cache-Control", "no-store" if scope["path"].startswith("/api/") else "no-cache"
                )
            await send(message)

        refused = self._refusal(Headers(scope=scope), scope["method"])
        await (refused or self.app)(scope, receive, guarded)

    def _refusal(self, headers: Headers, method: str) -> JSONResponse | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._ours(hosts[0]):
            return JSONResponse(
                {
                    "error": (
                        "this server has another name; open it by the address that it printed when"
                        " it started"
                    )
                },
                400,
            )
        if method in ("GET", "HEAD", "OPTIONS"):
            return None
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        # A browser says where the page comes from; programs such as curl send neither header.
        if site not in (None, "same-origin", "none") or (
            origin is not None and not self._from_here(origin, hosts[0])
        ):
            return JSONResponse(
                {
                    "error": (
                        "requests from other sites' pages are refused; behind a proxy, "
                        "start the server with --name HOST"
                    )
                },
                403,
            )
        return None

    def _from_here(self, origin: str, host: str) -> bool:
        netloc = _netloc(origin)
        return netloc == host.lower() or bool(netloc) and _name(netloc) in self.proxies

    def _ours(self, host: str) -> bool:
        name = _name(host)
        if name is None:
            return False
        if name in self.names:
            return True
        if not self.everywhere:
            return False
        # Listening everywhere, every address may be ours; rebinding needs a name.
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True


def _name(host: str) -> str | None:
    """The name in a Host header, without a port, in lower case; None if the header is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return None


def _netloc(origin: str) -> str:
    """Host and port of an Origin, in lower case; "" if it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
