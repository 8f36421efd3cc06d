"""What sandboxes reach of the internet, and what they never do."""

import base64
import hashlib
import json
import os
import shutil
import socket
import tempfile
import textwrap
import time
from pathlib import Path

import internet
import pytest
from harness import leftovers, programs
from internet import HOST, HOST_ALIAS, NAME_SERVER, OTHER, PRIVATE, THIRD, WEB
from tiers import OrdinaryLocal
from wire import api  # noqa: F401, the fixture

ROOT = os.geteuid() == 0  # before we are in a namespace of our own, where everybody is
ALL = ["0.0.0.0/0"]
PROXY = "http://169.254.0.22:61128"


@pytest.fixture(scope="session")
def net():
    folder = tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp")
    try:
        made = internet.Internet(folder)
    except OSError as error:
        pytest.skip("no network of our own: %s" % error)
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["own", "ordinary", "ordinary-proxy"])
def local(request, net):
    who, _, proxy = request.param.partition("-")
    if request.param == "ordinary" and not ROOT:
        pytest.skip("the tests already run as an ordinary user")
    options = ["--egress-dns=" + NAME_SERVER, "--egress-allow=192.168.7.7:8080"]
    options += ["--egress-proxy"] if proxy else []
    who = who if ROOT else "own"
    folder = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    program = (OrdinaryLocal(folder, *options) if who == "ordinary" else
               programs.Local(folder / "data", *options))
    program.redirects = not proxy
    assert ("redirected" in program.ready["isolation"]) == program.redirects
    yield program
    program.stop()
    assert not leftovers.none_within(5, lambda: leftovers.mounts_below(folder))
    shutil.rmtree(folder)


@pytest.fixture
def create(api):
    made = []

    def make(**fields):
        made.append(api.create(timeout=600, **fields))
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.delete()


@pytest.fixture(scope="module")
def free(api):
    """A sandbox without rules."""
    made = api.create(timeout=600)
    yield made
    made.delete()


def curl(sandbox, url, *options):
    """The answer of the internet's web server; None when there is none. It must come soon."""
    began = time.monotonic()
    code, output = sandbox.run("curl -ksSf --connect-timeout 8 -m 10 %s '%s'"
                               % (" ".join(options), url))
    assert time.monotonic() - began < 7, "curl had to wait: %s" % output
    if code != 0:
        return None
    return json.loads(output)


def script(*parts):
    """The command that runs a program in Python."""
    code = "import os, socket, struct, time\n" + "".join(textwrap.dedent(p) for p in parts)
    return "echo %s | base64 -d | python3 -" % base64.b64encode(code.encode()).decode()


def python(sandbox, *parts):
    code, output = sandbox.run(script(*parts))
    assert code == 0, output
    return output.decode().strip()


def allowing(*entries):
    return {"allowOut": list(entries), "denyOut": ALL}


def test_the_internet_is_there(free, local):
    for url in ("http://%s/x" % WEB, "http://allowed.test/x", "https://allowed.test/x"):
        answer = curl(free, url)
        assert answer["address"] == WEB and answer["target"] == "/x"
    assert curl(free, "http://allowed.test:8080/")["headers"]["host"] == "allowed.test:8080"
    assert curl(free, "http://mixed.test/")["address"] == WEB
    posted = curl(free, "http://allowed.test/", "-H 'Transfer-Encoding: chunked'", "-d body")
    assert posted["method"] == "POST" and posted["body"] == "body"


def test_programs_find_their_way(free, local):
    urllib = "import urllib.request as r; print(r.urlopen('http://allowed.test/p').read().decode())"
    assert WEB in free.run('python3 -c "%s"' % urllib)[1].decode()
    if local.redirects:  # else Node has to be 24 to know of proxies
        fetch = "fetch('http://allowed.test/n').then(r => r.text()).then(console.log)"
        assert WEB in free.run('node -e "%s"' % fetch)[1].decode()
        by_bash = "exec 3<>/dev/tcp/allowed.test/2222; head -n1 <&3"
        assert WEB in free.run("bash -c '%s'" % by_bash)[1].decode()
        assert free.run("env")[1].lower().count(b"proxy") == 0
    else:
        assert b"https_proxy=" + PROXY.encode() in free.run("env")[1]


