"""process.Process: commands, their output, input, ends and names."""

import json
import time

from case import case, table
from target import b64, envelope


def ok(**output):
    return {**output, "end": "0 / True / exit status 0 / None"}


def exited(code, **output):
    return {**output, "end": "%d / True / exit status %d / exit status %d" % (code, code, code)}


@table("run",
       ("nothing", ok(), "true"),
       ("stdout", ok(stdout="a\n"), "echo a"),
       ("stderr", ok(stderr="a\n"), "echo a >&2"),
       ("both", ok(stdout="a", stderr="b"), "printf a; printf b >&2"),
       ("exit 1", exited(1), "exit 1"),
       ("exit 255", exited(255, stdout="x"), "printf x; exit 255"),
       ("killed by itself", {"end": "-1 / False / signal: killed / signal: killed"}, "kill -9 $$"),
       ("terminated by itself", {"end": "-1 / False / signal: terminated / signal: terminated"},
        "kill $$"),
       ("hung up by itself", {"end": "-1 / False / signal: hangup / signal: hangup"},
        "kill -HUP $$"),
       ("by a real-time signal", {"end": "-1 / False / signal: signal 40 / signal: signal 40"},
        "kill -40 $$"),
       ("by user signal 1",
        {"end": "-1 / False / signal: user defined signal 1 / signal: user defined signal 1"},
        "kill -USR1 $$"),
       ("no newline at the end", ok(stdout="a\nb"), "printf 'a\\nb'"),
       ("bytes that are no text", ok(stdout="\ufffd\ufffdx"), "printf '\\xff\\xfex'"),
       ("a megabyte", ok(stdout="y\n" * 500000), "yes | head -500000"),
       ("output of what it leaves behind", ok(stdout="ab"), "(sleep 0.1; printf b) & printf a"),
       ("what it leaves behind quietly", ok(stdout="a"),
        "sleep 20 >/dev/null 2>&1 & printf a"))
def run(t, command):
    return t.run(command)


@table("a program",
       ("without arguments", ok(), "true", None),
       ("with arguments", ok(stdout="a b|c|\n"), "printf", ["%s|%s|\\n", "a b", "c"]),
       ("with an empty argument", ok(stdout="||\n"), "printf", ["|%s|\\n", ""]),
       ("with words of the shell", ok(stdout="$HOME;*\n"), "echo", ["$HOME;*"]),
       ("by its path", ok(stdout="x\n"), "/bin/echo", ["x"]),
       ("that is a script", ok(stdout="script\n"), "./script", None))
def program(t, cmd, args):
    t.sh("printf '#!/bin/sh\\necho script\\n' > script; chmod +x script")
    process = {"cmd": cmd, "cwd": t.dir}
    if args is not None:
        process["args"] = args
    with t.stream("Start", process=process, stdin=False) as stream:
        stream.close()
    return t.run("", process={**process, "args": args or []})


@table("a program that cannot run",
       ("is not there", 127, "no-such-program"),
       ("is not there by its path", 127, "/no/such/program"),
       ("is not executable", 126, "/etc/passwd"),
       ("is a directory", 126, "/etc"))
def cannot_run(t, cmd):
    result = t.run("", process={"cmd": cmd, "args": []})
    assert result["stderr"]
    return int(result["end"].split(" /")[0])


@case("invalid_argument")
def no_program_at_all(t):
    with t.stream("Start", process={"cmd": "", "cwd": t.dir}) as stream:
        for _ in stream.messages():
            pass
        return stream.end


@case(True)
def pids_are_those_inside(t):
    with t.start("echo $$") as process:
        pid = process.pid
        return process.rest()["stdout"] == "%d\n" % pid


# ---- where and with what ----

@table("the environment has",
       ("the home", "/home/user\n", "$HOME", {}),
       ("the user", "user user\n", "$USER $LOGNAME", {}),
       ("a path", True, "$PATH", {}),
       ("what the sandbox was given", "1\n", "$FROM_SANDBOX", {}),
       ("what the command is given", "x y\n", "$A", {"A": "x y"}),
       ("an empty value", "||\n", "\\|$A\\|", {"A": ""}),
       ("the command's before the sandbox's", "2\n", "$FROM_SANDBOX", {"FROM_SANDBOX": "2"}),
       ("the command's before the home", "/x\n", "$HOME", {"HOME": "/x"}),
       ("a value with a newline", "a\nb\n", '"$A"', {"A": "a\nb"}),
       ("nothing of the agent's", "0\n", "$(env | grep -c -e TOKEN -e SANDBOXD -e LISTEN)", {}))
