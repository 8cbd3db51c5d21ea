#!/bin/sh
# guest-boot.sh FOLDER HOSTNAME USERS CONSOLE: the "boot" of one guest, run by guests.py as the first process of its own
# mount, pid, uts and ipc namespaces, with stdout and stderr on the server's console log. Becomes sshd.
set -e
folder=$1 name=$2 users=$3 console=$4
echo "[    0.000000] testbed guest $name"
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=512m tmpfs "$folder/disk"
mkdir "$folder/disk/upper" "$folder/disk/work" "$folder/disk/root"
root=$folder/disk/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/disk/upper,workdir=$folder/disk/work" "$root"
cp "$folder/authorized_keys" "$root/etc/ssh/authorized_keys.testbed"
chmod 644 "$root/etc/ssh/authorized_keys.testbed"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
# The guest sees the system, not the host's own data.
for dir in "$root"/* "$root"/var/tmp "$root"/var/log; do
  if [ ! -d "$dir" ] || [ -L "$dir" ]; then continue; fi
  case ${dir#"$root"/} in bin | boot | dev | etc | lib* | opt | proc | sbin | sys | usr | var) ;; *) mount -t tmpfs -o mode=755 tmpfs "$dir" ;; esac
done
chmod 1777 "$root/tmp" "$root/var/tmp"
mkdir -p "$root/run/sshd" "$root/run/lock" "$root/etc/sudoers.d"
chmod 700 "$root/root"
hostname "$name"
echo "$name" >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >"$root/etc/hosts"
for user in $users; do
  [ "$user" != root ] || continue
  # shellcheck disable=SC2016  # expanded by that sh
  chroot "$root" sh -c 'id "$0" >/dev/null 2>&1 || useradd -M -s /bin/bash -p "*" "$0"; mkdir -p "/home/$0"; chown "$0:" "/home/$0"' "$user"
  echo "$user ALL=(ALL) NOPASSWD:ALL" >"$root/etc/sudoers.d/90-$user"
done
rm -f "$root"/etc/ssh/ssh_host_*
if [ -n "$(ls "$folder/host_keys" 2>/dev/null)" ]; then
  # As cloud-init: with `ssh_keys` in the user data, no others are made.
  cp -p "$folder"/host_keys/* "$root/etc/ssh/"
else
  for kind in ed25519 ecdsa; do ssh-keygen -q -t $kind -N '' -C "root@$name" -f "$root/etc/ssh/ssh_host_${kind}_key"; done
fi
if [ "$console" = keys ]; then
  # Word for word as cloud-init's write-ssh-key-fingerprints does it: the fingerprints by logger, the keys bare.
  stamp="<14>$(date '+%b %e %H:%M:%S') cloud-init:"
  hashes="#############################################################"
  echo "$stamp $hashes"
  echo "$stamp -----BEGIN SSH HOST KEY FINGERPRINTS-----"
  for key in "$root"/etc/ssh/ssh_host_*_key.pub; do echo "$stamp $(ssh-keygen -lf "$key")"; done
  echo "$stamp -----END SSH HOST KEY FINGERPRINTS-----"
  echo "$stamp $hashes"
  echo "-----BEGIN SSH HOST KEY KEYS-----"
  cat "$root"/etc/ssh/ssh_host_*_key.pub
  echo "-----END SSH HOST KEY KEYS-----"
fi
for key in "$root"/etc/ssh/ssh_host_*_key; do echo "HostKey ${key#"$root"}"; done >"$root/etc/ssh/sshd_config.testbed"
cat >>"$root/etc/ssh/sshd_config.testbed" <<CONFIG
AuthorizedKeysFile /etc/ssh/authorized_keys.testbed
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PidFile none
MaxStartups 100
Subsystem sftp internal-sftp
CONFIG
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
echo "Debian GNU/Linux $name console"
exec /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config.testbed
