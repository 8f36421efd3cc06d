#!/bin/bash
# Puts what was built where a system keeps such things: install.sh BUILT SOURCES.
#
# BUILT is bazel-bin, SOURCES the root of the repository (in a test both are its runfiles). PREFIX is
# where it will be found, /usr/local by default; DESTDIR goes in front of it while packages are made.
set -euo pipefail

built=$1 sources=$2
prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}$prefix

put() { # put MODE FROM TO
    install -D -m "$1" "$2" "$root/$3"
}

made() { # made TO COMMAND... installs what the command prints
    local to=$root/$1
    shift
    mkdir -p "$(dirname "$to")"
    "$@" >"$to"
    chmod 644 "$to"
}

sandboxd=$built/service/sandboxd
sandboxctl=$built/client/sandboxctl
e2b_local=$built/runtime/local/e2b-local

for program in "$sandboxd" "$sandboxctl" "$e2b_local"; do
    name=$(basename "$program")
    put 755 "$program" "bin/$name"
    strip --strip-debug "$root/bin/$name"
    made "share/bash-completion/completions/$name" "$program" --print=bash
    made "share/zsh/site-functions/_$name" "$program" --print=zsh
    made "share/fish/vendor_completions.d/$name.fish" "$program" --print=fish
done
made share/man/man8/sandboxd.8 "$sandboxd" --print=man
made share/man/man8/e2b-local.8 "$e2b_local" --print=man
made share/man/man1/sandboxctl.1 "$sandboxctl" --print=man
made share/doc/sandboxd/sandboxd.conf.example "$sandboxd" --print=config

# The library. Its headers have a folder of their own: the generated ones are many.
put 644 "$built/client/install/libsandbox.a" lib/libsandbox.a
put 644 "$sources/client/include/sandbox.h" include/libsandbox/sandbox.h
for folder in sandbox/v1 google/protobuf; do
    for header in "$built/proto/$folder"/*.pb-c.h; do
        put 644 "$header" "include/libsandbox/$folder/$(basename "$header")"
    done
done
version=$("$sandboxctl" --version)
made lib/pkgconfig/libsandbox.pc cat <<EOF
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include/libsandbox

Name: libsandbox
Description: Isolated sandboxes over gRPC, from C
Version: ${version##* }
Requires: libprotobuf-c
Requires.private: grpc
Libs: -L\${libdir} -lsandbox
Libs.private: -lgrpc -lgpr -pthread
Cflags: -I\${includedir}
EOF

# The API, for clients in other languages, proxies and grpcurl -protoset.
for proto in "$sources"/proto/sandbox/v1/*.proto; do
    put 644 "$proto" "share/sandboxd/proto/sandbox/v1/$(basename "$proto")"
done
put 644 "$built/proto/sandboxd.protoset" share/sandboxd/sandboxd.protoset
put 644 "$built/proto/service_config.json" share/sandboxd/service_config.json
put 644 "$sources/k8s/balancers/envoy.yaml" share/sandboxd/envoy.yaml
put 644 "$sources/LICENSE" share/doc/sandboxd/LICENSE
