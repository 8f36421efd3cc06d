"""sudo inside a sandbox: as E2B's users know it where there is a root to become, and honest where
there is not."""

import pytest
from tiers import local  # noqa: F401, the fixture
from wire import Api

SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def sandbox(local):
    made = Api(local.address).create(timeout=600)
    yield made
    made.delete()


AS_ROOT = pytest.mark.parametrize("local", ["own"], indirect=True)


@pytest.fixture
def with_root(sandbox, local):
    if local.ready["tier"] != "A":
        pytest.skip("tier B has no root inside")
    return sandbox


@AS_ROOT
@pytest.mark.parametrize("command, output", [
    ("sudo id -u; sudo id -un; sudo -n id -g", "0\nroot\n0"),
    ("sudo -u www-data id -un; sudo -u '#33' id -u; sudo -u user id -un", "www-data\n33\nuser"),
    ("sudo -u user id -Gn", "user sudo users"),
    ("sudo -g users id -gn", "users"),
    ("sudo -u www-data sudo -u root id -un 2>&1; echo $?",
     "sudo: www-data: not in the group sudo\n1"),
    ("sudo sudo -u www-data id -un", "www-data"),
    ("sudo sh -c 'echo $HOME $USER $LOGNAME $SUDO_USER $SUDO_UID $SUDO_GID'",
     "/root root root user 1000 1000"),
    ("PATH=/x:$PATH sudo sh -c 'echo $PATH'", SAFE_PATH),
    ("export A=1 TERM=odd; sudo sh -c 'echo $A-$TERM'; sudo -E sh -c 'echo $A'", "-odd\n1"),
    ("export A=1 B=2; sudo --preserve-env=A sh -c 'echo $A-$B'", "1-"),
    ("sudo A=1 B='2 3' sh -c 'echo $A $B'", "1 2 3"),
    ("cd /tmp; sudo pwd; sudo -D / pwd; sudo -i pwd", "/tmp\n/\n/root"),
    ("sudo -i 'echo' 'a  b' '$HOME' '*'", "a  b /root *"),
    ("echo 'echo $0' | sudo -i; echo 'id -u' | sudo -s", "-bash\n0"),
    ("sudo -- ls -d /", "/"),
    ("sudo su - -c 'id -un; pwd'; sudo su user -c 'id -un'", "root\n/root\nuser"),
    ("sudo sh -c 'exit 7'; echo $?; sudo nowhere 2>&1; echo $?; sudo /etc 2>&1; echo $?",
     "7\nsudo: nowhere: command not found\n127\nsudo: /etc: Permission denied\n126"),
    ("{ sudo sh -c 'kill -9 $$'; } 2>/dev/null; echo $?", "137"),
    ("echo in | sudo cat; sudo -b true; sudo -k; sudo -v; echo $?", "in\n0"),
    ("sudo -u nobody-such id 2>&1; echo $?", "sudo: nobody-such: there is no such user\n1"),
    ("sudo 2>&1 | head -n 1; sudo -z 2>&1 | head -n 1",
     "sudo: what is to be run?\nsudo: there is no option -z"),
    ("sudo -l | tail -n 1", "    (ALL : ALL) NOPASSWD: ALL"),
])
def test_what_it_does(with_root, command, output):
    assert with_root.run(command) == (0, output.encode() + b"\n")


@AS_ROOT
def test_root_owns_the_system(with_root):
    """Files of the host's system are root's, and root's to change, in this sandbox alone."""
    code, output = with_root.run(
        "set -e; stat -c %u:%g /usr/bin/env /usr; sudo touch /usr/local/bin/made-here /opt/made-here /made-here; "
        "sudo sh -c 'echo 127.0.0.1 other >>/etc/hosts'; grep -c other /etc/hosts; "
        "sudo install -o user -g user -d /srv/mine; touch /srv/mine/x; sudo rm -r /srv/mine; "
        "sudo rm /usr/local/bin/made-here /opt/made-here /made-here; sudo mkdir /0; sudo chown user /0; "
        "touch /0/x; sudo rm -r /0; ! touch /usr/local/bin/mine 2>/dev/null")
    assert (code, output) == (0, b"0:0\n0:0\n1\n")


@AS_ROOT
def test_a_set_user_id_program_of_ones_own(with_root):
    code, output = with_root.run(
        "cd && cp /usr/bin/id own && sudo chown root own && sudo chmod 4755 own && ./own -u -n; "
        "rm -f own")
    assert (code, output) == (0, b"root\n")


@pytest.mark.parametrize("local", ["ordinary"], indirect=True)
def test_without_a_root_it_says_so(sandbox):
    said = b"sudo: this sandbox has one user only: running as user, not as root\n"
    assert sandbox.run("sudo id -un; sudo -u user id -un; sudo -i pwd 2>/dev/null") == \
        (0, said + b"user\nuser\n/home/user\n")
    assert sandbox.run("sudo sh -c 'exit 7' 2>/dev/null")[0] == 7
    assert sandbox.run("sudo -l")[0] == 1
    assert b"there is no such user" in sandbox.run("sudo -u nobody-such true")[1]


@AS_ROOT
def test_it_is_there_in_a_copy(local, with_root):
    """Files that were saved and brought back, in a sandbox with other ids, are still root's."""
    api = Api(local.address)
    assert with_root.run("sudo touch /usr/local/roots /roots && cp /usr/bin/id ~/own && "
                         "sudo chown root ~/own && sudo chmod 4755 ~/own")[0] == 0
    answer = api.call("POST", "/sandboxes/%s/snapshots" % with_root.id, {})
    assert answer.status == 201, answer.body
    copy = api.create(templateID=answer.json["snapshotID"])
    try:
        assert copy.run("cat /proc/self/uid_map")[1] != with_root.run("cat /proc/self/uid_map")[1]
        assert copy.run("sudo id -un; ~/own -un; stat -c '%u %a' /usr/bin/sudo /usr/local/roots "
                        "/roots /usr/bin/env /home/user; sudo touch /usr/local/roots") == \
            (0, b"root\nroot\n0 4755\n0 644\n0 644\n0 755\n1000 755\n")
    finally:
        copy.delete()
