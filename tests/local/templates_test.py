"""Templates beside `base`, in both tiers: what template.json says is what sandboxes are."""

import json
import os
import re
import shutil
import signal
import subprocess
from urllib.parse import quote

import pytest
from harness import programs
from roots import give_everybody, give_libraries, make_debian, make_tiny
from tiers import TIERS, Place
from wire import Api, Sandbox

MB = 1 << 20
CAN_LOOP = os.access("/dev/loop-control", os.W_OK)
SERVER = "httpd -f -p 127.0.0.1:8080 -h /srv/www"
TINY = {"rootfs": "root", "user": "app", "workdir": "/srv/new/here", "aliases": ["small", "sm"],
        "envs": {"GREETING": "hello there", "LEVEL": "template"}, "memoryMB": 300, "cpuCount": 0.5,
        "diskSizeMB": 24, "inodes": 1000, "pids": 40, "openFiles": 100}
DEBIAN = {"rootfs": "../tiny/debian", "startCmd": "sleep 0.5; exec busybox " + SERVER,
          "readyCmd": "busybox wget -q -O /tmp/ready http://127.0.0.1:8080/", "diskSizeMB": 30}
HOST = {"envs": {"WHERE": "on the host's system"}, "startCmd": "echo started > ~/started",
        "readyCmd": "test -s ~/started", "memoryMB": 200, "diskSizeMB": 10}
BROKEN = {"startCmd": "exit 3", "readyCmd": "false"}
NOBODY = {"user": "nobody-at-all"}
ON_DISK = {"rootfs": "../tiny/debian", "disk": "disk", "memoryMB": 200, "diskSizeMB": 40,
           "inodes": 2000, "startCmd": "sleep 1000"}


def write(folder, **templates):
    for name, said in templates.items():
        (folder / name).mkdir(exist_ok=True)
        text = said if isinstance(said, str) else json.dumps(said)
        (folder / name / "template.json").write_text(text, encoding="utf-8")


class World:
    """A place with templates; there, a server that can be killed and come back."""

    def __init__(self, tier):
        self.place = Place(tier)
        self.templates = self.place.folder / "templates"
        self.templates.mkdir()
        self.has_disks = self.place.tier == "A" and CAN_LOOP
        write(self.templates, tiny=TINY, debian=DEBIAN, host=HOST, broken=BROKEN, nobody=NOBODY,
              **({"on-disk": ON_DISK} if self.has_disks else {}))
        make_tiny(self.templates / "tiny/root")
        make_debian(self.templates / "tiny/debian")
        if programs.is_sanitized("runtime/local/e2b-local"):
            for name in ("root", "debian"):
                give_libraries(self.templates / "tiny" / name,
                               programs.find("runtime/local/agent/agent"))
        give_everybody(self.place.folder)
        self.start()

    def start(self):
        self.local = self.place.start("--template-dir=%s" % self.templates)
        self.api = Api(self.local.address)

    def close(self):
        self.local.stop()
        self.place.close()


@pytest.fixture(scope="module", params=TIERS)
def world(request):
    world = World(request.param)
    yield world
    world.close()


@pytest.fixture
def create(world):
    made = []

    def make(template, **fields):
        made.append(world.api.create(templateID=template, **{"timeout": 300, **fields}))
        if template in ("tiny", "small", "sm"):
            made[-1].shell = "/bin/sh"
        return made[-1]
    yield make
    for sandbox in made:
        sandbox.api = world.api
        sandbox.delete()


@pytest.fixture
def tier(world):
    return world.place.tier


def out(sandbox, command):
    code, output = sandbox.run(command)
    assert code == 0, output
    return output.decode().strip()


def post(sandbox, what, body=None):
    return sandbox.api.call("POST", "/sandboxes/%s/%s" % (sandbox.id, what), body or {})


def commands(sandbox):
    answer = sandbox.request("POST", "/process.Process/List", "{}",
                             headers={"Content-Type": "application/json"})
    return [" ".join(p["config"]["args"]) for p in answer.json["processes"]]


