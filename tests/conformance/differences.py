"""Where our agent is not to answer as E2B's does, and why. Checked: what differs no more has to go."""

import collections

Difference = collections.namedtuple("Difference", "theirs reason")

DIES = object()  # the question takes E2B's agent down

CRASH = "an interval that is none takes E2B's whole agent down, with everything it runs"
BELOW_A_FILE = "what is below a file does not exist: exists() of the SDKs says so instead of failing"
BAD_RANGE = "a Range that cannot be read is ignored, as RFC 9110 section 14.2 has it"

DIFFERENCES = {
    "an interval of keepalives that is none: zero": Difference(DIES, CRASH),
    "an interval of keepalives that is none: negative": Difference(DIES, CRASH),
    "watching with an interval that is none": Difference(
        "cut", "the same, but on the request's own thread: it is cut without a word"),
    "stat: below a file": Difference("internal", BELOW_A_FILE),
    "list: below a file": Difference("internal", BELOW_A_FILE),
    "read: below a file": Difference(
        (500, "error checking if path exists 'D/f/x': stat D/f/x: not a directory"), BELOW_A_FILE),
    "list a name that is no text": Difference(
        "internal", "one name that is no UTF-8 made the whole directory unreadable"),
    "a range: of words": Difference((416, None, None), BAD_RANGE),
    "a range: of another unit": Difference((416, None, None), BAD_RANGE),
    "a range: turned round": Difference((416, None, None), BAD_RANGE),
    "a range: twice": Difference(
        (206, "several", None), "several ranges at once are for who needs them; nobody of E2B's does"),
    "a deadline that is none: negative": Difference(
        "deadline_exceeded", "a negative number of milliseconds is a mistake, and told as one"),
    "a signal that is refused: that does not exist": Difference(
        "unimplemented", "a name that is no signal is told as such, not as no signal at all"),
    "no program at all": Difference(
        "ok", "a shell ran and said that it found nothing to run; the request is what is wrong"),
    "every tag is found": Difference(
        False, "E2B's search stops at the first process of another tag"),
    "a terminal of a user is its own": Difference(
        "root\r\n", "programs that open their terminal by name (tmux, gpg, screen) may do so"),
    "streamed input: before its process": Difference(
        ("cut", []), "it reads through a null pointer, and the connection is cut without a word"),
    "watch a tree through a link": Difference(
        "internal", "the directory behind the link can be watched just as well"),
    "watch a tree: what was moved out": Difference(
        ["rename d", "create d/f"], "a directory that left the tree was still told, by a path "
                                    "that it does not have any more"),
    "what has no size until it is read": Difference(
        False, "a file of procfs came back empty, because its size is 0"),
}
