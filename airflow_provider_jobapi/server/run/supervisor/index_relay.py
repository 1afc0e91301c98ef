# SPDX-License-Identifier: Apache-2.0
"""Relay the requests of an installer to its package indexes, and add the credentials that it does not have.

A part of the supervisor: standard library only, Python 3.8 and newer. It is an HTTP proxy for the processes of one step
that know its password. What lies below the address of an index, and the files that the index's pages and redirects
name, are fetched with the index's credentials; everything else is relayed as it is. The credentials come from the
server through a socket and are in the memory of the relay alone, which no other process of its user may read.
"""

from __future__ import annotations

import base64
import html
import http.client
import json
import os
import re
import secrets
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

if __package__:
    from airflow_provider_jobapi.server.run.supervisor import process_tree
else:  # run by its path, isolated from every package
    import process_tree  # type: ignore[import-not-found, no-redef]

RELAY = "{relay}"
"""What stands for the relay's address in the variables of a step."""

_TIMEOUT_SECONDS = 300
_PIECE = 64 * 1024
_PAGE_BYTES = 64 * 2**20
"""The largest page of an index."""

_PASSED_ON = ("accept", "range", "if-range", "if-none-match", "if-modified-since", "cache-control", "user-agent")
_ANSWERED = ("content-type", "content-range", "accept-ranges", "etag", "last-modified", "cache-control", "date", "age")
_HTML_LINK = re.compile(rb"""href\s*=\s*["']?([^"'\s>]+)""", re.IGNORECASE)
_JSON_LINK = re.compile(rb'"(?:url|core-metadata-url)"\s*:\s*"((?:[^"\\]|\\.)*)"')


def start(handle: int) -> str:
    """Start the relay as a child of this process; returns its address with its password.

    :param handle: The socket through which the server sends the credentials.
    :raises OSError: when the server has not sent them, since it ended meanwhile.
    """
    password = secrets.token_urlsafe(24)
    server = _Server(("127.0.0.1", 0), _Handler)
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            process_tree.refuse_to_be_read()
            process_tree.die_with_parent(parent)
            _close_others({handle, writing, server.fileno()})
            server.prepare(_receive(handle), password)
            os.write(writing, b"+")
            os.close(writing)
            server.serve_forever()
        finally:
            os._exit(1)
    os.close(writing)
    os.close(handle)
    ready = os.read(reading, 1)
    os.close(reading)
    port = server.server_address[1]
    server.socket.close()
    if not ready:
        os.waitpid(child, 0)
        raise OSError("the server sent no credentials of the package index")
    return f"http://{password}:@127.0.0.1:{port}"


def _close_others(kept: set[int]) -> None:
    for number in range(3, 256):
        if number not in kept:
            try:
                os.close(number)
            except OSError:
                pass


def _receive(handle: int) -> dict[str, Any]:
    with socket.socket(fileno=handle) as connection:
        pieces = []
        while piece := connection.recv(_PIECE):
            pieces.append(piece)
    told: dict[str, Any] = json.loads(b"".join(pieces))
    return told


