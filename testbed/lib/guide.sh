# shellcheck shell=bash
# What `make testbed` says at the end; sourced by testbed.
guide() {
  local RABBITMQ3_URL='' RABBITMQ4_URL='' GERRIT_URL='' GERRIT_SSH_PORT='' GERRIT_KEYS='' GERRIT_KNOWN_HOSTS=''
  local OS_CLIENT_CONFIG_FILE='' OS_CLOUD='' OPENSTACK_COMMAND='' part name value
  for part in "${PARTS[@]}"; do
    [ -e "$STATE/$part/env" ] || continue
    while IFS='=' read -r name value; do declare "$name=$value"; done <"$STATE/$part/env"
  done
  cat <<GUIDE

RabbitMQ   3.10  $RABBITMQ3_URL
           4.0   $RABBITMQ4_URL
           look: $HERE/testbed ctl rabbitmq3 rabbitmqctl list_queues
OpenStack  export OS_CLIENT_CONFIG_FILE=$OS_CLIENT_CONFIG_FILE OS_CLOUD=$OS_CLOUD     (administrator: $OS_CLOUD-admin)
           image tiny, flavors m1.tiny m1.small m1.huge (fits nowhere), networks private and public (floating IPs)
           look: $OPENSTACK_COMMAND server list
Gerrit     $GERRIT_URL (REST only: no web page), ssh port $GERRIT_SSH_PORT
           users admin, alice, bob, zuul (Verified -2..+2), acme-ci (Verified -1..+1); REST password: secret; SSH keys: $GERRIT_KEYS
           projects openstack/cinder, openstack/os-brick, openstack/nova, acme/sandbox
           look: ssh -p $GERRIT_SSH_PORT -i $GERRIT_KEYS/acme-ci -o UserKnownHostsFile=$GERRIT_KNOWN_HOSTS acme-ci@127.0.0.1 gerrit stream-events

A change to try, and a comment on it:
  git clone ${GERRIT_URL/:\/\//:\/\/alice:secret@}/a/acme/sandbox && cd sandbox
  git config user.name alice && git config user.email alice@example.org && echo hello >hello.txt && git add hello.txt
  git commit -m "Say hello" -m "Change-Id: I\$(head -c 20 /dev/urandom | sha1sum | cut -c1-40)" && git push origin HEAD:refs/for/master
  curl -u bob:secret -H 'Content-Type: application/json' -d '{"message": "recheck"}' $GERRIT_URL/a/changes/NUMBER/revisions/current/review

make testbed-down ends it all.
GUIDE
}
