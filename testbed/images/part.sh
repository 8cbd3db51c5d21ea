# shellcheck shell=bash
# Base images for `make test-compose`, because no registry of images can be reached: file systems that are like those of the images
# debian:12-slim, rust and rabbitmq:4 (that is, with the same programs and users). As folders, which `docker import` reads.
# What differs: apt and pip use this host's mirrors and certificate authorities; Rust's crates are there, and cargo asks no registry.
IMAGES=$CACHE/images
IMAGE_DEBIAN=$IMAGES/debian-$(fingerprint "$HERE/images/part.sh")
IMAGE_RUST=$IMAGES/rust-$(fingerprint "$HERE/images/part.sh" <(rustc -vV 2>/dev/null))
IMAGE_RABBITMQ=$TRIXIE
COMPOSE_V2=$CACHE/bin/docker-compose-v2    # Debian 12 has 1.29 only

install_images() {
  debian docker.io iptables docker-compose debootstrap iproute2
  mkdir -p "$IMAGES"
  [ -d "$IMAGE_DEBIAN" ] || images_make debian "$IMAGE_DEBIAN"
  [ -d "$IMAGE_RUST" ] || images_make rust "$IMAGE_RUST"
  images_crates
  [ -x "$COMPOSE_V2" ] || images_compose
}
images_compose() { # of Debian 13's package: a program that needs nothing else
  local making=$TRIXIE/tmp/docker-compose-v2
  rm -rf "$making"
  mkdir -p "$making" "$CACHE/bin"
  # shellcheck disable=SC2016  # expanded by that sh
  stock_chroot "$TRIXIE" sh -c 'apt-get -qq update && cd "$1" && apt-get -qq download docker-compose' sh "${making#"$TRIXIE"}" >"$IMAGES/compose.log" 2>&1 9>&- ||
    die "no Compose v2: $(tail -5 "$IMAGES/compose.log")"
  dpkg-deb --fsys-tarfile "$making"/docker-compose_*.deb | tar -xf - -C "$making" ./usr/libexec/docker/cli-plugins/docker-compose
  mv "$making/usr/libexec/docker/cli-plugins/docker-compose" "$COMPOSE_V2"
  rm -rf "$making" "$TRIXIE"/var/lib/apt/lists/*
  say "images: $("$COMPOSE_V2" version)"
}
images_make() { # debian|rust folder
  local making log=$IMAGES/$1.log
  say "images: making $1"
  rm -rf --one-file-system "$IMAGES/$1-making".*
  old_templates "$IMAGES/$1"-*
  making=$(mktemp -d "$IMAGES/$1-making.XXXXXX")
  chmod 755 "$making"
  "images_$1" "$making" >"$log" 2>&1 9>&- || die "no base image: $(tail -5 "$log")"
  mv "$making" "$2"
  say "images: $(du -sm "$2" | cut -f1) MB in $2"
}
images_debian() { # tree
  debootstrap --variant=minbase bookworm "$1" "$(debian_mirror)" && stock_apt "$1" || return
  # As in the slim images: no documentation, now or later.
  printf 'path-exclude /usr/share/%s/*\n' doc info locale man >"$1/etc/dpkg/dpkg.cfg.d/slim"
  rm -rf "$1"/usr/share/{doc,info,locale,man}/* "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/var/log/*.log
  : >"$1/etc/resolv.conf"
  mkdir -p "$1/usr/local/share/ca-certificates"
  cp /usr/local/share/ca-certificates/*.crt "$1/usr/local/share/ca-certificates/" 2>/dev/null || true
  [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$1/etc/"
}
images_rust() { # tree : the toolchain is this host's
  cp -a "$IMAGE_DEBIAN/." "$1" && cp -L /etc/resolv.conf "$1/etc/" &&
    stock_chroot "$1" apt-get -qq update &&
    stock_chroot "$1" apt-get -qq -y --no-install-recommends install ca-certificates gcc libc6-dev &&
    stock_chroot "$1" apt-get clean &&
    cp -a "$(rustc --print sysroot)"/{bin,lib} "$1/usr/local/" || return
  rm -rf "$1"/var/lib/apt/lists/*
  : >"$1/etc/resolv.conf"
}
images_crates() { # the crates of this checkout's lock file, and the index of the registry
  local home=${CARGO_HOME:-$HOME/.cargo}
  cargo fetch --quiet --locked --target "$(rustc -vV | sed -n 's/^host: //p')" --manifest-path "$HERE/../Cargo.toml" 9>&-
  mkdir -p "$IMAGE_RUST/usr/local/cargo/registry/cache"
  cp -a --update "$home/registry/index" "$IMAGE_RUST/usr/local/cargo/registry/"
  awk '$1 == "name" { name = $3 } $1 == "version" { version = $3 } $1 == "source" { print name "-" version ".crate" }' "$HERE/../Cargo.lock" | tr -d '"' >"$IMAGES/crates"
  ( cd "$home/registry/cache" && find . -name '*.crate' -printf '%f %p\n' | awk 'NR == FNR { wanted[$1]; next } $1 in wanted { print $2 }' "$IMAGES/crates" - |
      xargs -r cp -a --parents --update -t "$IMAGE_RUST/usr/local/cargo/registry/cache" )
}
