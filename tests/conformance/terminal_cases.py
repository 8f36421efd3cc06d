"""Commands on a terminal."""

import json

from case import case, table
from target import b64

SIZE = {"size": {"cols": 80, "rows": 24}}


def start(t, command, size=None, **fields):
    return t.start(command, pty=SIZE if size is None else size, **fields)


def type_in(t, process, text, kind="pty"):
    return t.rpc("SendInput", **process.select, input={kind: b64(text)})


def result(out, end="0 / True / exit status 0 / None"):
    return {"pty": out, "end": end}


@table("a terminal",
       ("output", result("a\r\n"), "echo a"),
       ("both outputs are one", result("a\r\nb\r\n"), "echo a; echo b >&2"),
       ("its size", result("24 80\r\n"), "stty size"),
       ("is one", result("yes\r\n"), "test -t 0 -a -t 1 -a -t 2 && echo yes"),
       ("its name", result("/dev/pts/N\r\n"), "tty | tr 0-9 N"),
       ("is a controlling one", result("yes\r\n"), "echo yes > /dev/tty"),
       ("leads a session", result("yes\r\n"), 'test $(ps -o sid= -p $$) = $$ && echo yes'),
       ("exit code", result("", "3 / True / exit status 3 / exit status 3"), "exit 3"),
       ("killed by itself", result("a", "-1 / False / signal: killed / signal: killed"),
        "printf a; sleep 0.1; kill -9 $$"),
       ("sets no TERM", result("[]\r\n"), 'env | grep -c ^TERM= >/dev/null || echo "[]"'),
       ("is cooked", result("isig icanon echo\r\n"),
        "echo $(stty -a | grep -o -w -e isig -e icanon -e echo)"))
def run(t, command):
    got = start(t, command).rest()
    got.setdefault("pty", "")
    return got


@table("the size of a terminal",
       ("asked for", "50 132\r\n", {"size": {"cols": 132, "rows": 50}}),
       ("not asked for", "0 0\r\n", {}),
       ("one of two", "0 100\r\n", {"size": {"cols": 100}}),
       ("beyond 16 bits", "1 2\r\n", {"size": {"cols": 65538, "rows": 65537}}))
def size(t, wanted):
    return start(t, "stty size", wanted).rest()["pty"]


@case("xterm-256color C.UTF-8\r\n")
def the_environment_of_a_terminal_is_the_commands(t):
    envs = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
    return start(t, "echo $TERM $LANG", process={"envs": envs}).rest()["pty"]


@case(({}, True, "0 / True / exit status 0 / None"))
def typing(t):
    with start(t, "read line; echo got $line") as process:
        answer = type_in(t, process, "hello\n")
        got = process.rest()
        return answer, got["pty"].endswith("got hello\r\n"), got["end"]


@case("0 / True / exit status 0 / None")
def end_of_input_is_typed(t):
    with start(t, "echo ready; cat") as process:
        process.until("ready", "pty")
        type_in(t, process, "\x04")
        return process.rest()["end"]


@case("-1 / False / signal: interrupt / signal: interrupt")
def interrupt_is_typed(t):
    with start(t, "echo ready; exec sleep 20") as process:
        process.until("ready", "pty")
        type_in(t, process, "\x03")
        return process.rest()["end"]


@case(({}, "40 120\r\n"))
def resizing(t):
    with start(t, "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done") as p:
        p.until("ready\r\n", "pty")
        p.output.clear()
        answer = t.rpc("Update", **p.select, pty={"size": {"cols": 120, "rows": 40}})
        return answer, p.rest()["pty"]


@case("internal")
def stdin_of_a_terminal(t):
    with start(t, "sleep 20") as process:
        answer = type_in(t, process, "x", "stdin")
        t.rpc("SendSignal", **process.select, signal="SIGNAL_SIGKILL")
        return answer


@case("unknown")
def close_stdin_of_a_terminal(t):
    with start(t, "sleep 20") as process:
        answer = t.rpc("CloseStdin", **process.select)
        t.rpc("SendSignal", **process.select, signal="SIGNAL_SIGKILL")
        return answer


@case((result("one\r\ntwo\r\n"), result("two\r\n")))
def attach_to_a_terminal(t):
    with start(t, "stty -echo; echo one; read x; echo two") as process:
        process.until("one", "pty")
        with t.attach(pid=process.pid) as attached:
            type_in(t, process, "\n")
            return process.rest(), attached.rest()


@case("-1 / False / signal: killed / signal: killed")
def kill_a_terminal(t):
    with start(t, "sleep 20 & echo ready; wait") as process:
        process.until("ready", "pty")
        t.rpc("SendSignal", **process.select, signal="SIGNAL_SIGKILL")
        return process.rest()["end"]


@case(True)
def leaving_a_terminal_does_not_hang_it_up(t):
    with start(t, "read x; echo still") as process:
        select, pid = process.select, process.pid
    with t.attach(pid=pid) as attached:
        t.rpc("SendInput", **select, input={"pty": b64("\n")})
        return attached.rest()["pty"].endswith("still\r\n")


@case(True)
def a_login_shell_as_the_sdks_start_it(t):
    process = {"cmd": "/bin/bash", "args": ["-i", "-l"],
               "envs": {"TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}}
    with start(t, "", process=process) as shell:
        type_in(t, shell, "echo $((6 * 7)); exit\n")
        return "42" in shell.rest()["pty"]


@case(True)
def a_lot_of_output_of_a_terminal(t):
    got = start(t, "yes | head -100000").rest()
    return got["pty"] == "y\r\n" * 100000


@case(True)
def chunks_of_a_terminal_are_not_too_long(t):
    longest = 0
    with start(t, "yes | head -100000") as process:
        while (message := process.next()) is not None:
            longest = max(longest, len(message["event"].get("data", {}).get("pty", "")))
    return 0 < longest <= (16384 + 2) // 3 * 4


@case(("invalid_argument", True))
def a_terminal_in_no_directory(t):
    message = {"process": {"cmd": "true", "cwd": "/no/where"}, "pty": SIZE}
    with t.stream("Start", **json.loads(json.dumps(message))) as stream:
        assert stream.next() is None
        return stream.end, stream.error["message"] == "cwd '/no/where' does not exist"


@case("user\r\n")
def a_terminal_of_a_user_is_its_own(t):
    return start(t, "stat -c %U $(tty)").rest()["pty"]