def addresses_of_the_host():
    return ["127.0.0.1", "127.1", "0.0.0.0", "localhost", HOST, HOST_ALIAS, "[::1]",
            "[::ffff:%s]" % HOST, "[::ffff:127.0.0.1]", "0xc6336402", "3325256706",
            "[64:ff9b::%x:%x]" % (0xc633, 0x6402), "host.test", "alias.test", "loopback.test",
            "host.test.", "169.254.0.22", "169.254.0.21"]


def test_the_host_is_never_there(free, local, net, api):
    """Each on the API's own port, and on one where only the machine listens."""
    hits = []
    with socket.create_server(("0.0.0.0", 7777)) as listener:
        listener.settimeout(0.01)
        port = int(local.address.rsplit(":", 1)[1])
        tries = [(h, p) for h in addresses_of_the_host() for p in (7777, port)]
        script = "; ".join(
            "curl -sS -m 3 -o /dev/null -w '%%{http_code} ' %s http://%s:%d/health"
            % (how, host, port) for host, port in tries
            for how in ("", "--noproxy '*'", "-x " + PROXY, "-p -x " + PROXY))
        codes = free.run(script + "; true", timeout=300)[1].decode()
        try:
            while True:
                hits.append(listener.accept()[1])
        except TimeoutError:
            pass
    assert not hits
    assert "200" not in [c for line in codes.splitlines() for c in line.split() if c.isdigit()]


def test_private_networks_are_never_there(free, net):
    net.seen()
    names = ["private.test", "metadata.test", "2852039166", "[::ffff:10.1.2.3]", "0xa9fea9fe"]
    script = "; ".join("curl -sS -m 3 -o /dev/null %s http://%s/" % (how, host)
                       for host in [*PRIVATE, *names]
                       for how in ("", "--noproxy '*'", "-x " + PROXY, "-p -x " + PROXY))
    free.run(script + "; true", timeout=300)
    assert net.seen()["addresses"] == []


def test_no_rule_opens_private_networks(create, net):
    sandbox = create(network={"allowOut": ["10.0.0.0/8", "169.254.169.254", HOST, "127.0.0.1", "*",
                                           "private.test"], "denyOut": ALL})
    net.seen()
    for host in ("10.1.2.3", "169.254.169.254", HOST, "private.test", "metadata.test", "host.test"):
        assert curl(sandbox, "http://%s/" % host) is None
    assert net.seen()["addresses"] == []


def test_a_name_that_changes_gains_nothing(create, net):
    sandbox = create(network=allowing("rebind.test"))
    net.seen()
    for _ in range(8):
        answer = curl(sandbox, "http://rebind.test/", "-H 'Connection: close'")
        assert answer is None or answer["address"] == OTHER
    assert set(net.seen()["addresses"]) <= {OTHER}


def test_the_operator_opens_what_he_names(free, net):
    assert curl(free, "http://192.168.7.7:8080/")["address"] == "192.168.7.7"
    assert curl(free, "http://192.168.7.7/") is None


def test_no_internet_is_none(create, net):
    sandbox = create(allow_internet_access=False)
    net.seen()
    for url in ("http://%s/" % WEB, "http://allowed.test/", "https://allowed.test/"):
        assert curl(sandbox, url) is None
    assert sandbox.run("getent ahostsv4 secret-to-carry-out.test")[0] != 0
    seen = net.seen()
    assert seen["addresses"] == [] and seen["names"] == []
    assert sandbox.get().json["allowInternetAccess"] is False


def test_addresses_are_allowed_and_denied(create):
    sandbox = create(network=allowing(WEB))
    assert curl(sandbox, "http://%s/" % WEB)["address"] == WEB
    assert curl(sandbox, "https://%s/" % WEB)["address"] == WEB
    assert curl(sandbox, "http://%s/" % OTHER) is None
    sandbox = create(network={"denyOut": [WEB + "/28"], "allowOut": [WEB]})
    assert curl(sandbox, "http://%s/" % WEB)["address"] == WEB
    assert curl(sandbox, "http://%s/" % OTHER)["address"] == OTHER
    sandbox = create(network={"denyOut": [WEB + "/28"]})
    assert curl(sandbox, "http://%s/" % WEB) is None
    assert curl(sandbox, "http://allowed.test/") is None
    sandbox = create(network={"allowOut": [WEB]}, allow_internet_access=False)
    assert curl(sandbox, "http://%s/" % WEB)["address"] == WEB
    assert curl(sandbox, "http://%s/" % OTHER) is None