def environment(t, what, envs):
    out = t.run("echo " + what, process={"envs": envs})["stdout"]
    return "/usr/bin" in out if what == "$PATH" else out


@case(True)
def the_sandbox_is_one_and_cannot_be_told_otherwise(t):
    return t.run("echo $E2B_SANDBOX")["stdout"] in ("true\n", "false\n")


@case(True)
def the_path_of_a_command_is_its_own(t):
    t.sh("mkdir bin; printf '#!/bin/sh\\necho mine\\n' > bin/mine; chmod +x bin/mine")
    path = t.at("bin") + ":/usr/bin:/bin"
    return t.run("", process={"cmd": "mine", "args": [], "envs": {"PATH": path}}) == ok(
        stdout="mine\n")


@table("the working directory",
       ("absent is the home", "/home/user\n", None),
       ("empty is the home", "/home/user\n", ""),
       ("absolute", "/usr/bin\n", "/usr/bin"),
       ("relative starts at the home", "/home/user/w\n", "w"),
       ("tilde", "/home/user/w\n", "~/w"),
       ("not there", ("invalid_argument", "cwd '/no/where' does not exist"), "/no/where"),
       ("a file", ("invalid_argument", None), "/etc/passwd"),
       ("not allowed", ("invalid_argument", None), "closed"),
       ("somebody's home", ("invalid_argument", None), "~root"))
def cwd(t, path):
    t.rpc("MakeDir", path="w")
    if path == "closed":
        t.rpc("MakeDir", t.as_root, path=t.at("closed"))
        t.run("chmod 700 closed", t.as_root)
        path = t.at("closed")
    process = {"cmd": "pwd"} if path is None else {"cmd": "pwd", "cwd": path}
    with t.stream("Start", process=process) as stream:
        first = stream.next()
        if first is None:
            said = stream.error["message"]
            return stream.end, said if said.startswith("cwd ") else None
    return t.run("pwd", process={"cwd": path or ""})["stdout"]


@case("100\n")
def commands_go_first_when_memory_runs_out(t):
    assert t.as_root  # else it comes to be so just behind the start
    return t.run("cat /proc/self/oom_score_adj")["stdout"]


@case("0\n")
def commands_are_not_nice(t):
    return t.run("nice")["stdout"]


@case("0: /dev/null\n")
def no_stdin_is_dev_null(t):
    return t.run("echo 0: $(readlink /proc/self/fd/0)")["stdout"]


@case("0 1 2 3\n")
def no_other_files_are_open(t):
    return t.run("echo $(ls /proc/self/fd)")["stdout"]


@case("Sig 0000000000000000\n")
def no_signals_are_blocked(t):
    return t.run("echo Sig $(grep SigBlk /proc/self/status | cut -f2)")["stdout"]


@case("0022\n")
def the_umask(t):
    return t.run("umask")["stdout"]


# ---- input ----

def send(t, process, text, kind="stdin", said=False):
    return t.rpc("SendInput", said=said, **process.select, input={kind: b64(text)})


@case(({}, {}, ok(stdout="one\ntwo\n")))
def input_by_default(t):
    with t.stream("Start", process={"cmd": "cat"}) as stream:
        pid = stream.next()["event"]["start"]["pid"]
        select = {"process": {"pid": pid}}
        t.rpc("CloseStdin", **select)
    with t.start("cat", stdin=True) as process:
        first = send(t, process, "one\n")
        send(t, process, "two\n")
        return first, t.rpc("CloseStdin", **process.select), process.rest()


@case(ok(stdout="x" * 300000))
def a_lot_of_input(t):
    with t.start("sleep 0.1; cat", stdin=True) as process:
        assert send(t, process, "x" * 300000) == {}
        t.rpc("CloseStdin", **process.select)
        return process.rest()


@case(({}, ok()))
def close_stdin_twice(t):
    with t.start("cat", stdin=True) as process:
        t.rpc("CloseStdin", **process.select)
        process_again = t.rpc("CloseStdin", **process.select)
        return process_again if process_again != "not_found" else {}, process.rest()


