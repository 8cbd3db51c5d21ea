"""The ways out of a guest that has no route: an HTTP proxy and a DNS relay, both on one address of the host, for one range of guests.

The proxy keeps Debian packages, whose URL names their version, in a folder: a second guest gets them from there. /wheels/ is a folder of
Python packages, as a site's own mirror.
"""
import hashlib
import http.server
import ipaddress
import os
import select
import shutil
import socket
import socketserver
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

PROXY_PORT, DNS_PORT = 3128, 53
TIMEOUT = 120
NOT_PASSED_ON = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "proxy-authorization", "te", "upgrade"}


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    timeout = TIMEOUT

    def log_message(self, format, *args):  # the name is the base class's
        pass

    def do_GET(self):
        if self.path.startswith("/"):
            self.serve()
            return
        kept = self.kept()
        if kept and os.path.exists(kept):
            with open(kept, "rb") as package:
                self.send_response(200)
                self.send_header("Content-Length", str(os.fstat(package.fileno()).st_size))
                self.end_headers()
                shutil.copyfileobj(package, self.wfile)
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED_ON}
        length = int(self.headers.get("Content-Length") or 0)
        request = urllib.request.Request(self.path, self.rfile.read(length) if length else None, headers, method=self.command)
        try:
            reply = self.server.opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:  # an answer, too
            reply = error
        except OSError as error:
            self.send_error(502, str(error).replace("\n", " "))
            return
        with reply:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                if name.lower() not in NOT_PASSED_ON:
                    self.send_header(name, value)
            self.end_headers()
            if kept and reply.status == 200:
                self.keep(kept, reply)
            elif self.command != "HEAD":
                shutil.copyfileobj(reply, self.wfile)

    do_HEAD = do_POST = do_PUT = do_GET

    def serve(self):
        """A Python package from the folder beside, or the list of them, as for pip's --find-links."""
        folder = os.path.join(os.path.dirname(self.server.folder), "wheels")
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        name = urllib.parse.unquote(self.path.removeprefix("/wheels/"))
        if name in names:
            with open(os.path.join(folder, name), "rb") as wheel:
                self.send_response(200)
                self.send_header("Content-Length", str(os.fstat(wheel.fileno()).st_size))
                self.end_headers()
                shutil.copyfileobj(wheel, self.wfile)
        elif self.path == "/wheels/":
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write("".join(f'<a href="{urllib.parse.quote(name)}">{name}</a>\n' for name in names).encode())
        else:
            self.send_error(404)

    def kept(self):
        """Where the package of this URL is kept."""
        plain = self.command == "GET" and self.path.endswith(".deb") and "Range" not in self.headers
        return plain and os.path.join(self.server.folder, hashlib.sha256(self.path.encode()).hexdigest()[:40] + ".deb")

    def keep(self, kept, reply):
        with tempfile.NamedTemporaryFile(dir=self.server.folder, delete=False) as copy:
            try:
                shutil.copyfileobj(reply, copy)
                copy.flush()
                if copy.tell() == int(reply.headers.get("Content-Length") or -1):
                    os.rename(copy.name, kept)
            finally:
                with open(copy.name if os.path.exists(copy.name) else kept, "rb") as whole:
                    shutil.copyfileobj(whole, self.wfile)
                if os.path.exists(copy.name):
                    os.unlink(copy.name)

    def do_CONNECT(self):
        target, words = self.path, b""
        upstream = urllib.parse.urlsplit(self.server.opener_proxies.get("https", ""))
        if upstream.hostname:
            words = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
            target = f"{upstream.hostname}:{upstream.port or 3128}"
        host, _, port = target.rpartition(":")
        try:
            there = socket.create_connection((host.strip("[]"), int(port)), TIMEOUT)
        except (OSError, ValueError) as error:
            self.send_error(502, str(error).replace("\n", " "))
            return
        with there:
            if words:
                there.sendall(words)  # its answer is the guest's answer
            else:
                self.send_response(200)
                self.end_headers()
            ends = {self.connection: there, there: self.connection}
            while True:
                ready, _, _ = select.select(list(ends), [], [], TIMEOUT)
                for end in ready:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    ends[end].sendall(data)
                if not ready:
                    return


class ProxyServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address, guests, folder):
        super().__init__((address, PROXY_PORT), Proxy)
        self.guests, self.folder, self.opener_proxies = guests, folder, urllib.request.getproxies()
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler(self.opener_proxies), NoRedirect())

    def verify_request(self, request, client_address):
        return ipaddress.ip_address(client_address[0]) in self.guests

    def handle_error(self, request, client_address):
        pass  # a guest that was killed in the middle


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Dns(socketserver.BaseRequestHandler):
    def handle(self):
        question, reply_to = self.request
        for server in nameservers():
            with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as there:
                there.settimeout(5)
                try:
                    there.sendto(question, (server, DNS_PORT))
                    reply_to.sendto(there.recv(1 << 16), self.client_address)
                    return
                except OSError:
                    continue


def nameservers():
    with open("/etc/resolv.conf", encoding="utf-8") as file:
        return [line.split()[1] for line in file if line.startswith("nameserver ")]


class DnsServer(socketserver.ThreadingUDPServer):
    daemon_threads = True
    allow_reuse_address = True


def start(address, guests, folder):
    """Both relays, in threads of this process; returns what could not be started."""
    problems = []
    os.makedirs(folder, exist_ok=True)
    for make in (lambda: ProxyServer(address, ipaddress.ip_network(guests), folder), lambda: DnsServer((address, DNS_PORT), Dns)):
        try:
            threading.Thread(target=make().serve_forever, daemon=True).start()
        except OSError as error:
            problems.append(error)
    return problems
