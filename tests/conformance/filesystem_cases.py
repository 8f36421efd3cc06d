"""filesystem.Filesystem, but for watching."""

from case import case, table
from target import HOME


def file(name, path=None, size=None, **more):
    entry = {"name": name, "type": "FILE_TYPE_FILE", "path": path or "D/" + name,
             "mode": 0o644, "permissions": "-rw-r--r--", "owner": "user", "group": "user"}
    if size:
        entry["size"] = str(size)
    return {**entry, **more}


def directory(name, path=None, **more):
    return {"name": name, "type": "FILE_TYPE_DIRECTORY", "path": path or "D/" + name,
            "mode": 0o755, "permissions": "drwxr-xr-x", "owner": "user", "group": "user", **more}


@table("stat",
       ("a file", file("f", size=3), "echo ab > f", "D/f"),
       ("an empty file", file("f"), ": > f", "D/f"),
       ("a directory", directory("d"), "mkdir d", "D/d"),
       ("a directory with a slash", directory("d", "D/d/"), "mkdir d", "D/d/"),
       ("a path that is not clean", file("f", "D/d/../f"), "mkdir d; touch f", "D/d/../f"),
       ("a private file", file("f", mode=0o600, permissions="-rw-------"), "touch f; chmod 600 f",
        "D/f"),
       ("no permissions", file("f", permissions="----------", mode=None), "touch f; chmod 0 f",
        "D/f"),
       ("setuid", file("f", mode=0o755, permissions="urwxr-xr-x"), "touch f; chmod 4755 f", "D/f"),
       ("setgid", file("f", mode=0o755, permissions="grwxr-xr-x"), "touch f; chmod 2755 f", "D/f"),
       ("setuid and setgid", file("f", mode=0o755, permissions="ugrwxr-xr-x"),
        "touch f; chmod 6755 f", "D/f"),
       ("sticky", directory("d", mode=0o777, permissions="dtrwxrwxrwx"), "mkdir d; chmod 1777 d",
        "D/d"),
       ("a link to a file", file("l", permissions="Lrwxrwxrwx", symlinkTarget="D/f"),
        "touch f; ln -s f l", "D/l"),
       ("a link to a directory", directory("l", permissions="Lrwxrwxrwx", symlinkTarget="D/d"),
        "mkdir d; ln -s d l", "D/l"),
       ("a link to a link", file("l", permissions="Lrwxrwxrwx", symlinkTarget="D/f", mode=0o600),
        "touch f; chmod 600 f; ln -s f k; ln -s k l", "D/l"),
       ("a broken link", {"name": "l", "path": "D/l", "permissions": "Lrwxrwxrwx",
                          "owner": "user", "group": "user", "symlinkTarget": "D/l"},
        "ln -s nowhere l", "D/l"),
       ("a link to itself", {"name": "l", "path": "D/l", "permissions": "Lrwxrwxrwx",
                             "owner": "user", "group": "user", "symlinkTarget": "D/l"},
        "ln -s l l", "D/l"),
       ("a pipe", {"name": "p", "path": "D/p", "mode": 0o644, "permissions": "prw-r--r--",
                   "owner": "user", "group": "user"}, "mkfifo p", "D/p"),
       ("of root", directory("/", "/", owner="root", group="root"), "true", "/"),
       ("a device", {"name": "null", "path": "/dev/null", "mode": 0o666,
                     "permissions": "Dcrw-rw-rw-", "owner": "root", "group": "root"}, "true",
        "/dev/null"),
       ("odd characters", file("ä b\n☃"), "touch $'ä b\\n☃'", "D/ä b\n☃"),
       ("nothing", "not_found", "true", "D/nothing"),
       ("below a file", "not_found", "touch f", "D/f/x"),
       ("a home that is not one's own", "invalid_argument", "true", "~root"))