@case({})
def close_stdin_that_is_not_there(t):
    with t.start("sleep 20") as process:
        answer = t.rpc("CloseStdin", **process.select)
        t.rpc("SendSignal", **process.select, signal="SIGNAL_SIGKILL")
        return answer


@table("input that cannot be had",
       ("without stdin", "internal", False, {"stdin": b64("x")}),
       ("a terminal's", "internal", True, {"pty": b64("x")}),
       ("none", "unimplemented", True, {}),
       ("none, without stdin", "unimplemented", False, {}))
def no_input(t, stdin, given):
    with t.start("sleep 20", stdin=stdin) as process:
        answer = t.rpc("SendInput", **process.select, input=given)
        t.rpc("SendSignal", **process.select, signal="SIGNAL_SIGKILL")
        return answer


@case("internal")
def input_behind_the_end_of_input(t):
    with t.start("cat; sleep 20", stdin=True) as process:
        t.rpc("CloseStdin", **process.select)
        answer = send(t, process, "x")
        t.rpc("SendSignal", **process.select, signal="SIGNAL_SIGKILL")
        return answer


@case("internal")
def input_that_nobody_reads_any_more(t):
    with t.start("exec <&-; echo closed; sleep 20", stdin=True) as process:
        process.until("closed")
        answer = send(t, process, "x")
        t.rpc("SendSignal", **process.select, signal="SIGNAL_SIGKILL")
        return answer


def feed(t, *messages):
    """StreamInput: (how it ended, the responses)."""
    body = b"".join(envelope(json.dumps(m).encode()) for m in messages)
    with t.stream("StreamInput", body=body) as stream:
        responses = list(stream.messages())
        return stream.end, responses


@case((("ok", [{}]), ok(stdout="one two three")))
def streamed_input(t):
    with t.start("cat", stdin=True) as process:
        answer = feed(t, {"start": process.select},
                      *({"data": {"input": {"stdin": b64(x)}}} for x in ("one ", "two ")),
                      {"keepalive": {}}, {"data": {"input": {"stdin": b64("three")}}})
        t.rpc("CloseStdin", **process.select)
        return answer, process.rest()


@table("streamed input",
       ("to nothing", ("not_found", []), [{"start": {"process": {"pid": 999999}}}]),
       ("that says nothing", ("unimplemented", []), [{}]),
       ("before its process", ("invalid_argument", []),
        [{"data": {"input": {"stdin": b64("x")}}}]),
       ("without a message", ("ok", [{}]), []))
def bad_stream(t, messages):
    return feed(t, *messages)


# ---- being found ----

@table("a process that is not there",
       ("SendSignal", ("not_found", "process with pid 999999 not found"), "SendSignal",
        {"signal": 9}),
       ("SendInput", ("not_found", "process with pid 999999 not found"), "SendInput",
        {"input": {"stdin": b64("x")}}),
       ("CloseStdin", ("not_found", "process with pid 999999 not found"), "CloseStdin", {}),
       ("Update", ("not_found", "process with pid 999999 not found"), "Update", {}))
def not_there(t, method, fields):
    return t.rpc(method, said=True, process={"pid": 999999}, **fields)


@table("no process is named",
       ("SendSignal", "unimplemented", "SendSignal", {"signal": 9}),
       ("CloseStdin", "unimplemented", "CloseStdin", {"process": {}}),
       ("Update", "unimplemented", "Update", {}))
def not_named(t, method, fields):
    return t.rpc(method, **fields)


@case(("not_found", "process with pid 999999 not found"))
def attach_to_nothing(t):
    with t.stream("Connect", process={"pid": 999999}) as stream:
        assert stream.next() is None
        return stream.end, stream.error["message"]


@case(("not_found", "process with tag no such tag not found"))
def attach_to_an_unknown_tag(t):
    with t.stream("Connect", process={"tag": "no such tag"}) as stream:
        assert stream.next() is None
        return stream.end, stream.error["message"]


def kill(t, process):
    t.rpc("SendSignal", **process.select, signal="SIGNAL_SIGKILL")
    return process.rest()


