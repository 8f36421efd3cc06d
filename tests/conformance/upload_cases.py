"""POST /files and /files/compose."""

import gzip
import json

from case import case, table

BOUNDARY = "----b0undary"


def part(data, filename="f", name="file", disposition=None):
    if disposition is None:
        disposition = 'form-data; name="%s"; filename="%s"' % (name, filename)
    return ("--%s\r\nContent-Disposition: %s\r\n\r\n%s\r\n"
            % (BOUNDARY, disposition, data)).encode()


END = ("--%s--\r\n" % BOUNDARY).encode()


def post(t, body, query="", headers=None):
    return t.request("POST", "/files" + query, body, {
        "Content-Type": "multipart/form-data; boundary=" + BOUNDARY, **(headers or {})})


def told(t, answer):
    """What is told about the files, paths made short; or the error."""
    if answer.status != 200:
        return answer.status
    return t.short([(f["path"], f["name"], f["type"], f.get("metadata"))
                    for f in json.loads(answer.body)])


def one(path="D/f", name="f", metadata=None):
    return [[path, name, "file", metadata]]


@table("write",
       ("a file", (one(), "ab"), "f", "ab"),
       ("an empty file", (one(), ""), "f", ""),
       ("below new directories", (one("D/a/b/f"), "x"), "a/b/f", "x"),
       ("a name with blanks", (one("D/a b", "a b"), "x"), "a%20b", "x"),
       ("a path that is not clean", (one("D/a/../f"), "x"), "a/../f", "x"))
def write(t, name, data):
    if ".." in name:
        t.sh("mkdir a")
    answer = told(t, t.put(name, data))
    return answer, t.get(name).body.decode()


@table("what cannot be written",
       ("a directory", 400, "d", "application/octet-stream"),
       ("below a file", 500, "f/x", "application/octet-stream"),
       ("another type", 400, "g", "text/plain"),
       ("JSON", 400, "g", "application/json"))
def cannot_write(t, name, kind):
    t.sh("mkdir d; touch f")
    return t.put(name, "x", headers={"Content-Type": kind}).status


@case(400)
def raw_without_a_path(t):
    return t.request("POST", "/files", "x", {"Content-Type": "application/octet-stream"}).status


@case(400)
def no_type_at_all(t):
    return t.request("POST", "/files?path=" + t.at("f"), "x").status


@case((one(), "x"))
def a_type_with_parameters(t):
    answer = t.put("f", "x", headers={"Content-Type": "application/octet-stream; x=y"})
    return told(t, answer), t.get("f").body.decode()


@case("644 user user\n755 user user\n")
def new_files_belong_to_the_user(t):
    t.put("d/f", "x")
    return t.sh("stat -c '%a %U %G' d/f d")


@case("600 user user\nnew\n")
def what_is_written_over_keeps_its_mode(t):
    t.sh("printf 'old and longer' > f; chmod 600 f")
    t.put("f", "new\n")
    return t.sh("stat -c '%a %U %G' f; cat f")


@case("1\nx")
def writing_is_in_place(t):
    t.sh("touch f; ln f g")
    t.put("f", "x")
    return t.sh("test f -ef g && echo 1; cat g")


@case("l\nx")
def writing_follows_links(t):
    t.sh("ln -s f l")
    t.put("l", "x")
    return t.sh("test -L l && echo l; cat f")


# ---- forms ----

@table("a form",
       ("of one file", one(), [part("x")]),
       ("of two", one() + one("D/g", "g"), [part("x"), part("y", "D/g")]),
       ("below a new directory", one("D/a/f"), [part("x", "D/a/f")]),
       ("with other fields", one(), [part("y", name="other", filename="D/o"), part("x")]),
       ("of no file", [], [part("y", name="other", filename="D/o")]),
       ("of a field without a file name", 400, [part("x", disposition='form-data; name="file"')]),
       ("twice the same", 400, [part("x"), part("y")]),
       ("to a directory", 400, [part("x", "D")]),
       ("with a quoted quote", one('D/a"b', 'a"b'), [part("x", 'D/a\\"b')]))
def form(t, parts):
    body = b"".join(parts).replace(b'filename="f"', ('filename="%s/f"' % t.dir).encode())
    body = body.replace(b'filename="D', ('filename="' + t.dir).encode())
    return told(t, post(t, body + END))


@case((one("D/p", "p"), "x"))
def a_form_for_a_path(t):
    answer = told(t, post(t, part("x", "ignored") + END, "?path=" + t.at("p")))
    return answer, t.get("p").body.decode()


@case(400)
def a_form_of_two_for_one_path(t):
    return post(t, part("x", "a") + part("y", "b") + END, "?path=" + t.at("p")).status


@case([["/home/user/from-home", "from-home", "file", None]])
def names_in_forms_start_at_the_home(t):
    return told(t, post(t, part("x", "from-home") + END))


@case("a\r\nb\r\n--not the boundary\r\n")
def content_of_a_form_may_look_like_one(t):
    post(t, part("a\r\nb\r\n--not the boundary\r\n", t.at("f")) + END)
    return t.get("f").body.decode()


@case(one("D/ä", "ä"))
def a_form_with_an_encoded_name(t):
    disposition = "form-data; name=file; filename*=UTF-8''" + (t.dir + "/%C3%A4").replace("/", "%2F")
    return told(t, post(t, part("x", disposition=disposition) + END))


@table("a form that is none",
       ("cut", 500, part("x")[:-2]),
       ("empty", 500, b""),
       ("of words", 500, b"words"))