def stat(t, setup, path):
    t.sh(setup)
    answer = t.rpc("Stat", path=path.replace("D", t.dir) if path.startswith("D") else path)
    if not isinstance(answer, dict):
        return answer
    entry = t.entry(answer["entry"])
    if entry["name"] in ("/", "null"):
        entry.pop("size", None)
        if entry["name"] == "null":  # the host's, and nobody's inside
            entry["owner"] = entry["group"] = "root"
    if "mode" not in entry and entry["permissions"] == "----------":
        entry["mode"] = None
    return entry


@table("path",
       ("empty", HOME, ""),
       ("home", HOME, "~"),
       ("home with a slash", HOME, "~/"),
       ("dot", HOME, "."),
       ("relative", HOME + "/x", "x"),
       ("below home", HOME + "/x", "~/x"),
       ("relative, not clean", HOME + "/x", "./y/..//x"),
       ("above home", "/home", ".."),
       ("above the root", "/", "../../../.."),
       ("absolute, not clean", "//home//user/../user/x", "//home//user/../user/x"))
def path(t, asked):
    t.rpc("Remove", path="x")
    t.sh("touch ~/x")
    answer = t.rpc("Stat", path=asked)
    return answer["entry"]["path"]


@case(("not_found", True))
def what_is_not_found_is_said(t):
    code, text = t.rpc("Stat", path=t.at("x"), said=True)
    return code, text.startswith("file not found: ") and t.at("x") in text


@case("/root")
def paths_start_at_the_home_of_the_user(t):
    return t.rpc("Stat", path="~", headers=t.as_root)["entry"]["path"]


@case(file("f", metadata={"a": "1", "b-c": "two words"}))
def stat_tells_metadata(t):
    t.put("f", "", headers={"X-Metadata-A": "1", "X-Metadata-B-C": "two words"})
    return t.entry(t.rpc("Stat", path=t.at("f"))["entry"])


TREE = "mkdir -p b/y/deep a; touch b/x b/y/z c .hidden B; ln -s b link"


@table("list",
       ("one level", [".hidden", "B", "a", "b", "c", "link"], "D", None),
       ("depth 0 is 1", [".hidden", "B", "a", "b", "c", "link"], "D", 0),
       ("two levels", [".hidden", "B", "a", "b", "b/x", "b/y", "c", "link"], "D", 2),
       ("all levels", [".hidden", "B", "a", "b", "b/x", "b/y", "b/y/deep", "b/y/z", "c", "link"],
        "D", 10),
       ("a slash behind", ["b/x", "b/y"], "D/b/", 1),
       ("an empty directory", [], "D/a", 1),
       ("through a link", ["link/x", "link/y"], "D/link", 1),
       ("through a link, two levels", ["link/x", "link/y", "link/y/deep", "link/y/z"], "D/link", 2),
       ("not clean", ["b/x", "b/y"], "D/a/../b", 1),
       ("a file", "invalid_argument", "D/c", 1),
       ("nothing", "not_found", "D/nothing", 1),
       ("below a file", "not_found", "D/c/x", 1))
def list_directory(t, path, depth):
    t.sh(TREE)
    wanted = {"path": path.replace("D", t.dir)}
    if depth is not None:
        wanted["depth"] = depth
    answer = t.rpc("ListDir", **wanted)
    if not isinstance(answer, dict):
        return answer
    return [e["path"].removeprefix(t.dir + "/") for e in answer.get("entries", [])]


@case("failed_precondition")
def list_a_loop_of_links(t):
    t.sh("ln -s b a; ln -s a b")
    return t.rpc("ListDir", path=t.at("a"))


@case([file("f", size=1), file("l", permissions="Lrwxrwxrwx", symlinkTarget="D/f")])
def list_tells_all_of_an_entry(t):
    t.sh("printf x > f; ln -s f l")
    return [t.entry(e) for e in t.rpc("ListDir", path=t.dir)["entries"]]


@case({})
def list_an_empty_directory_says_nothing(t):
    return t.rpc("ListDir", path=t.dir)


@case(["bad\N{REPLACEMENT CHARACTER}name", "good"])
def list_a_name_that_is_no_text(t):
    t.sh("touch $'bad\\xffname' good")
    answer = t.rpc("ListDir", path=t.dir)
    return [e["name"] for e in answer["entries"]] if isinstance(answer, dict) else answer


