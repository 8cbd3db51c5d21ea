# shellcheck shell=bash
# Starts and ends the processes of the OpenStack testbed; sourced by part.sh.
openstack_spawn() { # name command...
  spawn "$D/pid/$1.pid" "$D/log/$1.out" env PYTHONPATH="$HERE/openstack/plugins" "${@:2}"
}
openstack_wait_http() { # name port : until it answers, whatever it says
  local end=$((SECONDS + 120))
  until curl -s -o /dev/null --max-time 5 "http://127.0.0.1:$2/"; do
    alive "$D/pid/$1.pid" >/dev/null || die "$1 ended"
    [ $SECONDS -lt $end ] || die "$1 does not answer on port $2$(last_lines "$D/log/$1".{out,log})"
    sleep 0.1
  done
}
openstack_sql() { mariadb --no-defaults -S "$DATABASE_SOCKET" -u root "$@"; }

start_mariadb() {
  local data=$D/db/data end=$((SECONDS + 60))
  [ -d "$data/mysql" ] || mariadb-install-db --no-defaults --datadir="$data" --auth-root-authentication-method=normal --skip-test-db \
    --user=root >"$D/log/mariadb-install.log" 2>&1 9>&-
  # It keeps nothing that matters: no flush at commit, small pools.
  openstack_spawn mariadb mariadbd --no-defaults --user=root --datadir="$data" --socket="$DATABASE_SOCKET" --skip-networking \
    --pid-file="$D/db/mysqld.pid" --innodb-buffer-pool-size=48M --innodb-log-file-size=32M --innodb-flush-log-at-trx-commit=0 \
    --innodb-doublewrite=0 --sync-binlog=0 --max-connections=300 --performance-schema=OFF --character-set-server=utf8mb4 \
    --aria-pagecache-buffer-size=8M --key-buffer-size=1M
  until openstack_sql -e 'select 1' >/dev/null 2>&1; do
    alive "$D/pid/mariadb.pid" >/dev/null || die "mariadb ended"
    [ $SECONDS -lt $end ] || die "mariadb does not answer$(last_lines "$D/log/mariadb.out")"
    sleep 0.1
  done
}
start_rabbit() { # Debian's wrapper would su and use fixed folders: the server itself has neither
  local environment=(HOME="$D/rabbit" RABBITMQ_NODENAME=testbed@localhost RABBITMQ_MNESIA_BASE="$D/rabbit/mnesia" RABBITMQ_LOG_BASE="$D/log"
    RABBITMQ_LOGS="$D/log/rabbitmq.log" RABBITMQ_CONFIG_FILE="$D/rabbit/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$D/rabbit/enabled_plugins"
    RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_PID_FILE="$D/rabbit/pid" ERL_EPMD_PORT="$OPENSTACK_PORT_EPMD" ERL_EPMD_ADDRESS=127.0.0.1
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none" RABBITMQ_IO_THREAD_POOL_SIZE=4 RABBITMQ_ALLOW_INPUT=1)
  openstack_spawn epmd "${environment[@]}" epmd -address 127.0.0.1 -port "$OPENSTACK_PORT_EPMD"
  until connects "$OPENSTACK_PORT_EPMD"; do alive "$D/pid/epmd.pid" >/dev/null || die "OpenStack's epmd ended"; sleep 0.02; done
  openstack_spawn rabbit "${environment[@]}" /usr/lib/rabbitmq/bin/rabbitmq-server -noinput
}
wait_rabbit() {
  until connects "$OPENSTACK_PORT_RABBIT"; do
    alive "$D/pid/rabbit.pid" >/dev/null || die "OpenStack's RabbitMQ ended"
    sleep 0.1
  done
}
start_wsgi() { # name application port threads [argument...]
  openstack_spawn "$1" OS_KEYSTONE_CONFIG_DIR="$D/etc/keystone" OS_PLACEMENT_CONFIG_DIR="$D/etc/placement" \
    "$BIN/python" "$HERE/openstack/wsgi_serve.py" "${@:2}"
}
start_apis() { # all but Nova's, and Keystone when it is up already
  [ -e "$D/pid/keystone.pid" ] || start_keystone
  start_wsgi placement placement.wsgi.api:application "$OPENSTACK_PORT_PLACEMENT" 2
  start_wsgi neutron neutron.wsgi.api:application "$OPENSTACK_PORT_NEUTRON" 4 --config-file "$D/etc/neutron.conf" --config-file "$D/etc/ml2.ini"
  openstack_spawn glance "$BIN/glance-api" --config-file "$D/etc/glance-api.conf"
  start_wsgi cinder-api cinder.wsgi.api:application "$OPENSTACK_PORT_CINDER" 4 --config-file "$D/etc/cinder.conf" --log-file "$D/log/cinder-api.log"
}
start_keystone() { start_wsgi keystone keystone.wsgi.api:application "$OPENSTACK_PORT_KEYSTONE" 4; }

# ---- several processes from one import: forkrun.py
json_list() { "$PYTHON" -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"; }
forkrun() { # name mode "modules" jobs
  printf '{"import": %s, "mode": "%s", "log": "%s", "pid": "%s", "jobs": [%s]}\n' "$(json_list $3)" "$2" "$D/log" "$D/pid" "$4" >"$D/state/$1.json"
  env PYTHONPATH="$HERE/openstack/plugins" "$BIN/python" "$HERE/openstack/forkrun.py" "$D/state/$1.json" </dev/null >>"$D/log/forkrun.out" 2>&1 9>&-
}
manage() { # name "modules" call, then the arguments of each command after a -- : run them one after another
  local name=$1 modules=$2 call=$3 jobs="" argument
  local -a words=()
  shift 3
  for argument in "$@" --; do
    if [ "$argument" != -- ]; then words+=("$argument"); continue; fi
    [ ${#words[@]} = 0 ] || jobs="$jobs${jobs:+, }{\"name\": \"$name\", \"out\": \"$name.out\", \"call\": \"$call\", \"argv\": $(json_list "$name" "${words[@]}")}"
    words=()
  done
  forkrun "$name" seq "$modules" "$jobs" || die "$name failed$(last_lines "$D/log/$name.out" "$D/log/forkrun.out")"
}
daemon_job() { # service module configuration [queue to wait for]
  local wait=""
  [ -z "${4:-}" ] || wait="\"wait_queue\": [\"$OPENSTACK_PORT_RABBIT\", \"$4\"], "
  printf '{"name": "%s", %s"call": "%s:main", "argv": %s}' "$1" "$wait" "$2" "$(json_list "$1" --config-file "$D/etc/$3" --log-file "$D/log/$1.log")"
}
NOVA_SERVICES=(nova-conductor nova-api nova-scheduler nova-compute)
nova_job() { # service
  case $1 in
    nova-conductor) daemon_job "$1" nova.cmd.conductor nova.conf ;;
    nova-api) daemon_job "$1" nova.cmd.api_os_compute nova.conf ;;
    nova-scheduler) daemon_job "$1" nova.cmd.scheduler nova.conf ;;
    nova-compute) daemon_job "$1" nova.cmd.compute nova.conf conductor ;;
  esac
}
start_nova() { # name service... : from one import
  local name=$1 service jobs=""
  shift
  for service in "$@"; do jobs="$jobs${jobs:+, }$(nova_job "$service")"; done
  forkrun "$name" daemon "nova.cmd.conductor nova.cmd.compute nova.cmd.scheduler nova.cmd.api_os_compute nova.objects.instance nova.db.main.api
    testbed_nova openstack neutronclient.v2_0.client glanceclient kombu oslo_messaging._drivers.impl_rabbit" "$jobs" ||
    die "nova does not start$(last_lines "$D/log/forkrun.out")"
}
start_cinder() {
  forkrun cinder daemon "cinder.cmd.scheduler cinder.cmd.volume cinder.db.sqlalchemy.api kombu oslo_messaging._drivers.impl_rabbit" \
    "$(daemon_job cinder-scheduler cinder.cmd.scheduler cinder.conf), $(daemon_job cinder-volume cinder.cmd.volume cinder.conf cinder-scheduler)" ||
    die "cinder does not start$(last_lines "$D/log/forkrun.out")"
}
wait_services() {
  openstack_wait_http placement "$OPENSTACK_PORT_PLACEMENT"
  openstack_wait_http glance "$OPENSTACK_PORT_GLANCE"
  openstack_wait_http neutron "$OPENSTACK_PORT_NEUTRON"
  openstack_wait_http nova-api "$OPENSTACK_PORT_NOVA"
  openstack_wait_http cinder-api "$OPENSTACK_PORT_CINDER"
}