def refusal(world, template):
    answer = world.api.call("POST", "/v2/sandboxes", {"templateID": template})
    return answer.status, answer.json["message"]


# --- systems ---


def test_a_root_of_one_static_program(create):
    sandbox = create("tiny")
    assert out(sandbox, "id -un; pwd; echo $HOME $GREETING").split("\n") == [
        "app", "/srv/new/here", "/srv/app hello there"]
    assert out(sandbox, "cat /srv/app/text /etc/hostname").split("\n") == [
        "of the image", "e2b.local"]
    assert out(sandbox, "stat -c %u:%a /srv/new/here") == "1000:755"
    assert sandbox.run("test -e /usr/bin/python3 || test -e /home/user/.bashrc")[0] != 0
    assert out(sandbox, "echo changed > new && cat new") == "changed"
    listed = out(sandbox, "ls /").split()
    assert {"bin", "dev", "etc", "home", "lib", "proc", "srv", "tmp"} <= set(listed)


def test_files_belong_to_the_usual_user_too(create):
    sandbox = create("tiny")
    answer = sandbox.request("POST", "/files?path=file&username=user", b"text", headers={
        "Content-Type": "application/octet-stream"})
    assert answer.status == 200, answer.body
    assert sandbox.request("GET", "/files?path=/home/user/file&username=user").body == b"text"


def test_a_sandbox_changes_nothing_of_the_template(world, create):
    sandbox = create("debian")
    assert out(sandbox, "cat /etc/marker /srv/www/index.html").split("\n") == [
        "from the image", "served"]
    sandbox.run("rm -rf /srv/www /etc/marker; echo x > /etc/marker; touch /usr/bin/new")
    root = world.templates / "tiny/debian"
    assert (root / "etc/marker").read_text(encoding="ascii") == "from the image\n"
    assert (root / "srv/www/index.html").exists() and not (root / "usr/bin/new").exists()
    assert "user" not in (root / "etc/passwd").read_text(encoding="ascii")
    assert out(create("debian"), "cat /etc/marker; id -un").split("\n") == [
        "from the image", "user"]


@pytest.mark.skipif(os.geteuid() != 0, reason="ids are mapped by root")
def test_root_of_the_image_is_root_inside(create, tier):
    if tier == "B":
        pytest.skip("there is no root in this tier")
    sandbox = create("debian")
    assert out(sandbox, "stat -c %U /etc/marker /usr/bin/bash /etc").split() == ["root"] * 3
    code, output = sandbox.run("sudo bash -c 'echo by root > /etc/marker && cat /etc/marker'")
    assert (code, output) == (0, b"by root\n")


def test_the_hosts_system_with_other_settings(create):
    sandbox = create("host")
    assert out(sandbox, "echo $WHERE; cat ~/started; python3 -c 'print(1)'").split("\n") == [
        "on the host's system", "started", "1"]


# --- start and ready ---


def test_a_sandbox_is_there_when_it_is_ready(create):
    sandbox = create("debian")
    assert sandbox.request("GET", "/", port=8080).body == b"served\n"
    assert any(SERVER in command for command in commands(sandbox))


def test_a_start_that_fails_fails_the_creation(world):
    status, message = refusal(world, "broken")
    assert status >= 400 and "start command ended with exit code 3" in message
    status, message = refusal(world, "nobody")
    assert status >= 400 and "template's user: invalid username: 'nobody-at-all'" in message
    assert not [s for s in world.api.call("GET", "/v2/sandboxes").json
                if s["templateID"] in ("broken", "nobody")]


def test_a_request_overrides_the_templates_environment(create):
    sandbox = create("tiny", envVars={"LEVEL": "request", "MORE": "yes"})
    assert out(sandbox, "echo $LEVEL $MORE $GREETING") == "request yes hello there"


# --- limits ---


