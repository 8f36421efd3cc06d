"""The one table of options: who wins, what is refused, and the pages that are made of it."""

import re
import shutil
import subprocess

import pytest
from harness import programs
from harness.programs import API_KEY


def run(*args, **env):
    return programs.run("service/sandboxd", *args, env=env, timeout=30)


def check(*args, **env):
    """What --check-config says; "" when all is well."""
    done = run("--check-config", *args, **{"E2B_API_KEY": API_KEY, **env})
    assert done.returncode in (0, 2) and (done.returncode == 0) == (done.stderr == ""), done
    return done.stderr


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sandboxd.conf"

    def write(text):
        path.write_text(text, encoding="utf-8")
        return "--config=%s" % path
    return write


# --- what is right and what is not ---

def test_a_check_tells_right_from_wrong():
    assert check() == ""
    assert run("--check-config").returncode == 2, "without a key or --local nothing can work"
    assert "--workers: many is not a whole number" in check("--workers=many")
    assert "0.0.0.0:1 can be reached by others" in check("--listen=0.0.0.0:1")


@pytest.mark.parametrize("wrong, meant", [
    (["--listn=127.0.0.1:1"], "--listen"),
    (["--local-datadir=/x"], "--local-data-dir"),
])
def test_an_unknown_flag_is_an_error(wrong, meant):
    assert "did you mean %s?" % meant in check(*wrong)


def test_an_unknown_variable_is_an_error():
    assert "SANDBOXD_LISTN" in check(SANDBOXD_LISTN="127.0.0.1:1")
    assert "did you mean SANDBOXD_LISTEN?" in check(SANDBOXD_LISTN="127.0.0.1:1")
    # Kubernetes's own, of a service that is called sandboxd.
    assert check(SANDBOXD_PORT="tcp://10.0.0.1:50051", SANDBOXD_SERVICE_HOST="10.0.0.1",
                 SANDBOXD_SERVICE_PORT_GRPC="50051",
                 SANDBOXD_PORT_50051_TCP_PROTO="tcp") == ""


def test_variables_of_the_client_are_let_be():
    names = set()
    for args in (["--help"], ["run", "--help"]):
        text = programs.run("client/sandboxctl", *args, env={}, timeout=30).stdout
        names |= set(re.findall(r"SANDBOXD_[A-Z_]+", text))
    assert "SANDBOXD_ADDRESS" in names
    assert check(**{name: "1m" for name in names}) == ""


def test_an_unknown_name_in_the_file_is_an_error(file):
    said = check(file("# ours\nlocal = true\n\nhearbeat-interval = 1s\n"))
    assert "sandboxd.conf:4: there is no option hearbeat-interval" in said
    assert "did you mean heartbeat-interval?" in said


def test_flags_win_over_variables_and_those_over_the_file(file):
    config = file("workers = 0\ne2b-template = from-file\n")
    assert "sandboxd.conf:1" in check(config), "the file is read"
    config = file("heartbeat-interval = 1s\nworkers = 2\n")
    assert check(config) == ""
    assert "SANDBOXD_WORKERS: 0" in check(config, SANDBOXD_WORKERS="0")
    assert "--workers: 0" in check(config, "--workers=0", SANDBOXD_WORKERS="1")
    assert "cannot read the configuration /no/such.conf" in check(SANDBOXD_CONFIG="/no/such.conf")


def test_secrets_are_not_shown_by_an_error():
    done = run("--e2b-api-key=" + API_KEY, "--workers=0")
    assert done.returncode == 2 and API_KEY not in done.stdout + done.stderr


# --- pages ---

def page(kind):
    done = run("--print=" + kind, SANDBOXD_NONSENSE="no matter")
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout


def options():
    return re.findall(r"^  (?:-\w, )?--([a-z0-9-]+)", run("--help").stdout, re.MULTILINE)


def test_the_page_in_docs_is_the_programs():
    """./dev docs writes it anew."""
    assert programs.find("docs/options.md").read_text(encoding="utf-8") == page("markdown")


def test_the_file_to_start_from_is_one(file):
    text = page("config")
    assert check(file(text)) == ""
    # Each default said aloud means what silence does.
    said = [line[2:] for line in text.splitlines() if re.match(r"# [a-z0-9-]+ = [^A-Z]", line)]
    assert len(said) > 10
    assert check(file("\n".join(said))) == ""


def test_the_manual_page_is_clean():
    assert shutil.which("groff"), "./dev installs it"
    done = subprocess.run(["groff", "-man", "-ww", "-Tutf8"], input=page("man"), text=True,
                          capture_output=True, check=True, timeout=60)
    assert done.stderr == ""
    plain = re.sub("\x1b\\[[0-9;]*m|.\b", "", done.stdout)
    for name in options():
        assert "--" + name in plain, name


def complete_bash(words):
    script = page("bash") + """
COMP_WORDS=(%s)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; }
_sandboxd
printf '%%s\\n' "${COMPREPLY[@]}"
""" % " ".join("'%s'" % w for w in words)
    done = subprocess.run(["bash", "-eu"], input=script, text=True, capture_output=True, timeout=30)
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout.split()


def test_bash_completes():
    assert complete_bash(["sandboxd", "--liste"]) == ["--listen="]
    assert complete_bash(["sandboxd", "--log-level", "=", "w"]) == ["warn"]
    assert complete_bash(["sandboxd", "--log-level", "="]) == ["debug", "info", "warn", "error"]
    assert "/etc/passwd" in complete_bash(["sandboxd", "--config", "=", "/etc/pass"])
    assert {"--" + name for name in options()} == {
        word.rstrip("=") for word in complete_bash(["sandboxd", "--"])}


def test_fish_completes():
    assert shutil.which("fish"), "./dev installs it"
    script = page("fish") + "\ncomplete -C 'sandboxd --log-level '\ncomplete -C 'sandboxd --'\n"
    done = subprocess.run(["fish", "--no-config"], input=script, text=True, capture_output=True,
                          timeout=30)
    assert done.returncode == 0 and done.stderr == "", done
    offered = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert set(offered) >= {"debug", "info", "warn", "error"}
    assert {"--" + name for name in options()} <= set(offered)


def test_zsh_completes(tmp_path):
    assert shutil.which("zsh"), "./dev installs it"
    (tmp_path / "_sandboxd").write_text(page("zsh"), encoding="utf-8")
    # _arguments itself reads the table, and hands what it offers to this stand-in for the screen.
    script = """
fpath=(%s $fpath)
autoload -Uz compinit && compinit -D -u
autoload +X -Uz _sandboxd
comparguments() { print -rl -- "${@[3,-1]}"; return 1 }
_sandboxd
""" % tmp_path
    done = subprocess.run(["zsh", "-f"], input=script, text=True, capture_output=True, timeout=30)
    assert done.stderr == "", done
    for name in options():
        assert "--" + name in done.stdout, name
