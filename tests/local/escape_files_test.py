"""Out of a sandbox by way of the server: paths and links in requests about files must never lead to
the host's, however they are put.

Each path is asked for twice. First it leads nowhere, or to something else of the sandbox; then,
with a file of that name inside, to that: so the way is one that the agent goes.
"""

import http.client
import json
import shlex
import struct
import urllib.parse

import pytest
from harness import programs
from tiers import local  # noqa: F401, the fixture
from wire import Api

HOSTS, INSIDE = b"of the host", b"of the sandbox"


class Host:
    def __init__(self, folder):
        self.folder = folder / "outside"
        self.folder.mkdir(mode=0o777)
        self.folder.chmod(0o777)
        self.secret = self.folder / "secret"
        self.secret.write_bytes(HOSTS)
        self.secret.chmod(0o666)
        self.listing = {"secret"}

    def check(self):
        """Nothing was written, moved or removed."""
        assert self.secret.read_bytes() == HOSTS
        assert {path.name for path in self.folder.iterdir()} == self.listing


@pytest.fixture(scope="module")
def host(local):
    return Host(local.data_dir.parent)


BY_ALL = pytest.mark.parametrize("local, who", [("own", "user"), ("own", "root"),
                                                 ("ordinary", "user")],
                                 indirect=True, scope="module")

# {secret} is the absolute path of a file of the host, {folder} that of its directory. The links
# are made by make_links().
WAYS = [
    "{secret}",
    "../../../../../../../../..{secret}",
    "/home/user/../..{secret}",
    "/tmp/./..//../..{secret}",
    "/proc/self/root{secret}",
    "/proc/self/cwd/../../../..{secret}",
    "/proc/1/root{secret}",
    "/dev/../..{secret}",
    "/usr/../../..{secret}",
    "/home/user/link",
    "/home/user/link_up",
    "/home/user/link_to_folder/secret",
    "/home/user/link_to_root{secret}",
    "/home/user/link_by_proc",
    "/home/user/links/a/b/secret",
]
# Links below /proc are not followed by all that is asked for, for it is the agent who asks.
MAY_FAIL = {"/proc/1/root{secret}", "/proc/self/root{secret}", "/proc/self/cwd/../../../..{secret}",
            "/home/user/link_by_proc"}


def make_links(sandbox, host):
    assert sandbox.run(
        "cd && ln -sfn {s} link && ln -sfn ../../../../..{s} link_up && "
        "ln -sfn {f} link_to_folder && ln -sfn / link_to_root && ln -sfn /proc/1/root{s} "
        "link_by_proc && rm -rf links && mkdir links links/c && ln -s c links/a && "
        "ln -s {f} links/c/b".format(s=host.secret, f=host.folder))[0] == 0


@pytest.fixture
def who(request):
    return request.param


@pytest.fixture
def sandbox(who, local, host):
    """A new one, and by whom its files are asked for."""
    if who == "root" and local.ready["tier"] == "B":
        pytest.skip("tier B has no root inside")
    made = Api(local.address).create(timeout=600)
    made.who = who
    make_links(made, host)
    yield made
    made.delete()
    host.check()


def query(sandbox, path):
    return "/files?" + urllib.parse.urlencode({"path": path, "username": sandbox.who})


def get(sandbox, path):
    return sandbox.request("GET", query(sandbox, path))


def put(sandbox, path, data):
    return sandbox.request("POST", query(sandbox, path), data,
                           headers={"Content-Type": "application/octet-stream"})


def rpc(sandbox, method, **message):
    return sandbox.request("POST", "/filesystem.Filesystem/" + method, json.dumps(message),
                           headers={"Content-Type": "application/json"})


def compose(sandbox, sources, destination):
    return sandbox.request("POST", "/files/compose", json.dumps(
        {"source_paths": sources, "destination": destination, "username": sandbox.who}),
        headers={"Content-Type": "application/json"})


def make_inside(sandbox, host):
    """The same names inside: a file of its own where the host has one."""
    code, output = sandbox.run("mkdir -p %s 2>/dev/null || sudo mkdir -p %s && sudo chmod -R a+rwX "
                               "%s && printf '%s' > %s" % (host.folder, host.folder, host.folder,
                                                         INSIDE.decode(), host.secret))
    assert code == 0, output


def ways(host):
    return [(way, way.format(secret=host.secret, folder=host.folder)) for way in WAYS]


@BY_ALL
def test_download(sandbox, host):
    for way, path in ways(host):
        answer = get(sandbox, path)
        assert HOSTS not in answer.body and answer.status != 200, way
    make_inside(sandbox, host)
    for way, path in ways(host):
        answer = get(sandbox, path)
        assert HOSTS not in answer.body
        assert (answer.status, answer.body) == (200, INSIDE) or way in MAY_FAIL, (way, answer.body)


@BY_ALL
def test_stat_and_list(sandbox, host):
    for method in ("Stat", "ListDir"):
        for way, path in ways(host):
            path = path if method == "Stat" else path.replace("/secret", "")
            if method == "ListDir" and "link" in way and "folder" not in way:
                continue
            answer = rpc(sandbox, method, path=path)
            # Of a link that leads nowhere there is something to tell.
            assert answer.status != 200 or (
                "link" in way and "symlinkTarget" in answer.json["entry"] and
                answer.json["entry"].get("size") != str(len(HOSTS))), (method, way, answer.body)
    make_inside(sandbox, host)
    for way, path in ways(host):
        answer = rpc(sandbox, "Stat", path=path)
        assert answer.status == 200 or way in MAY_FAIL, (way, answer.body)