def test_limits_are_told_and_hold(create):
    sandbox = create("tiny")
    told = sandbox.get().json
    assert (told["cpuCount"], told["memoryMB"], told["diskSizeMB"]) == (1, 300, 24)
    code, output = sandbox.run("dd if=/dev/zero of=/tmp/much bs=1M count=40; wc -c < /tmp/much")
    written = int(output.split()[-1])
    assert b"No space left" in output and 20 * MB <= written <= 24 * MB
    sandbox.run(": > /tmp/much")
    _, output = sandbox.run("mkdir /tmp/d; cd /tmp/d; "
                            "for i in $(seq 1200); do touch $i || break; done; ls | wc -l")
    assert 700 < int(output.split()[-1]) < 1000
    _, output = sandbox.run("ulimit -n; for i in $(seq 60); do sleep 2 >/dev/null & done; echo end")
    assert output.split()[0] == b"100" and b"fork" in output


def test_memory_is_bounded(world, create):
    if programs.is_sanitized("runtime/local/e2b-local"):
        pytest.skip("a sanitized agent cannot live with a limit on its own memory")
    for name in ("host",) + (("on-disk",) if world.has_disks else ()):
        sandbox = create(name)
        hold = "dd if=/dev/zero of=/dev/null count=1 bs=%dM"
        assert sandbox.run(hold % 100)[0] == 0, name
        assert sandbox.run(hold % 300)[0] != 0, name


# --- disks ---


@pytest.fixture
def on_disk(world, create):
    if not world.has_disks:
        pytest.skip("an ordinary user's disks are in memory, and so is root's without loop devices")
    return lambda: create("on-disk")


def loops():
    """Loop devices of files that have no name, as those of disks."""
    found = set()
    for name in os.listdir("/sys/block"):
        try:
            with open("/sys/block/%s/loop/backing_file" % name, encoding="utf-8") as f:
                found.add(f.read().strip())
        except OSError:
            continue
    return found


def test_a_disk_has_its_size_and_goes_with_its_sandbox(world, on_disk):
    sandbox = on_disk()
    assert sandbox.get().json["diskSizeMB"] == 40
    code, output = sandbox.run("dd if=/dev/zero of=~/much bs=1M count=60; wc -c < ~/much")
    written = int(output.split()[-1])
    assert b"No space left" in output and 40 * MB <= written <= 46 * MB
    assert out(sandbox, "rm ~/much; dd if=/dev/zero of=~/again bs=1M count=30 2>&1; stat -f -c %T /"
               ).split()[-1] == "ext2/ext3"
    assert out(sandbox, "sudo chown root:root ~/again; stat -c %U ~/again") == "root"
    mine = [name for name in loops() if sandbox.id in name]
    assert len(mine) == 1
    assert sandbox.delete().status == 204
    programs.wait_until(lambda: not [n for n in loops() if sandbox.id in n], 30, "the device to go")


def test_a_disks_inodes_are_bounded(on_disk):
    code, output = on_disk().run(
        "mkdir ~/d; cd ~/d; for i in {1..3000}; do : > $i || break; done 2>/dev/null; ls | wc -l")
    assert 1500 < int(output.split()[-1]) < 2100


# --- what comes of sandboxes ---


def assert_like_the_template(sandbox, **limits):
    told = sandbox.get().json
    assert {key: told[key] for key in limits} == limits, told


def test_copies_keep_the_settings(world, create):
    sandbox = create("tiny", envVars={"LEVEL": "request"})
    sandbox.run("echo kept > file")
    forked = post(sandbox, "fork", {"timeout": 60})
    assert forked.status == 201, forked.body
    fork = Sandbox(world.api, forked.json[0]["sandbox"])
    taken = post(sandbox, "snapshots", {"name": "of-tiny"}).json
    write(world.templates, tiny={"memoryMB": 64, **{k: TINY[k] for k in ("rootfs", "aliases")}})
    reload(world)
    try:
        for copy in (fork, create(taken["snapshotID"]), create("of-tiny")):
            copy.shell = "/bin/sh"
            assert_like_the_template(copy, cpuCount=1, memoryMB=300, diskSizeMB=24)
            assert out(copy, "cat file; id -un; pwd; echo $GREETING").split("\n") == [
                "kept", "app", "/srv/new/here", "hello there"]
        assert_like_the_template(create("tiny"), memoryMB=64)
        found = world.api.call("GET", "/v2/sandboxes?template=of-tiny").json
        assert len(found) == 2
    finally:
        write(world.templates, tiny=TINY)
        reload(world)
        fork.delete()