class _Server(ThreadingHTTPServer):
    """The relay.

    :ivar secret: What a request must have as ``Proxy-Authorization``.
    """

    daemon_threads = True
    request_queue_size = 128

    def prepare(self, told: dict[str, Any], password: str) -> None:
        """Take what the server told."""
        self.secret = "Basic " + base64.b64encode(f"{password}:".encode()).decode()
        self._proxies, self._no_proxy, self._insecure = told["proxies"], told["no_proxy"], told["insecure"]
        self.realms: dict[str, Realm] = {}
        for origin, realm in told["realms"].items():
            place = urlsplit(origin).netloc
            # One place may have an index with and one without TLS; the one with it is meant then.
            if place not in self.realms or origin.startswith("https"):
                self.realms[place] = Realm(origin, realm["logins"])
        self._tls = ssl.create_default_context()
        for path in told["certificates"]:
            try:
                self._tls.load_verify_locations(**{"capath" if Path(path).is_dir() else "cafile": path})
            except (OSError, ssl.SSLError):
                pass
        self._tls_insecure = ssl.create_default_context()  # for the hosts that UV_INSECURE_HOST names
        self._tls_insecure.check_hostname = False
        self._tls_insecure.verify_mode = ssl.CERT_NONE

    def upstream(self, scheme: str, place: str) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
        """Connect to a host, or to the proxy before it; returns the beginning of its paths, and headers, too."""
        host, _, port = place.rpartition(":")
        host = host.strip("[]")
        proxy = None if self._bypasses(place) else _proxy_of(self._proxies.get(scheme))
        if scheme == "https":
            insecure = host in self._insecure or place in self._insecure
            context = self._tls_insecure if insecure else self._tls
            target = proxy[0] if proxy else (host, int(port))
            connection = http.client.HTTPSConnection(*target, timeout=_TIMEOUT_SECONDS, context=context)
            if proxy:
                connection.set_tunnel(host, int(port), headers=proxy[1])
            return connection, "", {}
        if proxy:
            plain = http.client.HTTPConnection(*proxy[0], timeout=_TIMEOUT_SECONDS)
            return plain, f"http://{place.removesuffix(':80')}", proxy[1]
        return http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT_SECONDS), "", {}

    def tunnel(self, place: str) -> socket.socket:
        """Open a connection to a host, through the proxy before it where there is one."""
        host, _, port = place.rpartition(":")
        proxy = None if self._bypasses(place) else _proxy_of(self._proxies.get("https"))
        if proxy is None:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_SECONDS)
        connection = http.client.HTTPConnection(*proxy[0], timeout=_TIMEOUT_SECONDS)
        connection.set_tunnel(host.strip("[]"), int(port), headers=proxy[1])
        connection.connect()
        opened: socket.socket = connection.sock
        return opened

    def _bypasses(self, place: str) -> bool:
        return bool(self._no_proxy and proxy_bypass_environment(place, {"no": self._no_proxy}))

    def handle_error(self, *_: Any) -> None:
        """Say nothing: its output would be in the job's log."""


def _proxy_of(address: str | None) -> tuple[tuple[str, int], dict[str, str]] | None:
    """The host and port of a proxy, and the headers with its login."""
    if not address:
        return None
    parts = urlsplit(address if "//" in address else f"//{address}")
    headers = {}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    return (parts.hostname or "", parts.port or 80), headers