openstack_cold_start() { # from empty databases to a seeded cloud
  local keystone=(--config-dir "$D/etc/keystone") nova=(--config-file "$D/etc/nova.conf") name waiting
  start_rabbit
  start_mariadb
  for name in keystone placement glance neutron nova_api nova_cell0 nova cinder; do echo "CREATE DATABASE $name CHARACTER SET utf8mb3;"; done | openstack_sql
  mkdir -p -m 700 "$D"/state/{fernet,credential}
  (
    manage keystone-manage keystone.cmd.manage keystone.cmd.manage:main "${keystone[@]}" db_sync \
      -- "${keystone[@]}" fernet_setup --keystone-user root --keystone-group root \
      -- "${keystone[@]}" credential_setup --keystone-user root --keystone-group root \
      -- "${keystone[@]}" bootstrap --bootstrap-password "$OPENSTACK_PASSWORD" --bootstrap-region-id RegionOne \
      --bootstrap-public-url "$KEYSTONE_URL" --bootstrap-internal-url "$KEYSTONE_URL" --bootstrap-admin-url "$KEYSTONE_URL"
  ) &
  waiting=$!
  manage nova-manage "nova.cmd.manage nova.db.migration" nova.cmd.manage:main "${nova[@]}" api_db sync \
    -- "${nova[@]}" cell_v2 map_cell0 --database_connection "$(database_url nova_cell0)" \
    -- "${nova[@]}" db sync -- "${nova[@]}" cell_v2 create_cell --name cell1
  wait $waiting
  start_keystone
  manage placement-manage placement.cmd.manage placement.cmd.manage:main --config-file "$D/etc/placement/placement.conf" db sync
  "$BIN/python" "$HERE/openstack/neutron_create_all.py" "$(database_url neutron)" >"$D/log/neutron-manage.out" 2>&1 || die "no tables for Neutron$(last_lines "$D/log/neutron-manage.out")"
  manage glance-manage glance.cmd.manage glance.cmd.manage:main --config-file "$D/etc/glance-api.conf" db_sync
  manage cinder-manage "cinder.cmd.manage cinder.db.migration" cinder.cmd.manage:main --config-file "$D/etc/cinder.conf" db sync
  openstack_wait_http keystone "$OPENSTACK_PORT_KEYSTONE"
  "$BIN/python" "$HERE/openstack/seed.py" identity      # Nova's conductor and scheduler end when they have no service user
  start_apis
  wait_rabbit
  start_nova nova "${NOVA_SERVICES[@]}"
  wait_services
  start_cinder
  "$BIN/python" "$HERE/openstack/seed.py" resources
  "$BIN/python" "$HERE/openstack/wait_compute.py"
}
openstack_warm_start() { # from the template; what it says about ports, paths and addresses is corrected first
  start_rabbit
  start_mariadb
  openstack_relocate
  start_apis
  wait_rabbit
  openstack_wait_http keystone "$OPENSTACK_PORT_KEYSTONE"
  start_nova nova "${NOVA_SERVICES[@]}"
  wait_services
  start_cinder
  "$BIN/python" "$HERE/openstack/wait_compute.py"
}
openstack_relocate() {
  local fixed=10.99.0 floating=10.98.0 row kind port path table column
  # The template was made with number 0 of whatever prefix the knobs named.
  fixed=${TESTBED_OPENSTACK_FIXED:-10.99}.0 floating=${TESTBED_OPENSTACK_FLOATING:-10.98}.0
  {
    for row in "identity $OPENSTACK_PORT_KEYSTONE /v3" "image $OPENSTACK_PORT_GLANCE" "compute $OPENSTACK_PORT_NOVA /v2.1" \
      "network $OPENSTACK_PORT_NEUTRON" "placement $OPENSTACK_PORT_PLACEMENT" "volumev3 $OPENSTACK_PORT_CINDER /v3/%(project_id)s"; do
      read -r kind port path <<<"$row"
      echo "UPDATE keystone.endpoint e JOIN keystone.service s ON e.service_id = s.id SET e.url = 'http://127.0.0.1:$port$path' WHERE s.type = '$kind';"
    done
    echo "UPDATE nova_api.cell_mappings SET transport_url = '$(message_url)', database_connection = '$(database_url nova)' WHERE name = 'cell1';"
    echo "UPDATE nova_api.cell_mappings SET database_connection = '$(database_url nova_cell0)' WHERE name = 'cell0';"
    echo "UPDATE glance.image_locations SET value = CONCAT('file://$D/images/', image_id);"
    for row in subnets.cidr subnets.gateway_ip ipallocationpools.first_ip ipallocationpools.last_ip ipallocations.ip_address \
      ipamallocationpools.first_ip ipamallocationpools.last_ip ipamallocations.ip_address; do
      table=${row%.*} column=${row#*.}
      echo "UPDATE neutron.$table SET $column = REPLACE(REPLACE($column, '$fixed.', '$OPENSTACK_FIXED.'), '$floating.', '$OPENSTACK_FLOATING.');"
    done
  } | openstack_sql
}
openstack_restart() { # service of Nova : an orderly end where it is up; returns when the API answers, the others come up in their own time
  openstack_settings
  [ -e "$D/env" ] || die "openstack is not up"
  stop 10 "$D/pid/$1.pid"
  start_nova "$1" "$1"
  [ "$1" != nova-api ] || openstack_wait_http "$1" "$OPENSTACK_PORT_NOVA"
}
openstack_stop() { # seconds to wait for an orderly end
  stop "$1" "$D"/pid/*.pid
}
