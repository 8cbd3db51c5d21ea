# shellcheck shell=bash
# What `make test` needs beside the servers: the checkers, and an Ansible of its own for jobs.
CARGO_DENY_VERSION=0.20.2
CARGO_DEB_VERSION=3.8.0
CARGO_CYCLONEDX_VERSION=0.5.9
CARGO_FUZZ_VERSION=0.13.2
MDBOOK_VERSION=0.5.4
KUSTOMIZE_VERSION=v5.7.1
KEDA_VERSION=v2.17.2
ANSIBLE_VENV=$CACHE/ansible
KUBERNETES_VENV=$CACHE/kubernetes

install_ansible() { # ansible-playbook, ansible-lint, and what makes subunit streams
  debian python3 python3-venv openssh-client git rsync
  local wanted
  wanted=$(fingerprint "$HERE/tools/ansible.txt")
  [ "$(cat "$ANSIBLE_VENV/installed" 2>/dev/null)" != "$wanted" ] || return 0
  say "ansible: installing"
  virtualenv "$ANSIBLE_VENV" -r "$HERE/tools/ansible.txt"
  echo "$wanted" >"$ANSIBLE_VENV/installed"
}
install_tools() {
  debian shellcheck systemd docker-compose openssh-server openssh-client git rsync curl
  cargo_tool cargo-deny "$CARGO_DENY_VERSION"
  cargo_tool mdbook "$MDBOOK_VERSION" --no-default-features
}
install_package() { # what scripts/package needs; compression is by xz
  debian binutils dpkg-dev xz-utils
  cargo_tool cargo-deb "$CARGO_DEB_VERSION" --no-default-features
}
install_release() { # the same for scripts/release
  install_package
  cargo_tool cargo-cyclonedx "$CARGO_CYCLONEDX_VERSION"
}
install_kubernetes() { # what scripts/check-kubernetes needs: kustomize, the schemas of the API, KEDA's CRDs (of its module, of which nothing is built)
  debian python3 python3-venv
  local wanted
  wanted=$(fingerprint "$HERE/tools/kubernetes.txt")-$KUSTOMIZE_VERSION-$KEDA_VERSION
  [ "$(cat "$KUBERNETES_VENV/installed" 2>/dev/null)" != "$wanted" ] || return 0
  say "kubernetes: installing"
  virtualenv "$KUBERNETES_VENV" -r "$HERE/tools/kubernetes.txt"
  GOBIN=$CACHE/bin GOFLAGS=-buildvcs=false nice go install "sigs.k8s.io/kustomize/kustomize/v5@$KUSTOMIZE_VERSION" >&2
  # In a folder that belongs to no module, and there only.
  (cd "$KUBERNETES_VENV" && go mod download -json "github.com/kedacore/keda/v2@$KEDA_VERSION") |
    "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["Dir"] + "/config/crd/bases")' >"$KUBERNETES_VENV/crds"
  echo "$wanted" >"$KUBERNETES_VENV/installed"
}
install_promtool() { # of Debian's package: installed whole it would be a service, and 100 MB
  [ ! -x "$CACHE/bin/promtool" ] || return 0
  (
    lock "$CACHE/locks/apt"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    cd "$folder"
    apt-get -qq download prometheus >&2 || { apt-get -qq update >&2; apt-get -qq download prometheus >&2; }
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - ./usr/bin/promtool
    mkdir -p "$CACHE/bin"
    mv usr/bin/promtool "$CACHE/bin/"
  )
}
chromium_program() { # prints its path: that of the package without a window, or of the whole one where that is there
  type -P chromium-headless-shell || type -P chromium
}
install_chromium() { # for the pages of runs
  chromium_program >/dev/null || debian chromium-headless-shell
}
install_fuzz() { # for `make fuzz` only; a nightly compiler must be there
  rustup toolchain list | grep -q ^nightly || die "cargo fuzz needs a nightly compiler: rustup toolchain install nightly"
  debian g++
  cargo_tool cargo-fuzz "$CARGO_FUZZ_VERSION"
}
cargo_tool() { # name version [option...] : built from the registry, once
  [[ "$("$CACHE/bin/$1" --version 2>/dev/null)" != "$1 "?(v)"$2" ]] || return 0
  # cargo-cyclonedx does not know --version. cargo has a record of what it installed.
  if [ -x "$CACHE/bin/$1" ] && grep -qs "^\"$1 $2 " "$CACHE/.crates.toml"; then return 0; fi
  say "tools: building $1 (a minute)"
  # Not optimised: that would cost minutes, and a check of ours runs a second longer.
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$CACHE/$1-build nice cargo install -q --debug --locked "$1" --version "$2" "${@:3}" --root "$CACHE" 9>&- >&2
  rm -rf "$CACHE/$1-build"
}
