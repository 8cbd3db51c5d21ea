# shellcheck shell=bash
# A real OpenStack 2025.1: Keystone, Placement, Glance, Neutron, Nova (fake driver) and Cinder (files), on MariaDB and RabbitMQ of their own.
# Nova's servers are network namespaces with a real sshd, or a stock Debian (stock.sh): guests.py. Its state is made afresh at every start,
# from a seeded template. Knobs:
#   TESTBED_OPENSTACK_FIXED, TESTBED_OPENSTACK_FLOATING   the first two numbers of the addresses (10.99, 10.98)
OPENSTACK_VENV=$CACHE/openstack/venv
# Named after what makes it (guests.py has no part in that).
OPENSTACK_TEMPLATE=$CACHE/openstack/template-$(fingerprint "$HERE"/openstack/{part,config,services}.sh "$HERE"/openstack/{seed,neutron_create_all}.py "$HERE"/openstack/{requirements.lock,plugins/*.py})
. "$HERE/openstack/config.sh"
. "$HERE/openstack/services.sh"

openstack_settings() { # everything that the functions of this part share; names of files, ports and addresses
  local service
  D=$STATE/openstack
  BIN=$OPENSTACK_VENV/bin
  mkdir -p "$D"
  for service in keystone placement glance nova neutron cinder rabbit distribution epmd; do
    export "OPENSTACK_PORT_${service^^}=$(remembered_port "$D/ports" "$service")"
  done
  export OPENSTACK_PASSWORD=secret TESTBED_GUESTS=$D/guests
  KEYSTONE_URL=http://127.0.0.1:$OPENSTACK_PORT_KEYSTONE/v3
  DATABASE_SOCKET=$D/db/mysqld.sock
  [ ${#DATABASE_SOCKET} -lt 108 ] || die "the path of the state folder is too long for a unix socket: $STATE"
}
openstack_addresses() { # number : the third number of the fixed and of the floating range
  export OPENSTACK_FIXED=${TESTBED_OPENSTACK_FIXED:-10.99}.$1 OPENSTACK_FLOATING=${TESTBED_OPENSTACK_FLOATING:-10.98}.$1
}

install_openstack() {
  debian rabbitmq-server mariadb-server-core mariadb-client-core openssh-server openssh-client iproute2 curl python3 python3-venv \
    git rsync sudo                         # these three for the guests: they see the host's files
  local wanted
  wanted=$(fingerprint "$HERE/openstack/requirements.lock")
  if [ "$(cat "$CACHE/openstack/installed" 2>/dev/null)" != "$wanted" ]; then
    say "openstack: installing"
    rm -f "$CACHE/openstack/installed"
    mkdir -p "$CACHE/openstack"
    virtualenv "$OPENSTACK_VENV" -r "$HERE/openstack/requirements.lock"
    openstack_patch_rpc
    # One interpreter after another starts from here: compiled beforehand, each import takes a third of the time.
    "$OPENSTACK_VENV/bin/python" -m compileall -q -j 2 -x '/tests?/' "$OPENSTACK_VENV"/lib/python3*/site-packages >/dev/null 2>&1 || true
    echo "$wanted" >"$CACHE/openstack/installed"
  fi
  [ -d "$OPENSTACK_TEMPLATE" ] || openstack_make_template
}
openstack_patch_rpc() {
  # oslo.messaging 16.1.2 waits for an RPC's reply with time.sleep(0.5) (Launchpad bug 2035113): every call costs half a second. Look more often.
  local file
  file=$(echo "$OPENSTACK_VENV"/lib/python3*/site-packages/oslo_messaging/_drivers/amqpdriver.py)
  sed -i '/class ReplyWaiters/,/raise oslo_messaging.MessagingTimeout/s/time.sleep(0.5)/time.sleep(0.01)/' "$file"
  grep -q 'time.sleep(0.01)' "$file" || die "oslo.messaging is not the version that we know"
}
openstack_make_template() {
  local making
  say "openstack: making and seeding a cloud"
  rm -rf --one-file-system "$CACHE"/openstack/making.*
  old_templates "$CACHE"/openstack/template-*
  making=$(mktemp -d "$CACHE/openstack/making.XXXXXX")
  (
    STATE=$making
    openstack_settings
    openstack_addresses 0
    trap 'ended openstack; openstack_stop 40' EXIT
    openstack_configure
    openstack_cold_start
  )
  rm -f "$making"/openstack/db/mysqld.*
  mkdir "$making/template"
  mv "$making"/openstack/{db,state,images,rabbit} "$making/template/"
  mv "$making/template" "$OPENSTACK_TEMPLATE"
  rm -rf "$making"
}

up_openstack() {
  if alive_openstack >/dev/null; then return; fi
  down_openstack
  openstack_settings
  cp -a "$OPENSTACK_TEMPLATE"/{db,state,images,rabbit} "$D/"
  openstack_network
  openstack_configure
  openstack_warm_start
  spawn "$D/pid/guests.pid" "$D/log/guests.out" env OS_CLIENT_CONFIG_FILE="$D/clouds.yaml" "$BIN/python" "$HERE/openstack/guests.py" \
    --cloud testbed-admin --folder "$D/guests" --bridge "$BRIDGE" --route "$OPENSTACK_FLOATING.0/24" \
    --guests "$OPENSTACK_FIXED.0/24" --stock "$STOCK_TREE" --packages "$CACHE/stock/packages"
  cat >"$D/env" <<ENV
OS_CLIENT_CONFIG_FILE=$D/clouds.yaml
OS_CLOUD=testbed
OPENSTACK_AUTH_URL=$KEYSTONE_URL
OPENSTACK_COMMAND=$BIN/openstack
OPENSTACK_BRIDGE=$BRIDGE
OPENSTACK_FIXED_RANGE=$OPENSTACK_FIXED.0/24
OPENSTACK_FLOATING_RANGE=$OPENSTACK_FLOATING.0/24
OPENSTACK_GUESTS=$D/guests
ENV
  say "openstack: $KEYSTONE_URL, clouds.yaml in $D"
}
down_openstack() { # nothing is kept: the next start begins from the template
  [ -d "$STATE/openstack" ] || return 0
  openstack_settings
  stop 15 "$D/pid/guests.pid"              # removes its namespaces
  openstack_stop 4
  openstack_remove_network
  rm -rf --one-file-system "${D:?}"/{db,state,images,rabbit,etc,lock,volumes,guests,pid,log.last,env,clouds.yaml}
  [ ! -d "$D/log" ] || mv "$D/log" "$D/log.last"
}
alive_openstack() { # every one of its processes
  local file
  [ -e "$STATE/openstack/env" ] || return 1
  for file in "$STATE"/openstack/pid/*.pid; do alive "$file" >/dev/null || return 1; done
  alive "$STATE/openstack/pid/guests.pid"
}

# ---- the on-host route to the servers: traffic to them never leaves this machine, and only while the bridge is there
openstack_network() { # take the first range of which no living testbed has the bridge: sets BRIDGE and the addresses
  local number owner
  (
    lock /run/lock/pushbutton-testbed
    for number in $(seq 0 250); do
      BRIDGE=pushbutton$number
      if owner=$(cat "/sys/class/net/$BRIDGE/ifalias" 2>/dev/null); then
        if [ "$owner" != "$STATE" ] && alive "$owner/openstack/pid/guests.pid" >/dev/null; then continue; fi
        if [ "$owner" != "$STATE" ] && alive "$owner/openstack/pid/mariadb.pid" >/dev/null; then continue; fi     # it is starting
        ip link del "$BRIDGE"
      fi
      openstack_addresses "$number"
      "$PYTHON" "$HERE/openstack/range_guard.py" "$BRIDGE" "$OPENSTACK_FIXED.0/24" "$OPENSTACK_FLOATING.0/24" || continue
      # An address of its own: else it takes the lowest of its guests', and when that guest goes, all others lose their way to the host
      # until their neighbour tables are old enough to ask again.
      ip link add "$BRIDGE" address "$(printf '02:70:62:00:00:%02x' "$number")" type bridge
      ip link set "$BRIDGE" alias "$STATE"
      ip addr add "$OPENSTACK_FIXED.1/24" dev "$BRIDGE"
      ip addr add "$OPENSTACK_FLOATING.1/24" dev "$BRIDGE"
      ip link set "$BRIDGE" up
      echo "$number" >"$D/network"
      exit 0
    done
    die "no free address range: set TESTBED_OPENSTACK_FIXED and TESTBED_OPENSTACK_FLOATING"
  )
  BRIDGE=pushbutton$(cat "$D/network")
  openstack_addresses "$(cat "$D/network")"
}
openstack_remove_network() {
  local bridge
  [ -e "$D/network" ] || return 0
  bridge=pushbutton$(cat "$D/network")
  if [ "$(cat "/sys/class/net/$bridge/ifalias" 2>/dev/null)" = "$STATE" ]; then ip link del "$bridge"; fi
  rm -f "$D/network"
}
