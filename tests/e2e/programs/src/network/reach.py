"""Tries to reach what guests may not: each way of writing an address, over TCP and UDP.

Arguments: a port at which the host listens at all its addresses, a unix socket of the host's, and the host's
addresses. Prints a line per try that did anything but fail with ECONNREFUSED, how many there were, and whether
they failed at once.
"""

import errno
import http.server
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

PORT, UNIX, OWN = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
IPV4 = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001",
    "127.0.0.2", "127.255.255.254", "127.0.1.1", "0", "0.0.0.0", "0x0", "00.0.0.0",
    "169.254.169.254", "169.254.0.1", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.16689662",
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.17.0.1", "172.31.255.254", "192.168.0.1", "192.168.1.1",
    "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "8.8.8.8", "1.1.1.1", "0x08080808", "134744072", "93.184.216.34",
    "240.0.0.1", "224.0.0.1", "239.255.255.255",
]  # fmt: skip
IPV6 = [
    "::1", "::", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:127.255.255.255",
    "::ffff:0.0.0.0",
    "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::7f00:1",
    "64:ff9b::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "2002:7f00:1::", "2002:a9fe:a9fe::",
    "2001:0:7f00:1::", "fe80::1", "fe80::a9fe:a9fe", "fec0::1", "fc00::1", "fd00:ec2::254", "2001:db8::1",
    "2606:4700:4700::1111", "ff02::1",
]  # fmt: skip


def tried(what: str, family: int, kind: int, address: tuple[str, int] | str) -> None:
    tries.append(what)
    with socket.socket(family, kind) as guest:
        begin = time.monotonic()
        try:
            if kind == socket.SOCK_DGRAM and family != socket.AF_UNIX:
                guest.sendto(b"out", address)
                guest.connect(address)
                guest.send(b"out")
                guest.settimeout(5)
                guest.recv(10)
            else:
                guest.connect(address)
        except OSError as error:
            took_ms = (time.monotonic() - begin) * 1000
            if error.errno != errno.ECONNREFUSED:
                print(what, error)
            elif took_ms > 100:
                slow.append(f"{what}: {took_ms:.0f} ms")
        else:
            print(what, "was reached")


tries: list[str] = []
slow: list[str] = []
for host in IPV4 + OWN:
    packed = socket.inet_ntoa(socket.inet_aton(host))
    tried(f"tcp {host}", socket.AF_INET, socket.SOCK_STREAM, (packed, PORT))
    tried(f"udp {host}", socket.AF_INET, socket.SOCK_DGRAM, (packed, PORT))
for host in IPV6 + [f"::ffff:{host}" for host in OWN]:
    tried(f"tcp {host}", socket.AF_INET6, socket.SOCK_STREAM, (host, PORT))
    tried(f"udp {host}", socket.AF_INET6, socket.SOCK_DGRAM, (host, PORT))
tried("a unix socket of the host's", socket.AF_UNIX, socket.SOCK_STREAM, UNIX)


class Redirecting(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"http://{self.path[1:]}:{PORT}/")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
threading.Thread(target=server.serve_forever, daemon=True).start()
for host in ["127.0.0.1", "2130706433", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", *OWN]:
    tries.append(f"redirect {host}")
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{host}", timeout=20).read()
        print(host, "was reached by a redirect")
    except urllib.error.URLError as error:
        if getattr(error.reason, "errno", None) != errno.ECONNREFUSED:
            print("redirect", host, error)
print(len(tries), "tries")
print(len(slow) * 20 < len(tries) or slow)