@case([{"config": {"cmd": "/bin/bash", "args": ["-c", "sleep 20"], "envs": {"A": "b"},
                   "cwd": "D"}, "tag": "mine"}])
def list_what_runs(t):
    with t.start("sleep 20", tag="mine", process={"envs": {"A": "b"}}) as process:
        listed = [p for p in t.rpc("List").get("processes", []) if p.pop("pid") == process.pid]
        kill(t, process)
        return t.short(listed)


@case([])
def what_ended_is_not_listed(t):
    with t.start("true") as process:
        process.rest()
        return [p for p in t.rpc("List").get("processes", []) if p["pid"] == process.pid]


@case({"end": "-1 / False / signal: killed / signal: killed"})
def a_tag_is_a_name(t):
    with t.start("sleep 20", tag="a name") as process:
        assert t.rpc("SendSignal", process={"tag": "a name"}, signal="SIGNAL_SIGKILL") == {}
        return process.rest()


@case(True)
def every_tag_is_found(t):
    tags = ["alpha", "beta", "gamma"] * 7
    started = [t.start("sleep 20", tag=tag) for tag in tags[:3]]
    found = all(t.rpc("Update", process={"tag": tag}) == {} for tag in tags)
    for process in started:
        kill(t, process)
        process.close()
    return found


# ---- signals and deadlines ----

@table("a signal",
       ("kill", ({}, "-1 / False / signal: killed / signal: killed"), "SIGNAL_SIGKILL"),
       ("kill by its number", ({}, "-1 / False / signal: killed / signal: killed"), 9),
       ("terminate", ({}, "-1 / False / signal: terminated / signal: terminated"),
        "SIGNAL_SIGTERM"))
def signal(t, which):
    with t.start("exec sleep 20") as process:
        return t.rpc("SendSignal", **process.select, signal=which), process.rest()["end"]


@table("a signal that is refused",
       ("none", "unimplemented", None),
       ("unspecified", "unimplemented", "SIGNAL_UNSPECIFIED"),
       ("interrupt by its number", "unimplemented", 2),
       ("that does not exist", "invalid_argument", "SIGNAL_SIGNONE"))
def refused_signal(t, which):
    with t.start("exec sleep 20") as process:
        fields = {} if which is None else {"signal": which}
        answer = t.rpc("SendSignal", **process.select, **fields)
        kill(t, process)
        return answer


@case("3 / True / exit status 3 / exit status 3")
def a_signal_that_is_caught(t):
    command = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with t.start(command) as process:
        process.until("ready")
        t.rpc("SendSignal", **process.select, signal="SIGNAL_SIGTERM")
        return process.rest()["end"]


@case("-1 / False / signal: killed / signal: killed")
def the_end_of_a_killed_one_waits_for_nobody(t):
    with t.start("sleep 15 & echo ready; wait") as process:
        process.until("ready")
        before = time.monotonic()
        end = kill(t, process)["end"]
        assert time.monotonic() - before < 10
        return end


@case((True, "deadline_exceeded", False))
def a_deadline_kills(t):
    with t.start("exec sleep 20", {"Connect-Timeout-Ms": "300"}) as process:
        result = process.rest()
        time.sleep(0.1)
        alive = t.run("kill -0 %d" % process.pid)["end"].startswith("0 ")
        return "end" not in result or "killed" in result["end"], result["stream"], alive


@case({"stream": "deadline_exceeded"})
def a_deadline_of_attaching_ends_the_stream_only(t):
    with t.start("exec sleep 20") as process:
        with t.attach({"Connect-Timeout-Ms": "200"}, pid=process.pid) as attached:
            result = attached.rest()
        assert kill(t, process)["end"] == "-1 / False / signal: killed / signal: killed"
        return result


@case("-1 / False / signal: killed / signal: killed")
def a_deadline_kills_what_nobody_follows(t):
    with t.start("exec sleep 20", {"Connect-Timeout-Ms": "400"}) as process:
        pid = process.pid
    with t.attach(pid=pid) as attached:
        return attached.rest()["end"]


@table("a deadline that is none",
       ("words", "invalid_argument", "soon"),
       ("negative", "invalid_argument", "-1"),
       ("too many digits", "invalid_argument", "12345678901"))
def bad_deadline(t, value):
    with t.stream("Start", {"Connect-Timeout-Ms": value}, process={"cmd": "true"}) as stream:
        for _ in stream.messages():
            pass
        return stream.end