def bad_form(t, body):
    return post(t, body.replace(b'filename="f"', ('filename="%s/f"' % t.dir).encode())).status


@case(500)
def a_form_without_a_boundary(t):
    return post(t, part("x") + END, headers={"Content-Type": "multipart/form-data"}).status


# ---- compressed ----

@case((one(), "compressed"))
def a_compressed_file(t):
    answer = t.put("f", gzip.compress(b"compressed"), headers={"Content-Encoding": "gzip"})
    return told(t, answer), t.get("f").body.decode()


@case((one(), "compressed"))
def a_compressed_form(t):
    body = gzip.compress(part("compressed", t.at("f")) + END)
    return told(t, post(t, body, headers={"Content-Encoding": "gzip"})), t.get("f").body.decode()


@table("an encoding",
       ("identity", 200, "identity", b"x"),
       ("in capitals", 200, "GZIP", gzip.compress(b"x")),
       ("unknown", 400, "br", b"x"),
       ("that it is not", 400, "gzip", b"this is no gzip"),
       ("that is cut", 500, "gzip", gzip.compress(b"x" * 1000)[:-6]))
def encoding(t, coding, body):
    return t.put("f", body, headers={"Content-Encoding": coding}).status


@case(True)
def a_large_compressed_file(t):
    data = "".join("%d\n" % i for i in range(200000)).encode()
    t.put("f", gzip.compress(data), headers={"Content-Encoding": "gzip"})
    return t.get("f").body == data


# ---- metadata ----

@table("metadata",
       ("one", one(metadata={"a": "b"}), {"X-Metadata-A": "b"}),
       ("two", one(metadata={"a": "b", "c-d": "e f"}),
        {"X-Metadata-A": "b", "X-Metadata-C-D": "e f"}),
       ("an empty value", one(metadata={"a": ""}), {"X-Metadata-A": ""}),
       ("a key too long", 400, {"X-Metadata-" + "k" * 247: "v"}),
       ("a key as long as may be", one(metadata={"k" * 246: "v"}), {"X-Metadata-" + "k" * 246: "v"}),
       ("too much", 400, {"X-Metadata-A": "v" * 4090}),
       ("a value that is not ASCII", 400, {"X-Metadata-A": "\xe4"}),
       ("a tab in a value", 400, {"X-Metadata-A": "a\tb"}))
def metadata(t, headers):
    return told(t, t.put("f", "x", headers=headers))


@case({"c": "d"})
def metadata_is_replaced_as_a_whole(t):
    t.put("f", "x", headers={"X-Metadata-A": "b", "X-Metadata-C": "c"})
    t.put("f", "x", headers={"X-Metadata-C": "d"})
    return t.rpc("Stat", path=t.at("f"))["entry"].get("metadata")


@case(None)
def metadata_is_cleared(t):
    t.put("f", "x", headers={"X-Metadata-A": "b"})
    t.put("f", "x")
    return t.rpc("Stat", path=t.at("f"))["entry"].get("metadata")


@case("user.e2b.some-key\n")
def metadata_is_an_extended_attribute(t):
    t.put("f", "x", headers={"X-Metadata-Some-Key": "v"})
    return t.sh("python3 -c \"import os; [print(n) for n in os.listxattr('f')]\"")


# ---- compose ----

def compose(t, sources, destination="D/out", **fields):
    wanted = {"source_paths": [s.replace("D", t.dir) for s in sources],
              "destination": destination.replace("D", t.dir), **fields}
    return t.request("POST", "/files/compose", json.dumps(wanted),
                     {"Content-Type": "application/json"})


@case(({"path": "D/out", "name": "out", "type": "file"}, "onetwo", "out\n"))
def compose_files(t):
    t.sh("printf one > 1; printf two > 2")
    answer = compose(t, ["D/1", "D/2"]).json
    return t.short(answer), t.get("out").body.decode(), t.sh("ls")


@case(("new", "644 user\n"))
def compose_over_a_file_below_a_new_directory(t):
    t.sh("printf new > 1")
    compose(t, ["D/1"], "D/a/b")
    return t.get("a/b").body.decode(), t.sh("stat -c '%a %U' a/b")


@table("compose",
       ("nothing", (400, "source_paths must not be empty"), [], {}),
       ("to nowhere", (400, "destination is required"), ["D/1"], {"destination": ""}),
       ("what is not there", (404, "source file not found: D/no"), ["D/1", "D/no"], {}),
       ("a directory", (400, "source path is not a regular file: D/d"), ["D/d"], {}),
       ("into itself", (400, 'source path "D/out" cannot be the same as destination'), ["D/out"],
        {}),
       ("for an unknown user", 401, ["D/1"], {"username": "nobody-of-that-name"}),
       ("the same twice", 200, ["D/1", "D/1"], {}))
def cannot_compose(t, sources, fields):
    t.sh("printf one > 1; mkdir d")
    said = compose(t, sources, **fields).said
    return said if isinstance(said, int) else said[0] if said[0] == 401 else tuple(
        t.short(list(said)))


@case((404, "1\n"))
def nothing_is_lost_when_composing_fails(t):
    t.sh("printf one > 1")
    return compose(t, ["D/1", "D/no"]).status, t.sh("ls")


@case(400)
def compose_what_is_no_json(t):
    return t.request("POST", "/files/compose", "{", {"Content-Type": "application/json"}).status


@case("root\n")
def compose_for_root(t):
    t.sh("printf one > 1")
    assert t.as_root
    compose(t, ["D/1"], username="root")
    return t.sh("stat -c %U out")
