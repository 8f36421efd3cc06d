"""Certificates for tests, made by openssl."""

import subprocess


def openssl(*args, stdin=None):
    subprocess.run(["openssl", *map(str, args)], input=stdin, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)


class Authority:
    """Signs certificates; everything lies in one folder."""

    def __init__(self, folder, name="authority"):
        self.folder = folder
        self.name = name
        self.path = folder / (name + ".pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", "/CN=" + name, "-days", "30", "-keyout", folder / (name + ".key"),
                "-out", self.path)

    def sign(self, name, days=30, usage=None):
        """Paths of a new certificate for this machine, and of its key."""
        key, request, cert = (self.folder / (name + end) for end in (".key", ".csr", ".crt"))
        extensions = self.folder / (name + ".ext")
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n" +
                              ("extendedKeyUsage=%s\n" % usage if usage else ""))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", "/CN=" + name, "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.path,
                "-CAkey", self.folder / (self.name + ".key"), "-CAcreateserial",
                "-days", days, "-extfile", extensions, "-out", cert)
        return cert, key