@table("make a directory",
       ("new", directory("d"), "true", "D/d"),
       ("with its parents", directory("c", "D/a/b/c"), "true", "D/a/b/c"),
       ("with a slash", directory("d", "D/d/"), "true", "D/d/"),
       ("that is there", "already_exists", "mkdir d", "D/d"),
       ("that is a file", "invalid_argument", "touch d", "D/d"),
       ("that is a link to one", "already_exists", "mkdir e; ln -s e d", "D/d"),
       ("below a file", "internal", "touch f", "D/f/d"),
       ("where root only may", directory("d", "/opt/made/d"), "true", "/opt/made/d"))
def make_directory(t, setup, path):
    t.sh(setup)
    if path.startswith("/"):
        t.rpc("Remove", path="/opt/made")
    answer = t.rpc("MakeDir", path=path.replace("D", t.dir))
    return t.entry(answer["entry"]) if isinstance(answer, dict) else answer


@case("user user\nuser user\n")
def new_parents_belong_to_the_user(t):
    t.rpc("MakeDir", path=t.at("a/b"))
    return t.sh("stat -c '%U %G' a a/b")


@case(("already_exists", "directory already exists: D"))
def make_a_directory_twice_is_said(t):
    return tuple(t.short(t.rpc("MakeDir", path=t.dir, said=True)))


@table("move",
       ("a file", file("g", size=2), "echo a > f", "f", "g"),
       ("into a new directory", file("g", "D/x/y/g", size=2), "echo a > f", "f", "x/y/g"),
       ("over a file", file("g", size=2), "echo a > f; echo bcd > g", "f", "g"),
       ("a directory", directory("e"), "mkdir d; touch d/f", "d", "e"),
       ("a directory over an empty one", "internal", "mkdir d e", "d", "e"),
       ("a directory over a full one", "internal", "mkdir d e; touch e/f", "d", "e"),
       ("a file over a directory", "internal", "touch f; mkdir d", "f", "d"),
       ("a directory over a file", "internal", "touch f; mkdir d", "d", "f"),
       ("a directory into itself", "internal", "mkdir d", "d", "d/e"),
       ("a file to itself", file("f"), "touch f", "f", "f"),
       ("a link", file("m", permissions="Lrwxrwxrwx", symlinkTarget="D/f"), "touch f; ln -s f l",
        "l", "m"),
       ("a broken link", {"name": "m", "path": "D/m", "permissions": "Lrwxrwxrwx",
                          "owner": "user", "group": "user", "symlinkTarget": "D/m"},
        "ln -s nowhere l", "l", "m"),
       ("below a file", "internal", "touch f g", "f", "g/h"),
       ("nothing", "not_found", "true", "nothing", "g"))
def move(t, setup, source, destination):
    t.sh(setup)
    answer = t.rpc("Move", source=t.at(source), destination=t.at(destination))
    return t.entry(answer["entry"]) if isinstance(answer, dict) else answer


@table("remove",
       ("a file", ({}, "d\nl\nt\n"), "f"),
       ("a directory with content", ({}, "f\nl\nt\n"), "d"),
       ("a link, and not what it leads to", ({}, "d\nf\nt\n"), "l"),
       ("a link to a directory, and not its content", ({}, "d\nf\nl\n"), "t"),
       ("nothing", ({}, "d\nf\nl\nt\n"), "nothing"),
       ("nothing in nothing", ({}, "d\nf\nl\nt\n"), "no/thing"),
       ("with a slash", ({}, "f\nl\nt\n"), "d/"))
def remove(t, name):
    t.sh("mkdir -p d/e; touch d/e/g f; ln -s f l; ln -s d t")
    answer = t.rpc("Remove", path=t.at(name))
    assert t.sh("test ! -e d || ls d/e") in ("", "g\n")
    return answer, t.sh("ls")


@case({})
def remove_what_its_user_may_not(t):
    t.sh("mkdir d; touch d/f; chmod 0 d")
    return t.rpc("Remove", path=t.at("d"))
