"""Serves the tally of a text: serve.py FILE PORT."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from tally import Tally
from tally.page import page


def main(path, port):
    with open(path, encoding="utf-8") as f:
        body = page(f"Words of {path}", Tally().read(f.read())).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    print(f"serving {path} on port {port}", flush=True)
    HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
