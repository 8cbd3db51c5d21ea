# shellcheck shell=bash
# Python packages for tests on a stock Debian: Keystone's source, what it needs, and tempest. A guest finds them at /wheels/ of relay.py, and
# the test itself at STOCK_WHEELS. Versions are those of requirements.lock.
STOCK_WHEELS=$CACHE/stock/wheels

install_wheels() {
  local wanted making log=$CACHE/stock/wheels.log constraints=$CACHE/stock/constraints.txt
  wanted=$(fingerprint "$HERE/openstack/"{requirements.lock,wheels.sh})
  [ "$(cat "$STOCK_WHEELS.installed" 2>/dev/null)" != "$wanted" ] || return 0
  say "stock: fetching Python packages (a minute)"
  mkdir -p "$CACHE/stock"
  debian python3 python3-venv
  rm -rf "$CACHE"/stock/fetching.*
  making=$(mktemp -d "$CACHE/stock/fetching.XXXXXX")
  sed -n 's/^\([A-Za-z0-9._-]*==[^ ;]*\).*/\1/p' "$HERE/openstack/requirements.lock" >"$constraints"
  {
    "$PYTHON" -m venv "$making/venv" &&
      "$making/venv/bin/pip" download -q -d "$making/wheels" -c "$constraints" keystone tempest==42.0.0 waitress pbr setuptools wheel &&
      "$making/venv/bin/pip" download -q -d "$making/wheels" -c "$constraints" --no-deps --no-binary keystone keystone
  } >"$log" 2>&1 9>&- || die "no Python packages: $(tail -5 "$log")"
  rm -rf "$STOCK_WHEELS"
  mv "$making/wheels" "$STOCK_WHEELS"
  cp "$constraints" "$STOCK_WHEELS/upper-constraints.txt"
  rm -rf "$making"
  echo "$wanted" >"$STOCK_WHEELS.installed"
}
