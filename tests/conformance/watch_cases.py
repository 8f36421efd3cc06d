"""Watching directories, over a stream and by asking."""

import time

from case import case, table


def short(event):
    return event["type"].replace("EVENT_TYPE_", "").lower() + " " + event["name"]


def watched(t, setup, change, **fields):
    """Events of a change, over a stream, up to the creation of a last file."""
    t.sh("mkdir w; cd w; " + setup)
    with t.stream("WatchDir", path=t.at("w"), **fields) as stream:
        if stream.next() != {"start": {}}:
            return stream.end
        t.sh("cd w; " + change + "; cd %s/w 2>/dev/null && mkdir last-of-all || true" % t.dir)
        events = []
        while (message := stream.next()) is not None:
            event = message.get("filesystem")
            if event and event["name"] == "last-of-all":
                break
            events.append(short(event) if event else message)
        return events


@table("watch",
       ("nothing", [], "true", "true"),
       ("a new file", ["create f"], "true", ": > f"),
       ("a new file with content", ["create f", "write f"], "true", "echo x > f"),
       ("truncating", ["write f"], "echo x > f", ": > f"),
       ("a mode", ["chmod f"], "touch f", "chmod 600 f"),
       ("a time", ["chmod f"], "touch f", "touch f"),
       ("removing", ["remove f"], "touch f", "rm f"),
       ("renaming", ["rename f", "create g"], "touch f", "mv f g"),
       ("renaming over", ["rename f", "create g"], "touch f g", "mv f g"),
       ("moving in", ["create f"], "touch ../f", "mv ../f f"),
       ("moving out", ["rename f"], "touch f", "mv f ../f"),
       ("a directory", ["create d"], "true", "mkdir d"),
       ("removing a directory", ["remove d"], "mkdir d", "rmdir d"),
       ("a link", ["create l"], "true", "ln -s x l"),
       ("a second name", ["create g"], "touch f", "ln f g"),
       ("nothing below", [], "mkdir d", "touch d/f; echo x > d/f; rm d/f"),
       ("itself, its mode", ["chmod ."], "true", "chmod 700 ."),
       ("reading", [], "echo x > f", "cat f; ls > /dev/null"),
       ("odd characters", ["create ä b", "chmod ä b"], "true", "touch 'ä b'"))
def watch(t, setup, change):
    return watched(t, setup, change)


@table("watch a tree",
       ("a file below", ["create d/f", "write d/f"], "mkdir d", "echo x > d/f"),
       ("far below", ["create a/b/c/f"], "mkdir -p a/b/c", ": > a/b/c/f"),
       ("removing below", ["remove d/f"], "mkdir d; touch d/f", "rm d/f"),
       ("a new directory", ["create d"], "true", "mkdir d"),
       ("a file in a new directory", ["create d", "create d/f"], "true",
        "mkdir d; sleep 0.1; : > d/f"),
       ("many new directories", ["create a", "create a/b", "create a/b/c"], "true",
        "mkdir -p a/b/c; sleep 0.1"),
       ("renaming below", ["rename d/f", "create d/g"], "mkdir d; touch d/f", "mv d/f d/g"),
       ("moving from one to another", ["rename a/f", "create b/f"], "mkdir a b; touch a/f",
        "mv a/f b/f"),
       ("a renamed directory", ["rename a", "create b", "create b/f"], "mkdir a",
        "mv a b; sleep 0.1; : > b/f"),
       ("below a renamed directory", ["rename a", "create b", "create b/c/f"], "mkdir -p a/c",
        "mv a b; sleep 0.1; : > b/c/f"),
       ("a directory moved in", ["create d", "create d/f"], "mkdir ../d; touch ../d/f",
        "mv ../d d; sleep 0.1"),
       ("a directory moved out", ["rename d"], "mkdir d", "mv d ../d"),
       ("what was moved out", ["rename d"], "mkdir d", "mv d ../d; : > ../d/f"),
       ("removing a directory", ["remove d/f", "remove d"], "mkdir d; touch d/f", "rm -r d"),
       ("the mode of a directory", ["chmod d", "chmod d"], "mkdir d", "chmod 700 d"))
def watch_tree(t, setup, change):
    return watched(t, setup, change, recursive=True)


@table("watch what is not to be watched",
       ("nothing", "not_found", "nothing"),
       ("a file", "invalid_argument", "f"),
       ("a broken link", "not_found", "broken"))
def cannot_watch(t, name):
    t.sh("touch f; ln -s nowhere broken")
    over_stream = t.stream("WatchDir", path=t.at(name))
    assert over_stream.next() is None
    assert t.rpc("CreateWatcher", path=t.at(name)) == over_stream.end
    return over_stream.end


@case(["remove ."])
def watch_what_is_removed(t):
    t.sh("mkdir w")
    with t.stream("WatchDir", path=t.at("w")) as stream:
        stream.next()
        t.sh("rmdir w")
        return [short(stream.next()["filesystem"])]


@case(["rename ."])
def watch_what_is_moved(t):
    t.sh("mkdir w")
    with t.stream("WatchDir", path=t.at("w")) as stream:
        stream.next()
        t.sh("mv w v")
        return [short(stream.next()["filesystem"])]


