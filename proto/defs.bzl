"""Generates C from .proto files with the system's protoc-c."""

load("@rules_cc//cc:defs.bzl", "cc_library")

_WKT = "/usr/include"  # google/protobuf/*.proto, of Debian's libprotobuf-dev

def c_proto_library(name, srcs, well_known = [], deps = [], **kwargs):
    """Messages and service descriptors of srcs as a C library.

    Args:
      name: the library; its headers are included as "sandbox/v1/files.pb-c.h".
      srcs: files below proto/ whose imports are in srcs, well_known or deps.
      well_known: names from google/protobuf that this library also carries, e.g. "timestamp".
      deps: other c_proto_library targets.
      **kwargs: passed on.
    """
    files = srcs + ["google/protobuf/%s.proto" % w for w in well_known]
    outs = [f.replace(".proto", ".pb-c." + end) for f in files for end in ("c", "h")]
    native.genrule(
        name = name + "_c",
        srcs = ["//proto:protos"],
        outs = outs,
        cmd = "protoc-c -Iproto -I%s --c_out=$(RULEDIR) %s" % (
            _WKT,
            " ".join([("proto/" + f if f in srcs else _WKT + "/" + f) for f in files]),
        ),
    )
    cc_library(
        name = name,
        srcs = [o for o in outs if o.endswith(".c")],
        hdrs = [o for o in outs if o.endswith(".h")],
        copts = ["-w"],
        strip_include_prefix = "/proto",
        deps = deps + ["@libprotobuf-c"],
        **kwargs
    )