def test_what_starts_anew_starts_its_command_anew(create):
    sandbox = create("debian")
    sandbox.run("echo kept > ~/file")
    assert post(sandbox, "pause", {"memory": False}).status == 204
    assert sandbox.api.call("POST", "/v2/sandboxes/%s/connect" % sandbox.id, {}).status == 201
    assert out(sandbox, "cat ~/file") == "kept"
    assert sandbox.request("GET", "/", port=8080).body == b"served\n"


def test_a_disk_is_saved_and_comes_back(on_disk):
    sandbox = on_disk()
    out(sandbox, "head -c 20M /dev/urandom > ~/much")
    forked = post(sandbox, "fork", {"timeout": 60}).json[0]["sandbox"]
    fork = Sandbox(sandbox.api, forked)
    assert out(fork, "wc -c < ~/much; stat -f -c %T /").split() == [str(20 * MB), "ext2/ext3"]
    assert fork.delete().status == 204


def test_another_server_goes_on_with_them(world, create):
    names = ("tiny", "debian") + (("on-disk",) if world.has_disks else ())
    sandboxes = {name: create(name) for name in names}
    stored = create("tiny")
    stored.run("echo kept > file")
    assert post(stored, "pause", {"memory": False}).status == 204
    world.local.kill()
    shutil.move(world.templates / "debian/template.json", world.templates / "saved.json")
    shutil.rmtree(world.templates / "debian")
    try:
        world.start()
        for sandbox in [*sandboxes.values(), stored]:
            sandbox.api = world.api
        assert world.api.call("POST", "/v2/sandboxes/%s/connect" % stored.id, {}).status == 201
        for sandbox in (sandboxes["tiny"], stored):
            assert_like_the_template(sandbox, cpuCount=1, memoryMB=300, diskSizeMB=24)
            assert out(sandbox, "id -un; pwd; echo $GREETING").split("\n") == [
                "app", "/srv/new/here", "hello there"]
        assert out(stored, "cat file") == "kept"
        assert sandboxes["debian"].request("GET", "/", port=8080).body == b"served\n"
        assert post(sandboxes["debian"], "fork", {"timeout": 60}).json[0].get("sandbox")
        if world.has_disks:
            assert_like_the_template(sandboxes["on-disk"], diskSizeMB=40)
            assert out(sandboxes["on-disk"], "stat -f -c %T /") == "ext2/ext3"
    finally:
        write(world.templates, debian=DEBIAN)
        os.unlink(world.templates / "saved.json")
        reload(world)


# --- the control plane ---


def reload(world):
    said = sum("templates read" in line for line in list(world.local.log))
    os.kill(world.local.pid, signal.SIGUSR2)
    programs.wait_until(
        lambda: sum("templates read" in line for line in list(world.local.log)) > said, 30,
        "the templates to be read")


def test_templates_are_found_by_all_their_names(world, create):
    for name in ("tiny", "TINY", "small", "local/tiny", "sm:default", "local/small:default"):
        sandbox = create(name)
        assert sandbox.created["templateID"] == "tiny" and sandbox.created["alias"] == "small", name
        found = world.api.call("GET", "/templates/aliases/" + quote(name, safe=""))
        assert found.json == {"templateID": "tiny", "public": True}
    for name, status in [("other/tiny", 404), ("tiny:v2", 404), ("unknown", 404), ("a b", 400)]:
        assert refusal(world, name)[0] == status
        assert world.api.call("GET", "/templates/aliases/" + quote(name, safe="")).status == status