@case(["create f"])
def watch_through_a_link(t):
    t.sh("mkdir w; ln -s w l")
    with t.stream("WatchDir", path=t.at("l")) as stream:
        stream.next()
        t.sh(": > w/f")
        return [short(stream.next()["filesystem"])]


@case(["create d/f"])
def watch_a_tree_through_a_link(t):
    t.sh("mkdir -p w/d; ln -s w l")
    with t.stream("WatchDir", path=t.at("l"), recursive=True) as stream:
        if stream.next() is None:
            return stream.end
        t.sh(": > w/d/f")
        return [short(stream.next()["filesystem"])]


@case([["create f", "D/f", "FILE_TYPE_FILE", "user"], ["write f", "D/f", "FILE_TYPE_FILE", "user"],
       ["chmod f", "D/f", "FILE_TYPE_FILE", "user"], ["rename f"], ["create g", "D/g",
       "FILE_TYPE_FILE", "user"], ["remove g"]])
def events_with_their_entries(t):
    with t.stream("WatchDir", path=t.dir, includeEntry=True) as stream:
        stream.next()
        events = []
        for change, n in (("echo > f", 2), ("chmod 600 f", 1), ("mv f g", 2), ("rm g", 1)):
            t.sh(change)
            for _ in range(n):
                event = stream.next()["filesystem"]
                entry = event.get("entry")
                events.append([short(event)] + ([entry["path"], entry["type"], entry["owner"]]
                                                if entry else []))
        return t.short(events)


@case(None)
def what_is_gone_has_no_entry(t):
    t.sh("touch f")
    with t.stream("WatchDir", path=t.dir, includeEntry=True) as stream:
        stream.next()
        t.sh("chmod 600 f; rm f; : > last")
        return stream.next()["filesystem"].get("entry", {}).get("size")


@case("deadline_exceeded")
def watching_has_a_deadline(t):
    with t.stream("WatchDir", {"Connect-Timeout-Ms": "200"}, path=t.dir) as stream:
        for _ in stream.messages():
            pass
        return stream.end


@case([{"start": {}}, {"keepalive": {}}])
def watching_is_kept_alive(t):
    with t.stream("WatchDir", {"Keepalive-Ping-Interval": "1"}, path=t.dir) as stream:
        return [stream.next(), stream.next()]


@case("invalid_argument")
def watching_with_an_interval_that_is_none(t):
    try:
        with t.stream("WatchDir", {"Keepalive-Ping-Interval": "0"}, path=t.dir) as stream:
            for _ in stream.messages():
                pass
            return stream.end
    except ConnectionError:
        return "cut"


# ---- by asking ----

def ask(t, watcher, n):
    """The first n events of a watcher."""
    events, end = [], time.monotonic() + 10
    while len(events) < n and time.monotonic() < end:
        events += t.rpc("GetWatcherEvents", watcherId=watcher).get("events", [])
    return [short(e) for e in events]


@case((["create f", "write f", "remove f"], {}, {}, "not_found"))
def a_watcher(t):
    watcher = t.rpc("CreateWatcher", path=t.dir)["watcherId"]
    t.sh("echo > f; rm f")
    events = ask(t, watcher, 3)
    return (events, t.rpc("GetWatcherEvents", watcherId=watcher),
            t.rpc("RemoveWatcher", watcherId=watcher),
            t.rpc("GetWatcherEvents", watcherId=watcher))


@case(["create d", "create d/f"])
def a_watcher_of_a_tree(t):
    watcher = t.rpc("CreateWatcher", path=t.dir, recursive=True)["watcherId"]
    t.sh("mkdir d; sleep 0.1; : > d/f")
    events = ask(t, watcher, 2)
    t.rpc("RemoveWatcher", watcherId=watcher)
    return events


@case("D/f")
def a_watcher_with_entries(t):
    watcher = t.rpc("CreateWatcher", path=t.dir, includeEntry=True)["watcherId"]
    t.sh(": > f")
    events = []
    while not events:
        events = t.rpc("GetWatcherEvents", watcherId=watcher).get("events", [])
    t.rpc("RemoveWatcher", watcherId=watcher)
    return t.short(events[0]["entry"]["path"])


@case((["create f"], ["create f"]))
def two_watchers_of_one_directory(t):
    watchers = [t.rpc("CreateWatcher", path=t.dir)["watcherId"] for _ in range(2)]
    t.sh(": > f")
    events = tuple(ask(t, w, 1) for w in watchers)
    for watcher in watchers:
        t.rpc("RemoveWatcher", watcherId=watcher)
    return events


@case(True)
def names_of_watchers(t):
    watcher = t.rpc("CreateWatcher", path=t.dir)["watcherId"]
    t.rpc("RemoveWatcher", watcherId=watcher)
    return watcher.startswith("w") and len(watcher) == 21 and watcher.isalnum()


@table("a watcher that is not there",
       ("asked", ("not_found", "watcher with id none not found"), "GetWatcherEvents"),
       ("removed", ("not_found", "watcher with id none not found"), "RemoveWatcher"))
def no_watcher(t, method):
    return t.rpc(method, said=True, watcherId="none")
