#!/bin/sh
# stock-boot.sh FOLDER TREE NAMESPACE GATEWAY CONSOLE NOLOGIN: the boot of one stock Debian, run by guests.py as the first process of its own
# mount and pid namespaces in the server's network namespace, with stdout and stderr on the server's console log. Becomes systemd-nspawn.
#   CONSOLE   keys, or mute: cloud-init does not show the host keys
#   NOLOGIN   how many seconds longer than usual pam_nologin refuses logins
set -e
folder=$1 tree=$2 namespace=$3 gateway=$4 console=$5 nologin=$6
mount --make-rprivate /
root=$folder/root
mkdir -p "$root" "$folder/disk/upper" "$folder/disk/work"
overlay() { mount -t overlay overlay -o "lowerdir=$tree,upperdir=$folder/disk/upper,workdir=$folder/disk/work" "$root" 2>/dev/null; }
# A file system that cannot hold an upper folder, such as another overlay: in memory, then.
overlay || { mount -t tmpfs -o mode=755 tmpfs "$folder/disk" && mkdir "$folder/disk/upper" "$folder/disk/work" && overlay; }
if [ -d "$folder/config-2" ]; then
  mkdir -p "$root/var/lib/cloud/seed"
  cp -r "$folder/config-2" "$root/var/lib/cloud/seed/config_drive"
fi
# The ways out are the host's relays (relay.py); there is no route.
echo "nameserver $gateway" >"$root/etc/resolv.conf"
printf 'Acquire::http::Proxy "http://%s:3128";\nAcquire::https::Proxy "http://%s:3128";\n' "$gateway" "$gateway" >"$root/etc/apt/apt.conf.d/91testbed"
if [ "$console" = mute ]; then
  echo 'ssh: {emit_keys_to_console: false}' >"$root/etc/cloud/cloud.cfg.d/91_testbed.cfg"
fi
if [ "$nologin" != 0 ]; then
  mkdir -p "$root/etc/systemd/system/systemd-user-sessions.service.d"
  printf '[Service]\nExecStartPre=/bin/sleep %s\n' "$nologin" >"$root/etc/systemd/system/systemd-user-sessions.service.d/testbed.conf"
fi
# A cgroup of its own: nspawn divides the one that it is started in, and two cannot share that. guests.py removes it.
for group in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
  [ -e "$group/cgroup.procs" ] || continue
  mkdir -p "$group/$namespace"
  echo 0 >"$group/$namespace/cgroup.procs"
done
# Writable, since devstack writes below /sys.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes
exec systemd-nspawn --quiet --register=no --keep-unit --settings=no --capability=all \
  --machine="$namespace" --directory="$root" --resolv-conf=off --timezone=off --link-journal=no --console=read-only --boot
