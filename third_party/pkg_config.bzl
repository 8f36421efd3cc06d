"""Makes a system library, found by pkg-config, a Bazel target: @NAME//:NAME."""

_BUILD = """
load("@rules_cc//cc:defs.bzl", "cc_library")

package(default_visibility = ["//visibility:public"])

cc_library(
    name = "{name}",
    copts = {copts},
    linkopts = {linkopts},
)

# The same library for fully static programs: every private part named too.
cc_library(
    name = "static",
    copts = {copts},
    linkopts = {static_linkopts},
)
"""

def _pkg_config(ctx, args):
    tool = ctx.which("pkg-config")
    if not tool:
        fail("pkg-config is missing: run ./dev once, it installs what the build needs")
    result = ctx.execute([tool] + args + [ctx.name])
    if result.return_code != 0:
        fail("the library %s is missing: run ./dev once, it installs what the build needs\n%s" %
             (ctx.name, result.stderr))
    return [word for word in result.stdout.strip().split(" ") if word]

def _libraries(words, only):
    if only:
        words = [w for w in words if not w.startswith("-l") or w[2:] in only]
    return [w for w in words if w.startswith("-l") or w.startswith("-L") or w == "-pthread"]

def _pkg_config_library(ctx):
    ctx.file("WORKSPACE", 'workspace(name = "%s")\n' % ctx.name)
    ctx.file("BUILD.bazel", _BUILD.format(
        name = ctx.name,
        copts = repr([w for w in _pkg_config(ctx, ["--cflags"]) if w.startswith("-D")]),
        linkopts = repr(_libraries(_pkg_config(ctx, ["--libs"]), ctx.attr.only)),
        static_linkopts = repr(_libraries(_pkg_config(ctx, ["--libs", "--static"]), ctx.attr.only)),
    ))

pkg_config_library = repository_rule(
    implementation = _pkg_config_library,
    attrs = {"only": attr.string_list(doc = "Link these libraries and no others; empty means all.")},
    environ = ["PKG_CONFIG_PATH"],
)
