#!/usr/bin/env bash
# A small stand-in of devstack's stack.sh: it reads the same local.conf, clones from the same GIT_BASE, and installs a real Keystone from the
# tree of the patch set, with the libraries of LIBS_FROM_GIT from theirs, as the unit devstack@keystone, and a real
# tempest. SQLite instead of MySQL (hence one thread), waitress instead of Apache.
set -eu
cd "$(dirname "$0")"
[ "$(id -un)" = stack ] || { echo "[ERROR] stack.sh must run as stack" >&2; exit 1; }
sed -n '/^\[\[local|localrc\]\]/,/^\[\[post/p' local.conf | grep -v '^\[\[' >.localrc
# shellcheck source=/dev/null
. ./.localrc
LIBS_FROM_GIT=${LIBS_FROM_GIT:-}
mkdir -p "$DEST/logs" "$DEST/data"
exec > >(tee "$LOGFILE") 2>&1
set -x
URL=http://127.0.0.1:5000

git_clone() { # name : as functions-common says it when it fails
  [ -d "$DEST/$1" ] || timeout 300 git clone -q "$GIT_BASE/openstack/$1" "$DEST/$1" || {
    set +x
    echo "[ERROR] $PWD/functions-common:709 git call failed: [git clone $GIT_BASE/openstack/$1 $DEST/$1]"
    exit 1
  }
}
environment() { # folder package... : a Python environment of its own
  python3 -m venv "$1"
  "$1/bin/pip" install -q -c "$DEST/requirements/upper-constraints.txt" "${@:2}"
}

sudo apt-get -qq -y --no-install-recommends install python3-venv
git_clone requirements
environment "$DEST/data/venv" pbr setuptools wheel waitress
"$DEST/data/venv/bin/pip" install -q --no-build-isolation -c "$DEST/requirements/upper-constraints.txt" -e "$DEST/keystone"
read -ra LIBRARIES <<<"${LIBS_FROM_GIT//,/ }"
for library in "${LIBRARIES[@]}"; do
  git_clone "$library"
  "$DEST/data/venv/bin/pip" install -q --no-build-isolation -e "$DEST/$library"
done
environment "$DEST/data/tempest" tempest
BIN=$DEST/data/venv/bin

sudo install -d -o stack /etc/keystone
cat >/etc/keystone/keystone.conf <<CONF
[DEFAULT]
debug = True
[database]
connection = sqlite:///$DEST/data/keystone.sqlite
[token]
provider = fernet
[fernet_tokens]
key_repository = /etc/keystone/fernet-keys
[credential]
key_repository = /etc/keystone/credential-keys
[identity]
password_hash_rounds = 4
CONF
mkdir -m 700 /etc/keystone/fernet-keys /etc/keystone/credential-keys
# Readers do not wait for a writer, as with MySQL.
python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("PRAGMA journal_mode=WAL")' "$DEST/data/keystone.sqlite"
"$BIN/keystone-manage" db_sync
"$BIN/keystone-manage" fernet_setup
"$BIN/keystone-manage" credential_setup
"$BIN/keystone-manage" bootstrap --bootstrap-password "$ADMIN_PASSWORD" --bootstrap-region-id RegionOne \
  --bootstrap-public-url "$URL/v3" --bootstrap-internal-url "$URL/v3" --bootstrap-admin-url "$URL/v3"

# Keystone reads sys.argv: a server with arguments of its own would end it.
cat >"$DEST/data/serve.py" <<'PYTHON'
import waitress
from keystone.wsgi.api import application

waitress.serve(application, listen="127.0.0.1:5000", threads=1)
PYTHON
sudo tee /etc/systemd/system/devstack@keystone.service >/dev/null <<UNIT
[Unit]
Description=Devstack devstack@keystone.service
[Service]
User=stack
ExecStart=$BIN/python $DEST/data/serve.py
UNIT
sudo systemctl daemon-reload
sudo systemctl restart devstack@keystone.service
curl -sf -o /dev/null --retry 120 --retry-delay 1 --retry-connrefused "$URL/v3" || { echo "[ERROR] ./stack.sh:75 keystone did not start"; exit 1; }

"$DEST/data/tempest/bin/tempest" init "$DEST/tempest"
cd "$DEST/tempest"
mkdir -p .tox
ln -sfn "$DEST/data/tempest" .tox/tempest
cat >etc/tempest.conf <<CONF
[DEFAULT]
log_file = $DEST/tempest/tempest.log
[oslo_concurrency]
lock_path = $DEST/data
[auth]
admin_username = admin
admin_password = $ADMIN_PASSWORD
admin_project_name = admin
admin_domain_name = Default
use_dynamic_credentials = True
[identity]
uri_v3 = $URL/v3
auth_version = v3
region = RegionOne
[service_available]
cinder = False
glance = False
neutron = False
nova = False
swift = False
CONF
set +x
for tree in keystone "${LIBRARIES[@]}"; do
  git -C "$DEST/$tree" log -1 --format="$DEST/$tree is at %H, of %P"
done
echo "stack.sh completed in $SECONDS seconds."
