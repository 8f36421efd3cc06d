"""Sandboxes that stand still, and copies of their files."""

import os
import threading
import time
from urllib.parse import quote

import pytest
from harness import programs
from tiers import local  # noqa: F401, the fixture
from wire import Api, Sandbox, api  # noqa: F401, the fixture

BOOT_ID = "/proc/sys/kernel/random/boot_id"
COUNTER = "n=0; while true; do n=$((n + 1)); echo $n > /tmp/count; sleep 0.02; done"


@pytest.fixture
def create(api):
    made = []

    def make(**fields):
        made.append(api.create(**{"timeout": 300, **fields}))
        return made[-1]
    yield make
    for sandbox in made:
        sandbox.delete()


def post(sandbox, what, body=None):
    return sandbox.api.call("POST", "/sandboxes/%s/%s" % (sandbox.id, what), body or {})


def pause(sandbox, **body):
    answer = post(sandbox, "pause", body)
    assert answer.status == 204, answer.body


def connect(sandbox, status=201, **body):
    answer = sandbox.api.call("POST", "/v2/sandboxes/%s/connect" % sandbox.id, body)
    assert answer.status == status, answer.body
    return answer.json


def read(sandbox, path):
    code, output = sandbox.run("cat " + path)
    assert code == 0, output
    return output.decode().strip()


def count(sandbox):
    return int(read(sandbox, "/tmp/count") or 0)


def state(sandbox):
    return sandbox.get().json["state"]


# --- with memory ---


def test_processes_stand_still_and_go_on(create):
    sandbox = create(envVars={"KEPT": "yes"})
    sandbox.run("(%s) >/dev/null 2>&1 &" % COUNTER)
    programs.wait_until(lambda: count(sandbox) > 3, what="the counter")
    boot = read(sandbox, BOOT_ID)
    before = count(sandbox)
    pause(sandbox)
    assert state(sandbox) == "paused" and sandbox.health() == 502
    time.sleep(0.5)  # in which it would have counted to twenty
    connect(sandbox)
    assert state(sandbox) == "running" and sandbox.health() == 204
    assert count(sandbox) < before + 15
    programs.wait_until(lambda: count(sandbox) > before + 20, what="the counter to go on")
    assert read(sandbox, BOOT_ID) == boot
    assert sandbox.run("echo $KEPT")[1] == b"yes\n"


def test_what_was_stopped_by_hand_stays_so(create):
    sandbox = create()
    sandbox.run("(%s) >/dev/null 2>&1 & echo $! > /tmp/pid; sleep 0.2; kill -STOP $!" % COUNTER)
    pause(sandbox)
    connect(sandbox)
    assert read(sandbox, "/proc/$(cat /tmp/pid)/stat").split(") ")[1][0] == "T"


def test_lists_and_details_tell_the_state(api, create):
    sandbox = create(metadata={"test": "states"})
    running = create(metadata={"test": "states"})
    ended = sandbox.get().json["endAt"]
    pause(sandbox)
    details = sandbox.get().json
    assert details["state"] == "paused" and details["domain"] is None
    assert details["endAt"] < ended and details["envdAccessToken"] == sandbox.token

    def listed(query):
        answer = api.call("GET", "/v2/sandboxes?metadata=test%3Dstates&" + query)
        return [s["sandboxID"] for s in answer.json], answer.headers.get("X-Total-Running")
    assert listed("") == ([running.id, sandbox.id], "1")
    assert listed("state=paused") == ([sandbox.id], None)
    assert listed("state=running") == ([running.id], "1")
    assert [s["sandboxID"] for s in api.call("GET", "/sandboxes?metadata=test%3Dstates").json] == [
        running.id]


def test_a_paused_sandbox_refuses_what_is_for_running_ones(create):
    sandbox = create()
    pause(sandbox)
    for what, body in [("pause", {}), ("timeout", {"timeout": 60}), ("refreshes", {}),
                       ("fork", {}), ("snapshots", {})]:
        answer = post(sandbox, what, body)
        assert (answer.status, answer.json["code"]) == (409, 409), what
    assert sandbox.api.call("PUT", "/sandboxes/%s/network" % sandbox.id, {}).status == 409
    assert post(sandbox, "resume", {"timeout": 60}).status == 201
    assert post(sandbox, "resume", {}).status == 409
    connect(sandbox, 200)


def test_a_paused_sandbox_can_be_deleted(create):
    for body in ({}, {"memory": False}):
        sandbox = create()
        pause(sandbox, **body)
        assert sandbox.delete().status == 204 and sandbox.get().status == 404
        assert post(sandbox, "resume").status == 404


def test_a_resumed_sandbox_lives_for_its_timeout(create):
    sandbox = create()
    pause(sandbox)
    connect(sandbox, timeout=1)
    programs.wait_until(lambda: sandbox.get().status == 404, 5, "its end")


