"""TLS of the gRPC port: who is let in, how the rest hears of it, and certificates that change."""

import itertools
import os
import shutil
import socket
import ssl
import threading
import time
import urllib.request

import grpc
import pytest
from harness import api, programs
from harness.certificates import Authority

NOWHERE = "http://127.0.0.1:1"  # no E2B is asked for anything here
CHECK = api.message("grpc.health.v1.HealthCheckRequest")()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder):
    return Authority(folder)


@pytest.fixture(scope="module")
def stranger(folder):
    return Authority(folder, "stranger")


@pytest.fixture(scope="module")
def client(authority):
    return authority.sign("client")


def channel(pod, authority, client=None):
    """A connection of its own."""
    cert, key = client or (None, None)
    return grpc.secure_channel(pod.address, grpc.ssl_channel_credentials(
        authority.path.read_bytes(), key and key.read_bytes(), cert and cert.read_bytes()),
        options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)])


def check(pod, authority, client=None, timeout=30):
    with channel(pod, authority, client) as connection:
        return api.Stub(connection, "grpc.health.v1.Health").Check(CHECK, timeout=timeout)


def served_serial(pod, authority, client=None):
    """Of the certificate that a new connection is met with."""
    context = ssl.create_default_context(cafile=str(authority.path))
    context.set_alpn_protocols(["h2"])
    if client:
        context.load_cert_chain(*map(str, client))
    with socket.create_connection(("127.0.0.1", pod.port), timeout=10) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as secure:
            return secure.getpeercert()["serialNumber"]


def serial_of(cert):
    return ssl._ssl._test_decode_cert(str(cert))["serialNumber"]


