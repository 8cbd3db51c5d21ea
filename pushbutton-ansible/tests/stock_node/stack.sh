#!/usr/bin/env bash
# In place of devstack's: it reads the same local.conf, and starts a service and a database as devstack does.
set -eu
cd "$(dirname "$0")"
[ "$(id -un)" = stack ]
awk '/^\[\[/ { on = $0 == "[[local|localrc]]"; next } on' local.conf >.localrc # of all sections of this name, as devstack does
# shellcheck source=/dev/null
. ./.localrc
mkdir -p "$DEST/logs"
[ "$RECLONE" = False ] || git -C "$DEST/cinder" -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m "a newer one"
sudo mkdir -p /var/lib/mysql/cinder
printf '[Service]\nExecStart=/bin/sleep infinity\nUser=stack\n' | sudo tee /etc/systemd/system/devstack@c-api.service >/dev/null
sudo systemctl daemon-reload
sudo systemctl restart devstack@c-api
echo "stack.sh completed with ${http_proxy:-}"
