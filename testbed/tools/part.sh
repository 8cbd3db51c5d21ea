# shellcheck shell=bash
# What `make test` needs beside the servers: the checkers, and an Ansible of its own for jobs.
CARGO_DENY_VERSION=0.20.2
ANSIBLE_VENV=$CACHE/ansible

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
  debian shellcheck docker-compose openssh-server openssh-client git rsync curl
  install_cargo_deny
}
install_cargo_deny() {
  [ "$("$CACHE/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $CARGO_DENY_VERSION" ] || return 0
  say "tools: building cargo-deny (minutes)"
  CARGO_TARGET_DIR=$CACHE/cargo-deny-build nice cargo install -q --locked cargo-deny --version "$CARGO_DENY_VERSION" --root "$CACHE" 9>&- >&2
  rm -rf "$CACHE/cargo-deny-build"
}
