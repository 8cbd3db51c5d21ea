# shellcheck shell=bash
# A stock Debian 12 as people have it on their clouds: systemd, cloud-init, sudo and python3; no git, acl, rsync or iptables.
# Made once for each cache. guests.py boots servers of the image `debian-12` from it (stock-boot.sh), each with an overlay of its own.
STOCK_PACKAGES=(systemd systemd-sysv dbus libpam-systemd udev kmod procps netbase iproute2 iputils-ping openssh-server sudo python3 ca-certificates
  curl less vim-tiny cloud-init)
STOCK_TREE=$CACHE/stock/debian-12-$(fingerprint "$HERE/openstack/stock.sh")

install_stock() {
  debian systemd-container debootstrap openssh-server iproute2
  [ -e "$STOCK_TREE/etc/debian_version" ] || stock_make
  install_wheels
}
stock_make() {
  local making log=$CACHE/stock/making.log
  say "stock: making a Debian 12 (about four minutes)"
  mkdir -p "$CACHE/stock"
  rm -rf --one-file-system "$CACHE"/stock/making.*
  old_templates "$CACHE"/stock/debian-12-*
  making=$(mktemp -d "$CACHE/stock/making.XXXXXX")
  chmod 755 "$making"
  {
    # minbase first, the rest by apt: debootstrap's --include leaves cloud-init unconfigured.
    debootstrap --variant=minbase bookworm "$making" "$(debian_mirror)" &&
      stock_apt "$making" &&
      printf '#!/bin/sh\nexit 101\n' >"$making/usr/sbin/policy-rc.d" &&
      chmod +x "$making/usr/sbin/policy-rc.d" &&
      stock_chroot "$making" apt-get -qq update &&
      stock_chroot "$making" apt-get -qq -y --no-install-recommends dist-upgrade &&
      stock_chroot "$making" apt-get -qq -y --no-install-recommends install "${STOCK_PACKAGES[@]}" &&
      stock_finish "$making"
  } >"$log" 2>&1 9>&- || die "no stock Debian: $(tail -5 "$log")"
  mv "$making" "$STOCK_TREE"
  say "stock: $(du -sm "$STOCK_TREE" | cut -f1) MB in $STOCK_TREE"
}
stock_chroot() { # tree command... : with a /proc of its own, which goes with the process
  local tree=$1
  shift
  # shellcheck disable=SC2016  # expanded by that sh
  LC_ALL=C DEBIAN_FRONTEND=noninteractive unshare -m --propagation private \
    sh -c 'mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && exec chroot "$0" "$@"' "$tree" "$@"
}
stock_apt() { # tree : the host's sources of this release, their keys, and what the host's apt does not check of its mirrors
  local file key
  cp -L /etc/resolv.conf /etc/hosts "$1/etc/"
  rm -f "$1/etc/apt/sources.list"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
    if [ ! -e "$file" ] || ! grep -qE '^(deb|Suites:)[^#]* bookworm( |$)' "$file"; then continue; fi
    cp "$file" "$1/etc/apt/${file#/etc/apt/}"
    while read -r key; do
      [ -e "$1$key" ] || install -D -m 644 "$key" "$1$key"
    done < <(grep -oihE 'signed-by[:=] *[^] ]+' "$file" | grep -oE '/.*')
  done
  for file in /etc/apt/trusted.gpg.d/*; do [ ! -e "$file" ] || cp "$file" "$1/etc/apt/trusted.gpg.d/"; done
  apt-config dump | grep -E '^Acquire::(Check-|https?::Proxy|Languages)' >"$1/etc/apt/apt.conf.d/90testbed" || true
}
stock_finish() { # tree : what a cloud's image maker does: no keys, no id, a user made by cloud-init
  cp /usr/local/share/ca-certificates/*.crt "$1/usr/local/share/ca-certificates/" 2>/dev/null || true
  stock_chroot "$1" update-ca-certificates
  stock_chroot "$1" apt-get clean
  rm -rf "$1"/var/lib/apt/lists/* "$1"/etc/ssh/ssh_host_* "$1"/usr/sbin/policy-rc.d "$1"/var/lib/dbus/machine-id
  sed -i '/::Proxy/d' "$1/etc/apt/apt.conf.d/90testbed"
  : >"$1/etc/machine-id"
  # Devices and addresses are there before the boot, as with a cloud's DHCP: neither udev nor cloud-init is to change them.
  cat >"$1/etc/cloud/cloud.cfg.d/90_testbed.cfg" <<CONF
datasource_list: [ConfigDrive, None]
network: {config: disabled}
manage_etc_hosts: true
locale: C.UTF-8
CONF
  stock_chroot "$1" systemctl -q mask getty.target console-getty.service
}
