"""Cases: what is asked of an agent, and the answer.

A case is a function of a Target that returns what came back, in a form that says nothing about the
machine, the time, or numbers that were given out. The answer is that of our agent; where E2B's differs
from it, that is written down with the reason in differences.py, and nowhere else.
"""

CASES = {}


class Case:
    def __init__(self, ask, answer):
        self.ask = ask
        self.answer = answer


def add(name, ask, answer):
    assert name not in CASES, name
    CASES[name] = Case(ask, answer)


def case(answer):
    """One case, named as its function."""
    def keep(ask):
        add(ask.__name__.replace("_", " "), ask, answer)
        return ask
    return keep


def table(title, *rows):
    """Cases that ask the same of different things. A row: name, answer, arguments of the function."""
    def keep(ask):
        for name, answer, *args in rows:
            add("%s: %s" % (title, name), lambda t, args=args: ask(t, *args), answer)
        return ask
    return keep
