"""A tally as a page."""

import html


def page(title, tally, n=10):
    rows = "".join(
        f"<tr><td>{html.escape(word)}</td><td>{count}</td></tr>" for word, count in tally.top(n))
    return (
        f"<!doctype html><title>{html.escape(title)}</title><h1>{html.escape(title)}</h1>"
        f"<p>{tally.total} words</p><table>{rows}</table>")