def test_connect_waits_for_the_pause(api, create):
    sandbox = create()
    sandbox.run("head -c 50M /dev/urandom > /tmp/much")
    paused = []
    thread = threading.Thread(target=lambda: paused.append(post(sandbox, "pause", {"memory": False})))
    thread.start()
    answers = {api.call("POST", "/v2/sandboxes/%s/connect" % sandbox.id, {}).status
               for _ in range(20)}
    thread.join()
    assert paused[0].status == 204 and answers <= {200, 201}
    connect(sandbox, 200 if 201 in answers else 201)
    assert sandbox.run("stat -c %s /tmp/much")[1].strip() == b"52428800"


# --- with files alone ---


def test_files_outlive_processes(create):
    sandbox = create(envVars={"KEPT": "yes"})
    code, output = sandbox.run("""
        mkdir -p ~/dir/empty && echo text > ~/dir/file && chmod 600 ~/dir/file
        ln -s file ~/dir/link && ln ~/dir/file ~/dir/hard && truncate -s 1M ~/dir/sparse
        touch -d 2001-02-03 ~/dir
        sleep 1000 >/dev/null 2>&1 &
        sleep 0.2""")
    assert code == 0, output
    look = "cd && find dir -printf '%p %y %m %U %s %TY %l %n\\n' | sort"
    before, boot = sandbox.run(look)[1], read(sandbox, BOOT_ID)
    pause(sandbox, memory=False)
    assert state(sandbox) == "paused" and sandbox.health() == 502
    connect(sandbox)
    assert sandbox.run(look)[1] == before
    assert read(sandbox, BOOT_ID) != boot
    assert sandbox.run("pgrep -x sleep")[0] == 1
    assert sandbox.run("echo $KEPT")[1] == b"yes\n"


def test_memory_can_be_left_behind_later(create):
    sandbox = create()
    sandbox.run("echo x > ~/file; sleep 1000 >/dev/null 2>&1 &")
    boot = read(sandbox, BOOT_ID)
    pause(sandbox)
    connect(sandbox, memory=False)
    assert read(sandbox, "~/file") == "x" and read(sandbox, BOOT_ID) != boot


def test_changes_to_the_system_are_kept(create, local):
    if local.ready["tier"] != "A":
        pytest.skip("tier B cannot write there")
    sandbox = create()
    assert sandbox.run("sudo sh -c 'echo new > /usr/local/new; rm /usr/bin/yes; chown 1234 "
                       "/usr/local/new; chmod 4755 /usr/local/new'")[0] == 0
    pause(sandbox, memory=False)
    connect(sandbox)
    assert sandbox.run("stat -c '%u %a' /usr/local/new; ls /usr/bin/yes")[1].startswith(b"1234 4755\n")
    assert sandbox.run("ls /usr/bin/yes")[0] != 0


def test_a_hostile_tree_is_only_its_own_problem(create):
    """What was put in the place of the system's directories is not followed."""
    sandbox = create()
    sandbox.run("rm -rf /tmp/a; mkdir -m 0 ~/closed; mkfifo ~/pipe; ln -s /etc/passwd ~/passwd; "
                "ln -s ../../../../../../.. ~/up; touch $'/tmp/new\\nline' '/tmp/--checkpoint=1'")
    pause(sandbox, memory=False)
    connect(sandbox)
    assert sandbox.run("ls -d ~/closed ~/pipe ~/passwd ~/up")[0] == 0
    assert sandbox.run("ls -A /tmp")[1].count(b"line") == 1


# --- at its end, and by traffic ---


def test_it_is_paused_at_its_end(create):
    for memory in (True, False):
        sandbox = create(timeout=1, autoPause=True, autoPauseMemory=memory)
        sandbox.run("echo kept > ~/file")
        programs.wait_until(lambda: state(sandbox) == "paused", 10, "the pause")
        assert sandbox.get().json["lifecycle"] == {"autoResume": False, "onTimeout": "pause"}
        assert sandbox.health() == 502 and state(sandbox) == "paused"
        connect(sandbox, timeout=60)
        assert read(sandbox, "~/file") == "kept"


def test_no_time_left_pauses_it_too(create):
    sandbox = create(autoPause=True)
    assert post(sandbox, "timeout", {"timeout": 0}).status == 204
    programs.wait_until(lambda: state(sandbox) == "paused", 10, "the pause")


def test_traffic_resumes_it(create):
    sandbox = create(autoPause=True, autoResume={"enabled": True})
    with sandbox.start("python3 -m http.server 8000 >/dev/null 2>&1"):
        programs.wait_until(lambda: sandbox.request("GET", "/", port=8000).status == 200)
        pause(sandbox)
        assert state(sandbox) == "paused"
    assert sandbox.request("GET", "/", port=8000).status == 200
    assert state(sandbox) == "running"


def test_files_alone_are_not_resumed_by_traffic(create):
    sandbox = create(autoResume={"enabled": True})
    pause(sandbox, memory=False)
    assert sandbox.request("GET", "/", port=8000).status == 502 and state(sandbox) == "paused"


def test_auto_resume_wants_memory(api):
    answer = api.call("POST", "/v2/sandboxes", {
        "templateID": "base", "autoPause": True, "autoPauseMemory": False,
        "autoResume": {"enabled": True}})
    assert answer.status == 400


# --- snapshots ---


