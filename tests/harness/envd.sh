#!/bin/bash
# envd.sh ENVD PORT: runs E2B's own envd as in a sandbox of its own: pids, homes, /tmp, /run and /var/lib
# are private, the rest of the system is this machine's. Takes root.
set -eu
if [ "${3:-}" != inside ]; then
    exec unshare --mount --pid --fork --kill-child=KILL "$0" "$1" "$2" inside
fi
mount --make-rprivate /
own=$(mktemp -d)
mount -t tmpfs tmpfs "$own"
{ grep -v ^user: /etc/passwd; echo user:x:1500:1500::/home/user:/bin/bash; } >"$own/passwd"
{ grep -v ^user: /etc/group; echo user:x:1500:; } >"$own/group"
mount --bind "$own/passwd" /etc/passwd
mount --bind "$own/group" /etc/group
umount -l "$own"
rmdir "$own"
for folder in /home /root /run /var/lib; do mount -t tmpfs tmpfs $folder; done
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t proc proc /proc
mkdir -m 755 /home/user
chown user: /home/user
cd /
exec "$1" -isnotfc -no-cgroups -port "$2"