def test_domains_are_allowed(create, net):
    sandbox = create(network=allowing("Allowed.test", "*.www.allowed.test", OTHER))
    for scheme in ("http", "https"):
        assert curl(sandbox, scheme + "://allowed.test/")["address"] == WEB
        assert curl(sandbox, scheme + "://ALLOWED.test/")["address"] == WEB
        assert curl(sandbox, scheme + "://deep.www.allowed.test/")["address"] == WEB
        assert curl(sandbox, scheme + "://%s/" % OTHER)["address"] == OTHER
        assert curl(sandbox, scheme + "://www.allowed.test/") is None
        assert curl(sandbox, scheme + "://third.test/") is None
        assert curl(sandbox, scheme + "://%s/" % THIRD) is None
    net.seen()
    sandbox.run("getent ahostsv4 carry-out.third.test")
    assert net.seen()["names"] == []
    assert curl(create(network=allowing("*")), "https://third.test/")["address"] == THIRD


def test_who_lies_about_the_name_gets_to_the_name(create, net):
    """The address is the client's invention, the name is what the rule is about."""
    sandbox = create(network=allowing("allowed.test"))
    net.seen()
    for scheme, port in (("http", 80), ("https", 443)):
        answer = curl(sandbox, scheme + "://allowed.test/", "--noproxy '*'",
                      "--resolve allowed.test:%d:%s" % (port, THIRD))
        assert answer is None or answer["address"] == WEB
    answer = curl(sandbox, "http://%s/" % THIRD, "-H 'Host: allowed.test'")
    assert answer is None or answer["address"] == WEB
    assert THIRD not in net.seen()["addresses"]


def test_an_allowed_domain_is_reached_on_other_ports(create, local):
    sandbox = create(network=allowing("allowed.test"))
    if local.redirects:
        greet = "import socket; s = socket.create_connection(('%s', 2222), 5); print(s.recv(99))"
        assert WEB in sandbox.run('python3 -c "%s"' % greet % "allowed.test")[1].decode()
        assert sandbox.run('python3 -c "%s"' % greet % THIRD)[0] != 0
        assert "hello" not in sandbox.run('python3 -c "%s"' % greet % THIRD)[1].decode()
    else:
        assert curl(sandbox, "http://allowed.test:8080/", "-p")["address"] == WEB
        assert curl(sandbox, "http://third.test:8080/", "-p") is None


def test_rules_set_headers(create):
    rule = [{"transform": {"headers": {"X-Secret": "s3cret", "User-Agent": "rule"}}}]
    sandbox = create(network={"rules": {"allowed.test": rule}})
    sent = curl(sandbox, "http://allowed.test/", "-d body", "-A mine")
    assert sent["headers"]["x-secret"] == "s3cret" and sent["headers"]["user-agent"] == "rule"
    assert sent["body"] == "body"
    for url, options in [
            ("http://third.test/", []), ("http://www.allowed.test/", []),
            ("http://%s/" % THIRD, []), ("https://allowed.test/", []),
            ("http://allowed.test:8080/", [])]:
        assert "x-secret" not in curl(sandbox, url, *options)["headers"]
    # Not to somebody else, whatever the client says.
    spoofed = curl(sandbox, "http://allowed.test/", "--noproxy '*'",
                   "--resolve allowed.test:80:" + THIRD)
    assert spoofed is None or spoofed["address"] == WEB
    detail = sandbox.get().json["network"]
    assert detail["rules"]["allowed.test"] == rule


def test_headers_are_for_their_domain_alone(create, local):
    if not local.redirects:
        pytest.skip("a proxy's clients say whom each request is for")
    rule = [{"transform": {"headers": {"X-Secret": "s3cret"}}}]
    sandbox = create(network={"rules": {"allowed.test": rule}})
    found = python(sandbox, """
        s = socket.create_connection(('allowed.test', 80), 5)
        for host in ('allowed.test', 'third.test', 'Allowed.test:80'):
            s.sendall(b'POST / HTTP/1.1\\r\\nHost: ' + host.encode() +
                      b'\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n'
                      b'3\\r\\nabc\\r\\n1\\r\\nd\\r\\n0\\r\\n\\r\\n')
            answer = s.recv(4096).decode()
            print('X-Secret'.lower() in answer.lower(), '"abcd"' in answer)
    """)
    assert found.split() == ["True", "True", "False", "True", "True", "True"]


