"""Fetching a page of a sandbox as a browser does: every name below localhost is this machine."""

import http.client
import urllib.parse


def fetch(url, headers=None, timeout=10):
    """Status and body of a GET."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname
    address = "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host
    connection = http.client.HTTPConnection(address, parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/", headers={"Host": parts.netloc, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