@BY_ALL
def test_upload(sandbox, host):
    make_inside(sandbox, host)
    for i, (way, path) in enumerate(ways(host)):
        data = b"upload %d" % i
        answer = put(sandbox, path, data)
        host.check()
        inside = sandbox.run("cat %s" % host.secret)[1]
        # A link may be replaced by the file instead of being followed.
        assert (answer.status == 200 and data in (inside, get(sandbox, path).body)) or \
            way in MAY_FAIL, (way, answer.body)


@BY_ALL
def test_upload_where_nothing_is(sandbox, host):
    for i, (way, path) in enumerate(ways(host)):
        put(sandbox, path.replace("secret", "new-%d" % i), b"x")
        host.check()


@BY_ALL
def test_compose(sandbox, host):
    assert put(sandbox, "/tmp/part", b"part").status == 200
    for way, path in ways(host):
        compose(sandbox, [path, "/tmp/part"], "/tmp/composed")
        assert HOSTS not in get(sandbox, "/tmp/composed").body, way
        put(sandbox, "/tmp/part", b"part")
    make_inside(sandbox, host)
    put(sandbox, "/tmp/part", b"part")
    assert compose(sandbox, [str(host.secret), "/tmp/part"], "/tmp/composed").status == 200
    assert get(sandbox, "/tmp/composed").body == INSIDE + b"part"
    for way, path in ways(host):
        put(sandbox, "/tmp/part", b"part")
        compose(sandbox, ["/tmp/part"], path)
        host.check()


@BY_ALL
def test_move_remove_and_make(sandbox, host):
    for way, path in ways(host):
        put(sandbox, "/tmp/moved", b"x")
        rpc(sandbox, "Move", source="/tmp/moved", destination=path)
        rpc(sandbox, "Move", source=path, destination="/home/user/taken")
        assert HOSTS not in get(sandbox, "/home/user/taken").body
        rpc(sandbox, "Remove", path=path)
        rpc(sandbox, "MakeDir", path=path.replace("secret", "made"))
        host.check()
        make_links(sandbox, host)
    # The same requests do work on what is the sandbox's.
    make_inside(sandbox, host)
    assert rpc(sandbox, "Move", source=str(host.secret),
               destination="/home/user/now-here").status == 200
    assert get(sandbox, "/home/user/now-here").body == INSIDE
    assert rpc(sandbox, "Remove", path="/home/user/now-here").status == 200


class Watch:
    def __init__(self, sandbox, path):
        payload = json.dumps({"path": path}).encode()
        self.connection = http.client.HTTPConnection(sandbox.api.address, timeout=30)
        self.connection.request(
            "POST", "/filesystem.Filesystem/WatchDir",
            struct.pack(">BI", 0, len(payload)) + payload,
            {**sandbox.headers(), "Content-Type": "application/connect+json"})
        self.response = self.connection.getresponse()

    def next(self):
        flags, size = struct.unpack(">BI", self.response.read(5))
        return json.loads(self.response.read(size)), bool(flags & 2)

    def close(self):
        self.response.close()
        self.connection.close()


@BY_ALL
def test_watch(sandbox, host):
    paths = [str(host.folder), "/home/user/link_to_folder", "../../../.." + str(host.folder)]
    for path in paths:
        watch = Watch(sandbox, path)
        assert watch.next()[1], "it watches the host's %s" % path
        watch.close()
    make_inside(sandbox, host)
    for path in paths:
        watch = Watch(sandbox, path)
        assert watch.next() == ({"start": {}}, False)
        extra = host.folder / "seen-outside"
        extra.write_bytes(b"x")
        extra.unlink()
        sandbox.run("touch %s/seen-inside-$RANDOM" % host.folder)
        event, _ = watch.next()
        assert event["filesystem"]["name"].startswith("seen-inside"), event
        watch.close()


@BY_ALL
def test_a_link_that_changes_all_the_time(sandbox, host):
    """Between the check of a path and its use there may be another file; never the host's."""
    make_inside(sandbox, host)
    with sandbox.start("cd; while true; do ln -sfn /home/user turn; ln -sfn %s turn; done"
                       % host.folder):
        for i in range(60):
            assert HOSTS not in get(sandbox, "/home/user/turn/secret").body
            put(sandbox, "/home/user/turn/raced", b"x")
    host.check()


def test_the_daemons_keys_stay_outside(local):
    key, told = "e2b_" + "5ec7e7" * 7, "told-to-the-daemon-alone"
    program = programs.Program(
        "e2b-local", [programs.find("runtime/local/e2b-local"), "--listen=127.0.0.1:0",
                      "--data-dir=%s" % (local.data_dir.parent / "keys"), "--api-key=" + key],
        env={"TOLD": told})
    try:
        program.wait_ready()
        with open("/proc/%d/environ" % program.pid, "rb") as f:
            assert told.encode() in f.read()  # it is there to be found
        sandbox = Api(program.address, key=key).create(envVars={"FINDABLE": "find-" + told[:4]})
        # Built from pieces, or the search would come upon itself.
        search = ("k=%s; n=%s; for w in $k''%s $n''%s find-$n; do "
                  "printf %%s $w | grep -rlsaF -D skip -f - "
                  "/proc/[0-9]*/environ /proc/[0-9]*/cmdline /etc /run /tmp /var /home /dev/shm "
                  "2>/dev/null | { read -r at && echo $w $at; }; done"
                  % (key[:12], told[:4], key[12:], told[4:]))
        for runner in ("", "sudo -E "):
            _, output = sandbox.run(runner + "bash -c " + shlex.quote(search))
            found = [line.split()[0] for line in output.decode().splitlines() if " /" in line]
            assert found == ["find-" + told[:4]], output
    finally:
        program.stop()