@case("deadline_exceeded")
def a_deadline_of_zero_has_passed(t):
    with t.stream("Start", {"Connect-Timeout-Ms": "0"}, process={"cmd": "true"}) as stream:
        for _ in stream.messages():
            pass
        return stream.end


# ---- following ----

@case(ok(stdout="here\n"))
def attach_by_tag(t):
    with t.start("read x; echo here", stdin=True, tag="attach by tag") as process:
        with t.attach(tag="attach by tag") as attached:
            send(t, process, "\n")
            return attached.rest()


@case((ok(stdout="before\nafter\n"), ok(stdout="after\n")))
def attaching_replays_nothing(t):
    with t.start("echo before; read x; echo after", stdin=True) as process:
        process.until("before")
        with t.attach(pid=process.pid) as attached:
            send(t, process, "\n")
            return process.rest(), attached.rest()


@case([ok(stdout="to all\n")] * 4)
def all_who_follow_get_all(t):
    with t.start("read x; echo to all", stdin=True) as process:
        others = [t.attach(pid=process.pid) for _ in range(3)]
        send(t, process, "\n")
        results = [p.rest() for p in [process, *others]]
        for other in others:
            other.close()
        return results


@case(ok(stdout="still\n"))
def leaving_ends_nothing(t):
    with t.start("read x; echo still", stdin=True) as process:
        select = process.select
        pid = process.pid
    with t.attach(pid=pid) as attached:
        t.rpc("SendInput", **select, input={"stdin": b64("\n")})
        return attached.rest()


@case(ok(stdout="end\n"))
def what_nobody_follows_goes_on_printing(t):
    with t.start("yes | head -c 1000000; read x; echo end", stdin=True) as process:
        select, pid = process.select, process.pid
    t.rpc("SendInput", **select, input={"stdin": b64("\n")})
    deadline = time.monotonic() + 10
    while any(p["pid"] == pid for p in t.rpc("List").get("processes", [])):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return ok(stdout="end\n")


@table("the end is remembered for who asks by",
       ("pid", exited(7), "pid"),
       ("tag", exited(7), "tag"))
def remembered(t, by):
    with t.start("echo lost; exit 7", tag="remembered by " + by) as process:
        process.rest()
        selector = {"pid": process.pid} if by == "pid" else {"tag": "remembered by tag"}
    with t.attach(**selector) as attached:
        assert attached.pid == process.pid
        return attached.rest()


@case(exited(2))
def a_tag_used_again_is_the_new_one(t):
    for code in (1, 2):
        with t.start("exit %d" % code, tag="again") as process:
            process.rest()
    with t.attach(tag="again") as attached:
        return attached.rest()


@case("not_found")
def what_ended_takes_no_signal(t):
    with t.start("true") as process:
        process.rest()
        return t.rpc("SendSignal", **process.select, signal="SIGNAL_SIGKILL")


@case(True)
def keepalives_when_nothing_is_printed(t):
    with t.start("sleep 1.5", {"Keepalive-Ping-Interval": "1"}) as process:
        process.rest()
        return process.keepalives == 1


@table("an interval of keepalives that is none",
       ("words", "ok", "often"),
       ("empty", "ok", ""),
       ("zero", "invalid_argument", "0"),
       ("negative", "invalid_argument", "-5"))
def bad_interval(t, value):
    with t.start("true", {"Keepalive-Ping-Interval": value}) as process:
        process.rest()
        return process.end


@case({})
def update_without_a_size_is_nothing(t):
    with t.start("sleep 20") as process:
        answer = t.rpc("Update", **process.select)
        kill(t, process)
        return answer


@case("internal")
def resize_what_has_no_terminal(t):
    with t.start("sleep 20") as process:
        answer = t.rpc("Update", **process.select, pty={"size": {"cols": 1, "rows": 1}})
        kill(t, process)
        return answer


@case(True)
def chunks_are_not_too_long(t):
    longest = 0
    with t.start("head -c 1000000 /dev/zero") as process:
        while (message := process.next()) is not None:
            data = message["event"].get("data", {}).get("stdout", "")
            longest = max(longest, len(data))
    return 0 < longest <= (32768 + 2) // 3 * 4