def test_rules_are_replaced_while_it_runs(create, api, net):
    sandbox = create(network={"denyOut": ALL, "allowPublicTraffic": False})
    assert curl(sandbox, "http://%s/" % WEB) is None

    def put(**body):
        return api.call("PUT", "/sandboxes/%s/network" % sandbox.id, body)

    assert put(allowOut=["allowed.test"], denyOut=ALL).status == 204
    assert curl(sandbox, "http://allowed.test/")["address"] == WEB
    assert curl(sandbox, "http://%s/" % THIRD) is None
    assert sandbox.get().json["network"] == {"allowPublicTraffic": False,
                                             "allowOut": ["allowed.test"], "denyOut": ALL}
    assert put().status == 204
    assert curl(sandbox, "http://%s/" % THIRD)["address"] == THIRD
    assert put(allow_internet_access=False).status == 204
    assert curl(sandbox, "http://%s/" % THIRD) is None
    assert put(allowOut=["a.test"]).status == 400
    assert put(denyOut="x").status == 400
    assert put(egressProxy={"address": "x:1"}).status == 403
    assert api.call("PUT", "/sandboxes/%s/network" % ("i" * 21), {}).status == 404


def greeting(target, port=2222):
    """Code that opens a connection to it, by the proxy if there is one, into s."""
    return """
        if 'http_proxy' in os.environ:
            s = socket.create_connection(('169.254.0.22', 61128), 5)
            s.sendall(b'CONNECT %s:%d HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
            head = b''
            while not head.endswith(b'\\r\\n\\r\\n'):
                head += s.recv(1)
            assert b' 200 ' in head, head
        else:
            s = socket.create_connection(('%s', %d), 5)
        s.settimeout(20)
    """ % (target, port, target, port)


def test_each_side_ends_by_itself(free):
    """The greeter answers when it has got everything, so our end must be passed on alone."""
    assert python(free, greeting(WEB), """
        got = s.recv(99)
        s.sendall(b'x' * 3000000)
        s.shutdown(socket.SHUT_WR)
        n = 0
        while piece := s.recv(65536):
            n += len(piece)
        print(got.startswith(b'hello'), n)
    """) == "True 3000000"