class Realm:
    """A host with credentials, and the paths for which it gets them."""

    def __init__(self, origin: str, logins: list[dict[str, str]]) -> None:
        self.scheme, self.place = origin.split("://")
        self._logins = sorted(logins, key=lambda login: -len(login["path"]))
        self._named: dict[str, str] = {}
        bare = self.place.rpartition(":")[0]
        default = {"https": "443", "http": "80"}[self.scheme]
        places = [self.place, bare] if self.place.endswith(f":{default}") else [self.place]
        found = "|".join(re.escape(f"{self.scheme}://{place}") for place in places)
        self._own = re.compile(rb"(?:%s)(?=[/\"'?#\s<]|$)" % found.encode(), re.IGNORECASE)

    def authorization(self, path: str) -> str | None:
        """The ``Authorization`` for a path; None where the index has nothing to do with it."""
        plain = unquote(path)
        if any(part in {".", ".."} for part in plain.split("/")) or "\\" in plain:
            return None
        for login in self._logins:
            below = login["path"].endswith("/") and (plain + "/").startswith(unquote(login["path"]))
            if below or plain == unquote(login["path"]):
                return login["authorization"]
        return self._named.get(plain) or self._named.get(
            plain[: -len(".metadata")] if plain.endswith(".metadata") else ""
        )

    def rewrite(self, text: bytes) -> bytes:
        """Replace the host's own addresses by those that the relay is asked for."""
        return self._own.sub(f"http://{self.place}".encode(), text)

    def take_links(self, page: str, links: list[str], authorization: str) -> None:
        """Remember the files of this host that a page names."""
        for link in links:
            try:
                parts = urlsplit(urljoin(page, link))
                place = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
            except ValueError:
                continue
            if place == self.place:
                self._named.setdefault(unquote(parts.path), authorization)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_SECONDS
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _is_allowed(self) -> bool:
        if secrets.compare_digest(self.headers.get("Proxy-Authorization", ""), self.server.secret):
            return True
        self._refuse(407, "the relay of the package index has a password")
        return False

    def _refuse(self, status: int, why: str) -> None:
        body = f"jobapi: {why}\n".encode()
        self.send_response(status)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="jobapi"')
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        """Fetch an address."""
        if not self._is_allowed():
            return
        parts = urlsplit(self.path)
        if parts.scheme != "http" or not parts.hostname:
            self._refuse(400, "only absolute http addresses are relayed")
            return
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        place = f"{host}:{parts.port or 80}"
        realm = self.server.realms.get(place)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        authorization = realm.authorization(parts.path or "/") if realm else None
        try:
            self._fetch(realm, place, path, authorization)
        except (OSError, http.client.HTTPException) as error:
            self.close_connection = True
            if not getattr(self, "_answering", False):
                self._refuse(502, f"{place} cannot be reached: {error}")

    do_HEAD = do_GET  # noqa: N815

    def do_CONNECT(self) -> None:
        """Open a tunnel to a host."""
        if not self._is_allowed():
            return
        self.close_connection = True
        try:
            other = self.server.tunnel(self.path)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._refuse(502, f"{self.path} cannot be reached: {error}")
            return
        with other:
            self.send_response(200, "Connection established")
            self.end_headers()
            back = threading.Thread(target=_copy, args=(other, self.connection), daemon=True)
            back.start()
            _copy(self.connection, other)
            back.join()

    def _fetch(self, realm: Realm | None, place: str, path: str, authorization: str | None) -> None:
        self._answering = False
        connection, prefix, headers = self.server.upstream(realm.scheme if realm else "http", place)
        headers = headers | {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        headers |= {"Accept-Encoding": "identity"} | ({"Authorization": authorization} if authorization else {})
        try:
            connection.request(self.command, prefix + path, headers=headers)
            answer = connection.getresponse()
            is_page = answer.headers.get_content_type().endswith(("html", "json"))
            if realm and authorization and is_page and answer.status == 200 and self.command == "GET":
                self._send_page(answer, realm, path, authorization)
            else:
                self._send(answer, realm, path, authorization)
        finally:
            connection.close()

    def _send_page(self, answer: http.client.HTTPResponse, realm: Realm, path: str, authorization: str) -> None:
        body = answer.read(_PAGE_BYTES)
        page = f"{realm.scheme}://{realm.place}{path}"
        links = [html.unescape(link.decode(errors="replace")) for link in _HTML_LINK.findall(body)]
        links += [json.loads(b'"%s"' % link) for link in _JSON_LINK.findall(body)]
        realm.take_links(page, links, authorization)
        body = realm.rewrite(body)
        self._begin(answer)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send(
        self, answer: http.client.HTTPResponse, realm: Realm | None, path: str, authorization: str | None
    ) -> None:
        length = answer.headers.get("Content-Length")
        self._begin(answer)
        if location := answer.headers.get("Location"):
            if realm and authorization:
                realm.take_links(f"{realm.scheme}://{realm.place}{path}", [location], authorization)
                location = realm.rewrite(location.encode()).decode()
            self.send_header("Location", location)
        bodiless = self.command == "HEAD" or answer.status in {204, 304}
        if length is not None:
            self.send_header("Content-Length", length)
        elif not bodiless:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not bodiless and (piece := answer.read(_PIECE)):
            self.wfile.write(piece if length is not None else b"%x\r\n%s\r\n" % (len(piece), piece))
        if not bodiless and length is None:
            self.wfile.write(b"0\r\n\r\n")
        if not bodiless and answer.length:  # the index closed the connection in the middle
            self.close_connection = True

    def _begin(self, answer: http.client.HTTPResponse) -> None:
        self._answering = True
        self.send_response_only(answer.status, answer.reason)
        for name in _ANSWERED:
            if name in answer.headers:
                self.send_header(name, answer.headers[name])


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy what a socket receives to another one until it ends."""
    try:
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    except OSError:
        pass
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
