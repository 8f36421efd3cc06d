"""The first calls of E2B's own Python SDK, as its documentation shows them. Run by sdk_test.py."""

from e2b import CommandExitException, NotFoundException, Sandbox, SandboxException, SandboxQuery


def raises(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as e:
        return e
    raise AssertionError("%r did not raise %s" % (call, kind.__name__))


def commands(sandbox):
    result = sandbox.commands.run("echo hello $FOO; echo oops >&2")
    assert (result.stdout, result.stderr, result.exit_code) == ("hello bar\n", "oops\n", 0)
    assert raises(CommandExitException, sandbox.commands.run, "exit 3").exit_code == 3

    pieces = []
    sandbox.commands.run("for i in 1 2 3; do echo $i; sleep 0.05; done", on_stdout=pieces.append)
    assert "".join(pieces) == "1\n2\n3\n"

    reader = sandbox.commands.run("cat; echo done", background=True, stdin=True)
    sandbox.commands.send_stdin(reader.pid, "typed\n")
    sandbox.commands.close_stdin(reader.pid)
    assert reader.wait().stdout == "typed\ndone\n"

    sleeper = sandbox.commands.run("sleep 100", background=True)
    assert sleeper.pid in [process.pid for process in sandbox.commands.list()]
    again = sandbox.commands.connect(sleeper.pid)
    assert sleeper.kill()
    raises(CommandExitException, sleeper.wait)
    raises(CommandExitException, again.wait)
    assert not sandbox.commands.kill(sleeper.pid)


def files(sandbox):
    written = sandbox.files.write("/tmp/new/folder/a.txt", "content ü")
    assert (written.path, written.name) == ("/tmp/new/folder/a.txt", "a.txt")
    assert sandbox.files.read("/tmp/new/folder/a.txt") == "content ü"
    sandbox.files.write_files([{"path": "x.txt", "data": "x"}, {"path": "y.txt", "data": b"y"}])
    assert sandbox.files.read("/home/user/x.txt") == "x"
    assert sandbox.files.read("y.txt", format="bytes") == b"y"
    large = "0123456789" * 500_000
    sandbox.files.write("large", large)
    assert sandbox.files.read("large") == large
    assert sandbox.files.get_info("large").size == len(large)
    assert [e.name for e in sandbox.files.list("/home/user")] == ["large", "x.txt", "y.txt"]
    assert sandbox.files.make_dir("d/e") and not sandbox.files.make_dir("d/e")
    sandbox.files.rename("x.txt", "d/moved.txt")
    assert sandbox.files.exists("d/moved.txt") and not sandbox.files.exists("x.txt")
    sandbox.files.remove("d")
    assert not sandbox.files.exists("d")
    raises(NotFoundException, sandbox.files.read, "no/such/file")


def lifetime(sandbox):
    info = sandbox.get_info()
    assert info.metadata == {"purpose 1": "a&b"}
    sandbox.set_timeout(300)
    assert (sandbox.get_info().end_at - info.end_at).total_seconds() > 100
    found = Sandbox.list(query=SandboxQuery(metadata={"purpose 1": "a&b"})).next_items()
    assert sandbox.sandbox_id in [s.sandbox_id for s in found]
    assert Sandbox.connect(sandbox.sandbox_id).commands.run("echo 2").stdout == "2\n"


def end(sandbox):
    running = sandbox.commands.run("sleep 100", background=True)
    assert sandbox.is_running() and sandbox.kill()
    assert "killed or reached its end of life" in str(raises(SandboxException, running.wait))
    assert not sandbox.is_running() and not sandbox.kill()
    raises(NotFoundException, Sandbox.connect, sandbox.sandbox_id)
    raises(NotFoundException, sandbox.set_timeout, 1)
    assert "no-such-template" in str(raises(SandboxException, Sandbox.create, "no-such-template"))


def main():
    sandbox = Sandbox.create(metadata={"purpose 1": "a&b"}, envs={"FOO": "bar"}, timeout=120)
    commands(sandbox)
    files(sandbox)
    lifetime(sandbox)
    end(sandbox)
    print("as E2B has it")


main()
