"""Drives an SDK through objects that note which of its methods ran, and with which options.

The SDK itself is not touched: what its classes give is wrapped. Every method of a wrapped object is
awaited, whether the SDK's is a coroutine or not, so that one text drives both flavours.
"""

import inspect

# Options that choose how the client waits, and what does not come from the caller.
CLIENT_ONLY = {"self", "cls", "request_timeout", "opts", "logger", "stream_idle_timeout",
               "retain_output"}


def public(cls):
    """The methods and properties of a class; those that also take an id of a sandbox, twice."""
    names = set()
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        if name.startswith("_") or not (callable(getattr(cls, name)) or isinstance(value, property)):
            continue
        names.add(name)
        if type(value).__name__ == "class_method_variant":
            names.add(name + " by id")
    return names


def options(cls):
    """"method(option)" for all that can be said to its methods."""
    found = set()
    for name in public(cls):
        value = getattr(cls, name, None)
        if callable(value):
            found |= {"%s(%s)" % (name, option) for option in inspect.signature(value).parameters
                      if option not in CLIENT_ONLY}
    return found


class Seen:
    """What ran: (class, what)."""

    def __init__(self, classes):
        self.classes = classes  # class -> the name it goes by in the table
        self.ran = set()
        self.ended = set()

    def wrap(self, value):
        if isinstance(value, list):
            return [self.wrap(item) for item in value]
        return Watched(self, value) if type(value) in self.classes else value

    def missing(self, not_applicable):
        """What neither ran nor is excused, and excuses that are not needed (any more)."""
        exposed = set()
        for cls, label in self.classes.items():
            exposed |= {"%s.%s" % (label, what) for what in public(cls) | options(cls)}
        return (sorted(exposed - self.ran - set(not_applicable)),
                sorted(set(not_applicable) - (exposed - self.ran)))


class Watched:
    def __init__(self, seen, target):
        self._seen = seen
        self._target = target

    def __getattr__(self, name):
        value = getattr(self._target, name)
        is_class = inspect.isclass(self._target)
        cls = self._target if is_class else type(self._target)
        label = self._seen.classes[cls]
        static = inspect.getattr_static(cls, name, None)
        by_id = is_class and type(static).__name__ == "class_method_variant"
        what = name + " by id" if by_id else name
        if not callable(value) or type(value) in self._seen.classes:
            self._seen.ran.add("%s.%s" % (label, what))
            return self._seen.wrap(value)

        async def call(*args, **kwargs):
            args = [a._target if isinstance(a, Watched) else a for a in args]
            self._note_options(label, cls, name, args, kwargs, by_id)
            result = value(*args, **kwargs)
            if inspect.isawaitable(result):
                result = await result
            self._seen.ran.add("%s.%s" % (label, what))
            return self._seen.wrap(result)
        return call

    def _note_options(self, label, cls, name, args, kwargs, by_id):
        names = [n for n in inspect.signature(getattr(cls, name)).parameters if n not in ("self", "cls")]
        given = names[:len(args) - (1 if by_id else 0)] + list(kwargs)
        self._seen.ran |= {"%s.%s(%s)" % (label, name, option) for option in given}

    def __iter__(self):
        return iter(self._target)
