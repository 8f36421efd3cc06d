"""python_template.py sync|async: E2B's Python SDK creates from a template by each of its names."""

import asyncio
import sys

import e2b


async def result(value):
    return await value if asyncio.iscoroutine(value) else value


async def main():
    Sandbox = e2b.Sandbox if sys.argv[1] == "sync" else e2b.AsyncSandbox
    for name in ("greeter", "hello", "local/hello:default"):
        sandbox = await result(Sandbox.create(name, envs={"MORE": "more"}, timeout=60))
        info = await result(sandbox.get_info())
        assert (info.template_id, info.name, info.memory_mb) == ("greeter", "hello", 321), info
        done = await result(sandbox.commands.run("cat started; pwd; echo $GREETING $MORE"))
        assert done.stdout == "at the start\n/home/user/project\nhello more\n", done
        assert await result(sandbox.files.read("/home/user/project/started")) == "at the start\n"
        await result(sandbox.kill())
    try:
        await result(Sandbox.create("greeters", timeout=60))
    except e2b.SandboxException as refusal:
        assert "template 'greeters' not found" in str(refusal), refusal
        return
    raise AssertionError("there is no template of that name")


asyncio.run(main())