def test_much_passes(free):
    size = 64 << 20
    code, output = free.run("curl -sS -m 60 http://allowed.test/big/%d | sha256sum; exit "
                            "${PIPESTATUS[0]}" % size)
    want = hashlib.sha256(bytes(range(256)) * (size // 256)).hexdigest()
    assert code == 0 and output.decode().split()[0] == want


def test_who_does_not_read_does_not_fill_memory(free, local):
    before = local.rss()
    assert python(free, greeting(WEB, 80), """
        s.sendall(b'GET /big/500000000 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
        time.sleep(1)
        print('waited')
    """) == "waited"
    assert local.rss() - before < 16 << 20


def test_open_connections_end_with_their_permission(create, api, net):
    sandbox = create()
    with sandbox.start(script(greeting(WEB), """
            print(s.recv(99), flush=True)
            try:
                print('end', s.recv(99))
            except OSError as e:
                print('reset', e.errno)
            """)) as process:
        output = process.output()
        assert b"hello" in next(output)
        assert net.seen()["open"] == 1
        assert api.call("PUT", "/sandboxes/%s/network" % sandbox.id,
                        {"denyOut": [WEB]}).status == 204
        assert b"reset 104" in b"".join(output)
    programs.wait_until(lambda: net.seen()["open"] == 0, 5, "the other side to see it")


def test_connections_end_with_the_sandbox(create, net):
    sandbox = create()
    with sandbox.start(script(greeting(WEB), """
            print(s.recv(99), flush=True)
            time.sleep(60)
            """)) as process:
        assert b"hello" in next(process.output())
        assert sandbox.delete().status == 204
    programs.wait_until(lambda: net.seen()["open"] == 0, 5, "the other side to see it")


def test_who_is_not_there_is_not_waited_for(free, local):
    assert curl(free, "http://%s:81/" % WEB) is None
    assert curl(free, "http://no-such-name.test/") is None
    code, output = free.run("curl -sSf -m 5 http://no-such-name.test/")
    assert code != 0 and (b"resolve host" in output or not local.redirects)


def test_what_is_not_passed_on_is_refused_at_once(free):
    """HTTP/3 and everything else over UDP, and IPv6."""
    assert python(free, """
        for family, address in ((socket.AF_INET, '1.1.1.1'), (socket.AF_INET6, '2001:db8::1')):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                if (family, kind) == (socket.AF_INET, socket.SOCK_STREAM):
                    continue
                s = socket.socket(family, kind)
                s.settimeout(3)
                try:
                    s.connect((address, 443))
                    s.send(b'x')
                    s.recv(1)
                    print('got something')
                except TimeoutError:
                    print('waited')
                except OSError as e:
                    print('refused')
    """).split() == ["refused"] * 3


def test_a_flood_harms_nobody(create, api, local):
    """Connections, denied and garbled ones, and questions, as many as can be."""
    sandbox, other = create(network=allowing("allowed.test")), create()
    with sandbox.start(script("""
            import threading
            end = time.time() + 2
            def connect():
                while time.time() < end:
                    try:
                        s = socket.socket()
                        s.settimeout(1)
                        s.connect(('%s', 80) if 'http_proxy' not in os.environ else
                                  ('169.254.0.22', 61128))
                        s.send(b'GET')
                        s.close()
                    except OSError:
                        pass
            def ask():
                s = socket.socket(type=socket.SOCK_DGRAM)
                n = 0
                while time.time() < end:
                    n += 1
                    s.sendto(struct.pack('>HHHHHH', n & 65535, 0x100, 1, 0, 0, 0) +
                             b'\\x07allowed\\x04test\\0\\0\\1\\0\\1', ('169.254.0.22', 53))
            threads = [threading.Thread(target=t) for t in [connect] * 8 + [ask] * 2]
            print('begins', flush=True)
            [t.start() for t in threads]
            [t.join() for t in threads]
            print('over')
            """ % THIRD)) as process:
        output = process.output()
        assert b"begins" in next(output)
        slowest = 0
        for _ in range(20):
            began = time.monotonic()
            assert api.request("GET", "/health").status == 200
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.05)
        began = time.monotonic()
        assert other.run("true")[0] == 0
        assert max(slowest, time.monotonic() - began) < 1
        assert curl(other, "http://allowed.test/")["address"] == WEB
        assert b"over" in b"".join(output)
    assert curl(sandbox, "http://allowed.test/")["address"] == WEB


def query(name, kind, over="udp", server="169.254.0.22"):
    return """
        def query(name, kind, over, server):
            q = struct.pack('>HHHHHH', 7, 0x100, 1, 0, 0, 0)
            q += b''.join(bytes([len(l)]) + l.encode() for l in name.split('.'))
            q += struct.pack('>BHH', 0, kind, 1)
            s = socket.socket(type=socket.SOCK_DGRAM if over == 'udp' else socket.SOCK_STREAM)
            s.settimeout(8)
            s.connect((server, 53))
            if over == 'udp':
                s.send(q)
                a = s.recv(70000)
            else:
                f = s.makefile('rwb')
                f.write(struct.pack('>H', len(q)) + q); f.flush()
                a = f.read(struct.unpack('>H', f.read(2))[0])
            flags, _, answers = struct.unpack_from('>HHH', a, 2)
            return flags & 15, bool(flags & 0x200), answers, len(a)
        print(*query(%r, %d, %r, %r))
    """ % (name, kind, over, server)


@pytest.mark.parametrize("name, kind, want", [
    ("allowed.test", 1, "0 False 1"),
    ("ALLOWED.test", 1, "0 False 1"),
    ("allowed.test", 28, "0 False 0"),
    ("allowed.test", 65, "0 False 0"),
    ("allowed.test", 16, "0 False 1"),
    ("big.allowed.test", 16, "0 True 0"),
    ("no-such-name.test", 1, "3 False 0"),
    ("private.test", 1, "0 False 0"),
    ("mixed.test", 1, "0 False 1"),
])
def test_names_are_looked_up(free, name, kind, want):
    assert python(free, query(name, kind)).startswith(want)


def test_long_answers_come_over_tcp(free, local):
    if not local.redirects:
        pytest.skip("the proxy's name server has no TCP")
    assert python(free, query("big.allowed.test", 16, "tcp")).startswith("0 False 40")


def test_other_name_servers_are_this_one(free, local):
    if not local.redirects:
        pytest.skip("nothing is redirected")
    assert python(free, query("allowed.test", 1, server="8.8.8.8")).startswith("0 False 1")
    assert python(free, query("allowed.test", 1, "tcp", server="8.8.8.8")).startswith("0 False 1")


def test_refused_names_fail_at_once(create):
    sandbox = create(network=allowing("allowed.test"))
    assert python(sandbox, query("third.test", 1)).startswith("5 False 0")
    assert python(sandbox, query("www.allowed.test", 16)).startswith("5 False 0")
    assert python(sandbox, query("allowed.test", 1)).startswith("0 False 1")


def test_garbage_is_survived(free):
    assert python(free, """
        s = socket.socket(type=socket.SOCK_DGRAM)
        for data in [b'', b'x', b'\\0' * 12, b'\\0' * 500, bytes(range(256)) * 4,
                     struct.pack('>HHHHHH', 1, 0x100, 1, 0, 0, 0) + b'\\xc0\\x0c\\0\\1\\0\\1',
                     struct.pack('>HHHHHH', 1, 0x100, 9, 9, 9, 9) + b'\\x3f' * 400]:
            s.sendto(data, ('169.254.0.22', 53))
        for data in [b'\\x16\\x03\\x01\\xff\\xff' + b'\\1' * 70000, b'GET ' * 20000, b'\\0' * 70000,
                     b'CONNECT :: HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n',
                     b'CONNECT x:99999999999 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n',
                     b'GET http:// HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n',
                     b'GET /x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n']:
            for port in (61128, 53):
                try:
                    c = socket.create_connection(('169.254.0.22', port), 3)
                    c.sendall(data)
                    c.shutdown(socket.SHUT_WR)
                    c.settimeout(3)
                    while c.recv(65536):
                        pass
                except OSError:
                    pass
    """) == ""
    assert curl(free, "http://allowed.test/")["address"] == WEB


def test_many_connections_wait_for_room(free, api):
    """More than there may be at a time: all are served in the end, and nobody else waits."""
    start = "def start():\n" + textwrap.indent(textwrap.dedent(greeting(WEB)), "    ")
    with free.start(script(start + "    return s\n", """
            # By the proxy each waits for its answer, so there all must have room.
            open_ones = [start() for _ in range(500 if 'http_proxy' in os.environ else 520)]
            greeted = 0
            for s in open_ones:
                s.settimeout(20)
                greeted += s.recv(5) == b'hello'
                s.close()
            print('greeted', greeted, len(open_ones))
            """)) as process:
        other = api.create(timeout=60)
        assert curl(other, "http://allowed.test/")["address"] == WEB
        other.delete()
        words = b"".join(process.output()).split()
    assert words[0] == b"greeted" and words[1] == words[2]


def test_ports_may_be_for_those_with_the_token(create):
    sandbox = create(network={"allowPublicTraffic": False, "maskRequestHost": "app.test:${PORT}"})
    token = sandbox.created["trafficAccessToken"]
    assert len(token) == 64 and token != sandbox.token
    serve = textwrap.dedent("""
        import http.server
        class Echo(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(str(self.headers).encode())
        http.server.HTTPServer(("127.0.0.1", 3000), Echo).serve_forever()
        """)
    with sandbox.start("python3 -c '%s'" % serve):
        refused = sandbox.request("GET", "/", port=3000)
        assert refused.status == 403
        assert refused.json == {
            "sandboxId": sandbox.id, "code": 403, "message":
            "Sandbox is secured with traffic access token. Token header "
            "'e2b-traffic-access-token' is missing"}
        wrong = sandbox.request("GET", "/", port=3000, headers={"e2b-traffic-access-token": "x"})
        assert wrong.status == 403 and "is invalid" in wrong.json["message"]
        right = sandbox.request("GET", "/", port=3000, headers={"e2b-traffic-access-token": token})
        assert right.status == 200
        assert "Host: app.test:3000\n" in right.body.decode()
        assert "X-Forwarded-Host: %s\n" % sandbox.api.address in right.body.decode()
    assert sandbox.health() == 204
    again = sandbox.api.call("POST", "/v2/sandboxes/%s/connect" % sandbox.id, {})
    assert again.json["trafficAccessToken"] == token


def test_a_private_sandbox_has_to_be_secure(api):
    answer = api.call("POST", "/sandboxes", {"templateID": "base", "secure": False,
                                             "network": {"allowPublicTraffic": False}})
    assert answer.status == 400 and "'secure' flag" in answer.json["message"]
