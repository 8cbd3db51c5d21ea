#!/usr/bin/env bash
# In place of devstack's: it reads the same local.conf, and starts a service and a database as devstack does.
set -eu
cd "$(dirname "$0")"
[ "$(id -un)" = stack ]
awk '/^\[\[/ { on = $0 == "[[local|localrc]]"; next } on' local.conf >.localrc # of all sections of this name, as devstack does
# shellcheck source=/dev/null
. ./.localrc
LIBS_FROM_GIT=${LIBS_FROM_GIT:-}
mkdir -p "$DEST/logs"
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
for tree in cinder ${LIBS_FROM_GIT//,/ }; do
  [ "$RECLONE" = False ] || git -C "$DEST/$tree" commit -q --allow-empty -m "a newer one"
done
sudo mkdir -p /var/lib/mysql/cinder
printf '[Service]\nExecStart=/bin/sleep infinity\nUser=stack\n' | sudo tee /etc/systemd/system/devstack@c-api.service >/dev/null
sudo systemctl daemon-reload
sudo systemctl restart devstack@c-api
# What other services leave.
sudo mkdir -p /etc/keystone/fernet-keys /var/log/apache2
printf '[token]\nprovider = fernet\n' | sudo tee /etc/keystone/keystone.conf >/dev/null
head -c 32 /dev/urandom | base64 | tr +/ -_ | sudo tee /etc/keystone/fernet-keys/0 >/dev/null
sudo cp /etc/keystone/fernet-keys/0 /etc/keystone/of-another-name
echo '127.0.0.1 - - "GET /identity/v3 HTTP/1.1" 200 262' | sudo tee /var/log/apache2/keystone_access.log >/dev/null
sudo chmod 640 /var/log/apache2/keystone_access.log
echo "stack.sh completed with ${http_proxy:-}"