def snapshot(sandbox, **body):
    answer = post(sandbox, "snapshots", body)
    assert answer.status == 201, answer.body
    return answer.json


def drop(api, snapshot_id):
    return api.call("DELETE", "/templates/" + quote(snapshot_id, safe="")).status


def test_sandboxes_start_from_a_snapshot(api, create):
    sandbox = create()
    sandbox.run("echo original > ~/file; sleep 1000 >/dev/null 2>&1 &")
    taken = snapshot(sandbox)
    assert state(sandbox) == "running" and sandbox.run("pgrep -x sleep")[0] == 0
    sandbox.run("echo later > ~/file")
    copies = [create(templateID=taken["snapshotID"]) for _ in range(2)]
    for n, copy in enumerate(copies):
        assert read(copy, "~/file") == "original"
        copy.run("echo %d > ~/file" % n)
    assert [read(s, "~/file") for s in [sandbox, *copies]] == ["later", "0", "1"]
    assert drop(api, taken["snapshotID"]) == 400  # sandboxes run from it
    for copy in copies:
        copy.delete()
    assert drop(api, taken["snapshotID"]) == 204
    assert drop(api, taken["snapshotID"]) == 404
    assert api.call("POST", "/v2/sandboxes", {"templateID": taken["snapshotID"]}).status == 404


def test_snapshots_have_names_and_are_listed(api, create):
    sandbox = create()
    first, second = snapshot(sandbox, name="named"), snapshot(sandbox)
    other = create()
    third = snapshot(other, name="named:v2")

    def listed(query=""):
        answer = api.call("GET", "/snapshots" + query)
        return [s["snapshotID"] for s in answer.json], answer.headers.get("X-Next-Token")
    assert first == {"snapshotID": "local/named:default", "names": ["local/named:default"]}
    assert second["names"] == [] and third["snapshotID"] == "local/named:v2"
    ids = [third["snapshotID"], second["snapshotID"], first["snapshotID"]]
    assert listed()[0] == ids
    assert listed("?sandboxID=" + sandbox.id)[0] == ids[1:]
    assert listed("?name=named")[0] == [ids[0], ids[2]]
    assert listed("?name=unknown")[0] == []
    page, token = listed("?limit=2")
    assert page == ids[:2] and listed("?limit=2&nextToken=" + token) == (ids[2:], None)
    assert read(create(templateID="named"), "/dev/null") == ""
    create(templateID="local/named:v2")
    assert post(sandbox, "snapshots", {"name": "no name"}).status == 400
    again = snapshot(other, name="named")  # takes the older one's place
    assert listed()[0] == [again["snapshotID"]] + ids[:2]


# --- forks ---


def test_forks_are_copies_that_go_their_own_ways(api, create):
    sandbox = create(metadata={"kept": "yes"}, envVars={"KEPT": "yes"})
    sandbox.run("echo original > ~/file")
    answer = post(sandbox, "fork", {"count": 3, "timeout": 60})
    assert answer.status == 201 and len(answer.json) == 3
    ids = {f["sandbox"]["sandboxID"] for f in answer.json}
    assert len(ids | {sandbox.id}) == 4
    for fork in answer.json:
        copy = Sandbox(api, fork["sandbox"])
        assert copy.token and copy.token != sandbox.token
        assert read(copy, "~/file") == "original" and copy.run("echo $KEPT")[1] == b"yes\n"
        assert copy.get().json["metadata"] == {"kept": "yes"}
        copy.run("echo mine > ~/file")
        assert copy.delete().status == 204
    assert read(sandbox, "~/file") == "original"
    for body in ({"count": 0}, {"count": 101}, {"count": "x"}, {"timeout": 0}):
        assert post(sandbox, "fork", body).status == 400


# --- the server comes back ---


def test_paused_sandboxes_outlive_the_server(data_dir):
    folder = data_dir / "comes-back"
    local = programs.Local(folder)
    api = Api(local.address)
    frozen, stored, over = api.create(timeout=300), api.create(timeout=300), None
    for sandbox in (frozen, stored):
        sandbox.run("echo kept > ~/file; sleep 1000 >/dev/null 2>&1 &")
    taken = snapshot(frozen, name="kept")
    over = api.create(timeout=2, autoPause=True)
    pause(frozen)
    pause(stored, memory=False)
    local.kill()
    time.sleep(2.5)  # in which the third one's time is over
    again = programs.Local(folder, listen=local.address)
    try:
        assert [state(s) for s in (frozen, stored, over)] == ["paused"] * 3
        for sandbox in (frozen, stored, over):
            connect(sandbox)
        assert frozen.run("pgrep -x sleep")[0] == 0 and stored.run("pgrep -x sleep")[0] == 1
        assert read(frozen, "~/file") == read(stored, "~/file") == "kept"
        assert [s["snapshotID"] for s in api.call("GET", "/snapshots").json] == [taken["snapshotID"]]
        assert read(api.create(templateID="kept"), "~/file") == "kept"
        for sandbox in (frozen, stored, over):
            assert sandbox.delete().status == 204
        assert not [name for name in os.listdir(folder / "snapshots") if "paused" in name]
    finally:
        again.stop()
