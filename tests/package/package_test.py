"""What ./dev install puts into a system, and what becomes the image."""

import json
import os
import re
import subprocess

import image
import pytest
from harness import api, programs

SOURCES = programs.find("common/install.sh").parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("installed")
    done = subprocess.run([SOURCES / "common/install.sh", SOURCES, SOURCES],
                          env={**os.environ, "DESTDIR": str(root), "PREFIX": "/usr"},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                          encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout
    return root / "usr"


def output(*args, **kwargs):
    return subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, check=True, timeout=60,
                          encoding="utf-8", **kwargs).stdout


def test_every_program_knows_its_version(installed):
    names = sorted(p.name for p in (installed / "bin").iterdir())
    assert names == ["e2b-local", "sandboxctl", "sandboxd"]
    versions = {output(installed / "bin" / name, "--version") for name in names}
    numbers = {v.split()[1] for v in versions}
    assert len(versions) == 3 and len(numbers) == 1
    number = numbers.pop()
    assert ("Version: %s\n" % number) in (installed / "lib/pkgconfig/libsandbox.pc").read_text()
    changes = programs.find("CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changes, re.MULTILINE)[0] == number


def test_every_program_has_a_manual_page_and_completion(installed):
    for page in ("man8/sandboxd.8", "man8/e2b-local.8", "man1/sandboxctl.1"):
        text = (installed / "share/man" / page).read_text(encoding="utf-8")
        name, section = page.split("/")[1].split(".")
        assert text.startswith('.TH "%s" %s ' % (name.upper(), section))
        done = subprocess.run(["groff", "-Kutf8", "-man", "-ww", "-Tutf8"], input=text, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        assert done.stderr == "" and "--version" in re.sub(r".\x08|\x1b\[\d*m", "", done.stdout)
        assert (installed / "share/bash-completion/completions" / name).stat().st_size > 0
        assert (installed / "share/zsh/site-functions" / ("_" + name)).stat().st_size > 0
        assert (installed / "share/fish/vendor_completions.d" / (name + ".fish")).stat().st_size > 0


@pytest.mark.skipif(programs.is_sanitized("service/sandboxd"), reason="needs the sanitizer's runtime")
def test_the_library_is_found_by_pkg_config(installed, tmp_path, service):
    """The example, built out of the tree, with nothing but what is installed."""
    source = programs.find("client/examples/hello.c").read_text(encoding="utf-8")
    source = source.replace('"client/include/sandbox.h"', "<sandbox.h>")
    (tmp_path / "hello.c").write_text(source, encoding="utf-8")
    env = {**os.environ, "PKG_CONFIG_PATH": str(installed / "lib/pkgconfig"),
           "PKG_CONFIG_SYSROOT_DIR": str(installed.parent)}
    # The sysroot is for what is staged here, and not for the system's own libraries.
    flags = [f.replace(str(installed.parent) + "/usr/lib/x86", "/usr/lib/x86") for f in output(
        "pkg-config", "--static", "--cflags", "--libs-only-L", "libsandbox", env=env).split()]
    output("cc", "-Wall", "-Werror", "-o", tmp_path / "hello", tmp_path / "hello.c", *flags,
           "-lsandbox", "-lprotobuf-c", "-lgrpc", "-lgpr")
    printed = subprocess.run([tmp_path / "hello", service.addresses[0]], stdout=subprocess.PIPE,
                             timeout=60, encoding="utf-8", check=False)
    assert "hello 1\nhello 2\nhello 3\n" in printed.stdout


def test_the_descriptor_set_is_whole(installed):
    protoset = (installed / "share/sandboxd/sandboxd.protoset").read_bytes()
    assert protoset == programs.find("proto/sandboxd.protoset").read_bytes()
    protos = {p.name for p in (installed / "share/sandboxd/proto/sandbox/v1").iterdir()}
    assert {name.split("/")[-1] for name in re.findall(
        r"sandbox/v1/\w+\.proto", protoset.decode("latin-1"))} == protos


def test_the_service_config_repeats_what_may_be_repeated(installed):
    config = json.loads((installed / "share/sandboxd/service_config.json").read_text())
    again = {"/%s/%s" % (n["service"], n["method"])
             for entry in config["methodConfig"] for n in entry["name"]}
    may = set()
    for name in api.SERVICES:
        if name.startswith("sandbox."):
            for method in api.POOL.FindServiceByName(name).methods:
                if method.GetOptions().idempotency_level != 0:
                    may.add("/%s/%s" % (name, method.name))
    assert again == may and "/sandbox.v1.SandboxService/SendInput" not in may


@pytest.mark.skipif(os.geteuid() != 0, reason="what a container starts takes root")
@pytest.mark.skipif(programs.is_sanitized("service/sandboxd"), reason="needs the sanitizer's runtime")
def test_the_image_is_small_and_takes_no_privileges(installed, tmp_path, local):
    root = tmp_path / "root"
    output(SOURCES / "k8s/image/root.sh", installed / "bin/sandboxd", root)
    assert image.judge(root, ["/usr/bin/sandboxd"], local) > 1 << 20
