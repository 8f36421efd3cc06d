"""How every C target of this repository is built: one dialect, one set of warnings."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

COPTS = [
    "-std=gnu17",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wold-style-definition",
    "-Wwrite-strings",
    "-Wvla",
    "-Wformat=2",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Werror",
    "-fvisibility=hidden",
    "-fstack-protector-strong",
]

def c_library(name, copts = [], **kwargs):
    cc_library(name = name, copts = COPTS + copts, **kwargs)

def c_binary(name, copts = [], **kwargs):
    cc_binary(name = name, copts = COPTS + copts, **kwargs)

def c_test(name, deps = [], copts = [], size = "small", **kwargs):
    """A unit test with cmocka, kept beside the code it tests."""
    cc_test(
        name = name,
        size = size,
        copts = COPTS + copts,
        linkstatic = True,
        deps = deps + ["@cmocka"],
        **kwargs
    )

def c_static_binary(name, copts = [], linkopts = [], **kwargs):
    """A program that runs where there is no libc: static, or dynamic under a sanitizer.

    Sanitizers have no static runtime, so the sanitized variant is an ordinary program.
    """
    cc_binary(
        name = name,
        copts = COPTS + ["-ffunction-sections", "-fdata-sections"] + copts,
        linkstatic = True,
        linkopts = linkopts + select({
            "//:sanitized_address": [],
            "//:sanitized_thread": [],
            "//conditions:default": ["-static", "-Wl,--gc-sections"],
        }),
        **kwargs
    )

def _small_static(compiler, copts):
    return (compiler + " -static -Os -s -ffunction-sections -fdata-sections -Wl,--gc-sections " +
            "-I. %s -o $@ " % " ".join(COPTS + copts) +
            "$$(printf '%s\\n' $(SRCS) | grep '\\.c$$')")

def foreign_static_binary(name, srcs, **kwargs):
    """The same as musl_static_binary() for the other machine: arm64 on x86-64, x86-64 on arm64.

    With glibc, as Debian has no musl for another machine unless all of its packages are let in. It
    is four times as large, and its linker's warnings, that it may load name services, are off: what
    is built so must not look anything up but in files.

    Args:
      name: the program.
      srcs: as there.
      **kwargs: passed on.
    """
    native.genrule(
        name = name + "_cross",
        srcs = srcs,
        outs = [name],
        cmd = "case $$(uname -m) in x86_64) other=aarch64 ;; *) other=x86_64 ;; esac; " +
              _small_static("$$other-linux-gnu-gcc -Wl,--no-warnings", []),
        executable = True,
        **kwargs
    )

def musl_static_binary(name, srcs, copts = [], sanitized = None, **kwargs):
    """A small static program, built with musl from plain sources.

    Args:
      name: the program.
      srcs: every .c and .h file it is made of, common/ included (file groups): musl has no view of
        the system's headers, so nothing else may be used.
      copts: more compiler options.
      sanitized: the cc_binary of the same sources that stands in under a sanitizer.
      **kwargs: passed on.
    """
    native.genrule(
        name = name + "_musl",
        srcs = srcs,
        outs = [name + ".musl"],
        cmd = _small_static("musl-gcc", copts),
    )
    native.genrule(
        name = name + "_pick",
        srcs = select({
            "//:sanitized_address": [sanitized],
            "//:sanitized_thread": [sanitized],
            "//conditions:default": [name + ".musl"],
        }),
        outs = [name],
        cmd = "cp $< $@ && chmod 755 $@",
        executable = True,
        **kwargs
    )

def embed_binary(name, src, symbol, **kwargs):
    """Makes a file's bytes part of a program.

    Args:
      name: a library with the header NAME.h, which declares
        extern const uint8_t SYMBOL_start[], SYMBOL_end[].
      src: the file.
      symbol: see name.
      **kwargs: passed on.
    """
    native.genrule(
        name = name + "_object",
        srcs = [src],
        outs = [name + ".o", name + ".h"],
        cmd = """
out=$$PWD/$(RULEDIR)/%s; work=$$(mktemp -d); cp $< $$work/%s
(cd $$work && ld -r -b binary -z noexecstack %s -o %s.o &&
 objcopy --redefine-sym _binary_%s_start=%s_start --redefine-sym _binary_%s_end=%s_end \
         --rename-section .data=.rodata,alloc,load,readonly,data,contents %s.o $$out.o)
result=$$?; rm -rf $$work
printf '#pragma once\\n\\n#include <stdint.h>\\n\\nextern const uint8_t %s_start[], %s_end[];\\n' \
    >$$out.h; exit $$result
""" % (name, symbol, symbol, symbol, symbol, symbol, symbol, symbol, symbol, symbol, symbol),
    )
    cc_library(
        name = name,
        srcs = [name + ".o"],
        hdrs = [name + ".h"],
        **kwargs
    )

def _static_archive_impl(ctx):
    libraries = []
    for dep in ctx.attr.deps:
        for input in dep[CcInfo].linking_context.linker_inputs.to_list():
            if input.owner.workspace_name == "":
                libraries += [lib.static_library or lib.pic_static_library for lib in input.libraries]
    libraries = [lib for lib in libraries if lib != None]
    out = ctx.actions.declare_file(ctx.attr.name + ".a")
    ctx.actions.run_shell(
        inputs = libraries,
        outputs = [out],
        use_default_shell_env = True,
        mnemonic = "StaticArchive",
        command = """
work=$(mktemp -d) && out=$1 && shift &&
ld -r -o $work/all.o --whole-archive "$@" &&
objcopy --localize-hidden --strip-debug $work/all.o $work/one.o &&
rm -f $out && ar rcsD $out $work/one.o
result=$?; rm -rf $work; exit $result
""",
        arguments = [out.path] + [lib.path for lib in libraries],
    )
    return [DefaultInfo(files = depset([out]), runfiles = ctx.runfiles(files = [out]))]

# A library for others, NAME.a: one object made of deps and all of this repository that they need, in
# which only what is visible can be seen.
static_archive = rule(
    implementation = _static_archive_impl,
    attrs = {"deps": attr.label_list(providers = [CcInfo])},
)