def test_templates_are_listed(world, create):
    create("host")
    names = ["base", "broken", "debian", "host", "nobody", *["on-disk"] * world.has_disks, "tiny"]
    listed = world.api.call("GET", "/templates").json
    assert [t["templateID"] for t in listed] == names
    tiny, host = listed[-1], listed[3]
    assert tiny["names"] == tiny["aliases"] == ["tiny", "small", "sm"]
    assert (tiny["cpuCount"], tiny["memoryMB"], tiny["diskSizeMB"]) == (1, 300, 24)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", tiny["buildID"])
    assert tiny["buildStatus"] == "ready" and tiny["public"] and tiny["createdAt"].endswith("Z")
    assert host["spawnCount"] > 0 and host["lastSpawnedAt"] >= host["createdAt"]
    pages, token = [], ""
    while token is not None:
        answer = world.api.call("GET", "/v2/templates?limit=2&nextToken=" + token)
        pages.append([t["templateID"] for t in answer.json])
        token = answer.headers.get("X-Next-Token")
    assert sum(pages, []) == names and all(len(page) == 2 for page in pages[:-1])
    assert world.api.call("GET", "/v2/templates?limit=0").status == 400


def test_sandboxes_are_listed_by_template(world, create):
    made = {name: create(name).id for name in ("tiny", "host")}
    for query, wanted in [("small", "tiny"), ("local/host:default", "host")]:
        answer = world.api.call("GET", "/v2/sandboxes?template=" + quote(query, safe=""))
        assert [s["sandboxID"] for s in answer.json] == [made[wanted]]
    assert world.api.call("GET", "/v2/sandboxes?template=unknown").json == []


def test_templates_are_not_deleted_nor_hidden_by_snapshots(world, create):
    answer = world.api.call("DELETE", "/templates/tiny")
    assert answer.status == 400 and "folder" in answer.json["message"]
    answer = post(create("host"), "snapshots", {"name": "small"})
    assert answer.status == 400 and "is a template" in answer.json["message"]


# --- mistakes ---


@pytest.fixture
def one_place():
    place = Place("own")
    yield place
    place.close()


def refused_at_start(place, options=(), **templates):
    folder = place.folder / "templates"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write(folder, **templates)
    done = subprocess.run(
        [programs.find("runtime/local/e2b-local"), "--listen=127.0.0.1:0",
         "--data-dir=%s" % place.data_dir, "--template-dir=%s" % folder, *options],
        capture_output=True, timeout=60, check=False, encoding="utf-8")
    assert done.returncode == 1, done.stderr
    return json.loads(done.stderr.splitlines()[-1])["error"]


def test_mistakes_are_refused_at_the_start(one_place):
    """Which they are, template_test.c tells."""
    assert refused_at_start(one_place, web={"memoryMB": 1}) == \
        "template web/template.json: memoryMB must be a whole number from 16 to 1073741824"
    assert "template no name: its folder's name must be" in refused_at_start(
        one_place, **{"no name": {}})


def test_mistakes_later_change_nothing(world):
    write(world.templates, host={"memoryMB": "much"})
    os.kill(world.local.pid, signal.SIGUSR2)
    assert "host/template.json: memoryMB" in world.local.wait_log("templates stay as they were")
    assert world.api.create(templateID="host", timeout=60).delete().status == 204
    write(world.templates, host=HOST)
    reload(world)


def test_an_ordinary_user_has_no_disks():
    if os.geteuid() != 0:
        pytest.skip("the tests already run as an ordinary user")
    place = Place("ordinary")
    try:
        folder = place.folder / "templates"
        folder.mkdir()
        write(folder, web={"disk": "disk"})
        give_everybody(place.folder)
        with pytest.raises(RuntimeError, match='web/template.json: disk cannot be .*only root'):
            place.start("--template-dir=%s" % folder)
    finally:
        place.close()


def test_base_may_have_other_limits(one_place):
    (one_place.folder / "templates").mkdir()
    write(one_place.folder / "templates", base={"memoryMB": 333})
    local = one_place.start("--memory=64MiB",
                            "--template-dir=%s" % (one_place.folder / "templates"))
    told = Api(local.address).create(timeout=60).get().json
    assert (told["templateID"], told["memoryMB"], told["diskSizeMB"]) == ("base", 333, 2048)
    local.stop()
