#!/bin/bash
# Makes a root filesystem for one program: it, the libraries it needs, certificate authorities, and a
# user who is nobody. root.sh PROGRAM ROOT
set -euo pipefail

program=$1 root=$2

mkdir -p "$root"/{etc/ssl/certs,usr/bin,usr/lib,proc,sys,dev,tmp}
chmod 1777 "$root/tmp"
# As in Debian: one place for libraries, whichever way a name takes there.
ln -sfn usr/lib "$root/lib"
ln -sfn usr/lib64 "$root/lib64"
mkdir -p "$root/usr/lib64"

install -m 755 "$program" "$root/usr/bin/"
# Paths with what they are links to; the loader is the only one that is not named "name => path".
ldd "$program" | grep -oE '/[^ ]+' | sort -u | while read -r library; do
    case $library in
    /lib64/*) install -m 755 -D "$(readlink -f "$library")" "$root/usr$library" ;;
    /lib/*) install -m 644 -D "$(readlink -f "$library")" "$root/usr$library" ;;
    /usr/lib/*) install -m 644 -D "$(readlink -f "$library")" "$root$library" ;;
    *)
        echo "root.sh: $program needs $library, which is in no folder for libraries" >&2
        exit 1
        ;;
    esac
done

cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
printf 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'nonroot:x:65532:\n' >"$root/etc/group"