class Secret:
    """Files as Kubernetes mounts them: links through ..data, which is swapped."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.versions = itertools.count()
        self.paths = {name: folder / name for name in ("tls.crt", "tls.key", "ca.crt")}

    def put(self, cert, key, ca):
        version = self.folder / ("..%d" % next(self.versions))
        version.mkdir()
        for name, source in zip(self.paths, (cert, key, ca)):
            shutil.copy(source, version / name)
            if not self.paths[name].is_symlink():
                self.paths[name].symlink_to("..data/" + name)
        link = self.folder / "..new"
        link.symlink_to(version.name)
        os.replace(link, self.folder / "..data")


class Files:
    """Files that are replaced one by one, by rename or in place."""

    def __init__(self, folder, in_place):
        self.in_place = in_place
        folder.mkdir()
        self.paths = {name: folder / name for name in ("tls.crt", "tls.key", "ca.crt")}

    def put(self, *sources):
        for path, source in zip(self.paths.values(), sources):
            if self.in_place:
                path.write_bytes(source.read_bytes())
            else:
                shutil.copy(source, str(path) + ".new")
                os.replace(str(path) + ".new", path)


MAKE = {
    "secret": Secret,
    "renamed": lambda folder: Files(folder, False),
    "in place": lambda folder: Files(folder, True),
}


def options(store, client_ca=True):
    paths = [str(p) for p in store.paths.values()]
    return ["--tls-cert=" + paths[0], "--tls-key=" + paths[1],
            *(["--tls-client-ca=" + paths[2]] if client_ca else [])]


class Load:
    """Clients that connect, call and leave, all the time."""

    def __init__(self, pod, authority, client, count=2):
        self.failures, self.calls, self.over = [], 0, threading.Event()
        self._lock = threading.Lock()
        self._work = lambda: check(pod, authority, client)
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def _run(self):
        while not self.over.is_set():
            try:
                assert self._work().status == 1
            except grpc.RpcError as error:
                self.failures.append("%s: %s" % (error.code(), error.details()))
            with self._lock:
                self.calls += 1

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure):
        self.over.set()
        for thread in self._threads:
            thread.join()


def test_twenty_rotations_under_load_fail_nobody(folder, authority, client):
    """Three ways of replacing files; each time new connections must get to see the new one."""
    first = authority.sign("server0")
    for way, make in MAKE.items():
        store = make(folder / way.replace(" ", "-"))
        store.put(*first, authority.path)
        pod = programs.Pod(NOWHERE, None, *options(store))
        rotations = 8 if way == "secret" else 6
        with Load(pod, authority, client) as load:
            for n in range(rotations):
                cert, key = authority.sign("server%d" % (n + 1))
                before = load.calls
                store.put(cert, key, authority.path)
                programs.wait_until(
                    lambda: served_serial(pod, authority, client) == serial_of(cert),
                    timeout=30, what="rotation %d, %s" % (n, way), every=0.05)
                programs.wait_until(lambda: load.calls > before + 2, timeout=30, what="load")
        assert not load.failures, "%s: %s" % (way, load.failures[:3])
        assert not [line for line in pod.log if '"level":"error"' in line]
        pod.stop()


@pytest.fixture(scope="module")
def store(folder, authority):
    store = Secret(folder / "mounted")
    store.put(*authority.sign("server"), authority.path)
    return store


@pytest.fixture(scope="module")
def pod(store):
    pod = programs.Pod(NOWHERE, None, *options(store), "--log-level=debug")
    yield pod
    pod.stop()


def refusal(pod, authority, client=None):
    with pytest.raises(grpc.RpcError) as caught:
        check(pod, authority, client)
    return caught.value


def test_a_valid_client_is_let_in(pod, authority, client):
    assert check(pod, authority, client).status == 1


@pytest.mark.parametrize("who,says", [
    ("nobody", "there is none, and this server asks for one"),
    ("expired", "it expired at 20"),
    ("strangers", "no authority that this server trusts has signed it"),
    ("selfmade", "no authority that this server trusts has signed it"),
    ("server's", "it is not one for clients"),
])
def test_others_are_told_why_and_so_is_the_log(pod, authority, stranger, who, says):
    client = {
        "nobody": lambda: None,
        "expired": lambda: authority.sign("expired", days=-1),
        "strangers": lambda: stranger.sign("client-of-stranger"),
        "selfmade": lambda: (stranger.path, stranger.folder / "stranger.key"),
        "server's": lambda: authority.sign("server-only", usage="serverAuth"),
    }[who]()
    error = refusal(pod, authority, client)
    api.check_error(error, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert says in error.details()
    assert '"peer":"ipv4:127.0.0.1:' in pod.wait_log(says)


@pytest.mark.parametrize("path", sorted(api.STREAMING))
def test_no_method_is_in_front_of_the_wall(pod, authority, path):
    """Not even those that need no key."""
    service, name = path[1:].split("/")
    method = api.POOL.FindServiceByName(service).methods_by_name[name]
    request = api.message(method.input_type.full_name)()
    client_streams, server_streams = api.STREAMING[path]
    with channel(pod, authority) as connection, pytest.raises(grpc.RpcError) as caught:
        call = getattr(api.Stub(connection, service), name)
        answer = call(iter([request]) if client_streams else request, timeout=30)
        if server_streams:
            next(answer)
    api.check_error(caught.value, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_a_client_of_another_world_hears_of_it_itself(pod, authority, stranger, client):
    """It does not trust the server; nor does one that does not speak TLS get anywhere."""
    error = refusal(pod, stranger, client)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "certificate verify failed" in error.details()
    with api.channel(pod.address) as plain, pytest.raises(grpc.RpcError) as caught:
        api.Stub(plain, "grpc.health.v1.Health").Check(CHECK, timeout=10)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE,
                                   grpc.StatusCode.DEADLINE_EXCEEDED)


def bad_rotations(authority, stranger, folder):
    garbage = folder / "garbage"
    garbage.write_text("not a certificate\n")
    torn = folder / "torn"
    cert, key = authority.sign("torn-server")
    torn.write_bytes(cert.read_bytes()[:200])
    _, other_key = stranger.sign("other-server")
    return {
        "another's key": (cert, other_key, authority.path, "the key is not that of the"),
        "expired": (*authority.sign("old-server", days=-1), authority.path, "expired at"),
        "garbage": (garbage, key, authority.path, "no certificate"),
        "torn": (torn, key, authority.path, "damaged"),
        "no key": (cert, garbage, authority.path, "no private key"),
        "no authority": (cert, key, garbage, "no certificate"),
    }


def test_a_bad_rotation_keeps_the_old_one(pod, store, authority, stranger, client, folder):
    serial = served_serial(pod, authority, client)
    for name, (cert, key, ca, says) in bad_rotations(authority, stranger, folder).items():
        seen = len(pod.log)
        store.put(cert, key, ca)
        programs.wait_until(lambda: any(
            "the old one stays" in line and says in line for line in list(pod.log)[seen:]),
            timeout=30, what="a line about %s" % name)
        assert served_serial(pod, authority, client) == serial
        assert check(pod, authority, client).status == 1
    store.put(*authority.sign("good-server"), authority.path)
    programs.wait_until(lambda: served_serial(pod, authority, client) != serial, timeout=30,
                        what="the good one after the bad ones")


def test_metrics_tell_of_it(pod):
    with urllib.request.urlopen("http://%s/metrics" % pod.ready["admin"], timeout=30) as page:
        text = page.read().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    expires = float(values["sandboxd_certificate_expiry_timestamp_seconds"])
    assert 29 * 86400 < expires - time.time() < 31 * 86400
    assert float(values['sandboxd_certificate_reloads_total{result="failed"}']) >= 6
    assert float(values['sandboxd_certificate_reloads_total{result="ok"}']) >= 1
    assert float(values["sandboxd_unauthenticated_calls_total"]) >= 5
    assert values['sandboxd_limited_calls_total{limit="pod"}'] == "0"


def test_the_authority_of_clients_changes_too(pod, store, authority, stranger, client, folder):
    both = folder / "both.pem"
    both.write_bytes(authority.path.read_bytes() + stranger.path.read_bytes())
    newcomer = stranger.sign("newcomer")
    server = authority.sign("server")

    def lets_in(who):
        try:
            return check(pod, authority, who).status == 1
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            return False

    assert lets_in(client) and not lets_in(newcomer)
    store.put(*server, both)
    programs.wait_until(lambda: lets_in(newcomer), timeout=30, what="both authorities")
    assert lets_in(client)
    store.put(*server, stranger.path)
    programs.wait_until(lambda: not lets_in(client), timeout=30, what="only the new authority")
    assert lets_in(newcomer)
    store.put(*server, authority.path)
    programs.wait_until(lambda: lets_in(client), timeout=30, what="the old authority again")


@pytest.mark.parametrize("arguments,says", [
    (["--tls-cert=/no/such"], "go together"),
    (["--tls-key=/no/such"], "go together"),
    (["--tls-client-ca=/no/such"], "needs --tls-cert"),
    (["--tls-cert=/no/such", "--tls-key=/no/such"], "cannot read /no/such"),
    (["--listen=0.0.0.0:0"], "not encrypted"),
    (["--listen=0.0.0.0:0", "--tls-cert=/no/such", "--tls-key=/no/such"], "who they are"),
])
def test_what_makes_no_sense_does_not_start(arguments, says):
    result = programs.run("service/sandboxd", "--listen=127.0.0.1:0", "--admin-listen=", *arguments,
                          env={"E2B_API_KEY": "e2b_0", "E2B_API_URL": NOWHERE})
    assert result.returncode in (1, 2)
    assert says in result.stderr


# --- without client certificates ---

def test_whoever_knows_the_authority_is_let_in(store, authority, stranger, client):
    """Also with a certificate: nobody is asked for it. A rotation is seen here as well."""
    pod = programs.Pod(NOWHERE, None, *options(store, client_ca=False))
    assert check(pod, authority).status == check(pod, authority, client).status == 1
    cert, key = authority.sign("renewed")
    store.put(cert, key, authority.path)
    programs.wait_until(lambda: served_serial(pod, authority) == serial_of(cert), timeout=30,
                        what="the new certificate")
    assert check(pod, authority).status == 1
    with pytest.raises(grpc.RpcError):
        check(pod, stranger, timeout=5)
    pod.stop()


# --- sandboxctl ---


@pytest.fixture(scope="module")
def keyed_pod(store, tmp_path_factory):
    """TLS, client certificates and keys at once; the key is one that sandboxctl made."""
    made = programs.run("client/sandboxctl", "new-key", "acme", "test")
    assert made.returncode == 0, made.stderr
    key, line = made.stdout.splitlines()
    folder = tmp_path_factory.mktemp("keys")
    (folder / "key").write_text(key + "\n")
    (folder / "keys").write_text(line + "\n")
    pod = programs.Pod(NOWHERE, None, *options(store), "--auth-keys=%s" % (folder / "keys"),
                       "--auth-exempt=none")
    yield pod, folder / "key", key
    pod.stop()


def sandboxctl(pod, *arguments, env=None):
    return programs.run("client/sandboxctl", "--address=" + pod.address, "--call-timeout=30s",
                        *arguments, "health", env=env, timeout=60)


def test_sandboxctl_brings_what_it_is_given(keyed_pod, authority, client):
    pod, key_file, key = keyed_pod
    trust = "--tls-ca=%s" % authority.path
    own = ["--tls-cert=%s" % client[0], "--tls-key=%s" % client[1]]
    for arguments, env in (
            ([trust, *own, "--token-file=%s" % key_file], None),
            ([trust, *own], {"SANDBOXD_TOKEN": key}),
            ([], {"SANDBOXD_TLS_CA": str(authority.path), "SANDBOXD_CLIENT_CERT": str(client[0]),
                  "SANDBOXD_CLIENT_KEY": str(client[1]), "SANDBOXD_TOKEN_FILE": str(key_file)})):
        result = sandboxctl(pod, *arguments, env=env)
        assert (result.returncode, " serving" in result.stdout) == (0, True), result
    for arguments, says in (
            ([trust, *own], "asks for a key"),
            ([trust, *own, "--token=sbx_wrong"], "does not know the key"),
            ([trust, "--token-file=%s" % key_file], "asks for one"),
            # The system does not trust our authority.
            ([*own, "--call-timeout=1s"], "UNAVAILABLE"),
            (["--call-timeout=1s"], "UNAVAILABLE"),
            ([trust, own[0]], "go together"),
            (["--tls-ca=/no/such"], "cannot read /no/such"),
            (["--token-file=/no/such"], "cannot read /no/such")):
        result = sandboxctl(pod, *arguments)
        assert result.returncode in (2, 255), result
        assert says in result.stdout + result.stderr, (arguments, result)
        assert key not in result.stdout + result.stderr
    assert not [line for line in pod.log if key in line]


def test_keys_change_while_the_pod_runs(keyed_pod, authority, client):
    pod, key_file, key = keyed_pod
    keys = key_file.parent / "keys"
    before = keys.read_text()
    made = programs.run("client/sandboxctl", "new-key", "acme").stdout.splitlines()

    def is_let_in(token):
        with channel(pod, authority, client) as connection:
            try:
                api.Stub(connection, "grpc.health.v1.Health").Check(
                    CHECK, timeout=30, metadata=(("authorization", "Bearer " + token),))
                return True
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAUTHENTICATED
                return False

    assert is_let_in(key) and not is_let_in(made[0])
    keys.write_text(before + made[1] + "\n")
    programs.wait_until(lambda: is_let_in(made[0]), timeout=30, what="the new key")
    assert is_let_in(key)
    seen = len(pod.log)
    keys.write_text(before + "key acme " + made[0] + "\n")  # pasted unhashed
    programs.wait_until(lambda: any("line 2" in line for line in list(pod.log)[seen:]),
                        timeout=30, what="a complaint")
    assert is_let_in(made[0]) and is_let_in(key)
    keys.write_text(made[1] + "\n")
    programs.wait_until(lambda: not is_let_in(key), timeout=30, what="the end of the old key")
    assert is_let_in(made[0])
    keys.write_text(before)
    programs.wait_until(lambda: is_let_in(key), timeout=30, what="the old key again")
    for token in (key, made[0]):
        assert not [line for line in pod.log if token in line]
