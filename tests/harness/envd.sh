#!/bin/bash
# envd.sh ENVD PORT: runs E2B's own envd as in a sandbox of its own: pids, home, /tmp and /var/lib are
# private, the rest of the system is this machine's. Takes root.
set -eu
export ENVD=$1 PORT=$2
exec unshare --mount --pid --fork --kill-child=KILL bash -c '
set -eu
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
exec "$ENVD" -isnotfc -no-cgroups -port "$PORT"
'
