"""Fetching a page of a sandbox as a browser does: every name below localhost is this machine."""

import http.client
import urllib.parse


def request(method, url, body=None, headers=None, timeout=30):
    """The whole answer to any request, its body read into `content`."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname
    address = "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host
    connection = http.client.HTTPConnection(address, parts.port or 80, timeout=timeout)
    try:
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request(method, target, body=body,
                           headers={"Host": parts.netloc, **(headers or {})})
        answer = connection.getresponse()
        answer.content = answer.read()
        return answer
    finally:
        connection.close()


def fetch(url, headers=None, timeout=10):
    """Status and body of a GET."""
    answer = request("GET", url, headers=headers, timeout=timeout)
    return answer.status, answer.content
