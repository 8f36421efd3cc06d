"""Words of a text, and how often each comes."""

import re
from collections import Counter

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def words(text):
    """The words of a text, in order, in lower case."""
    return [match.group().lower() for match in WORD.finditer(text)]


class Tally:
    """What has been read so far."""

    def __init__(self):
        self._counts = Counter()

    def read(self, text):
        self._counts.update(words(text))
        return self

    @property
    def total(self):
        return sum(self._counts.values())

    def top(self, n):
        """The n most frequent words with their counts; those that tie come in order."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:n]
