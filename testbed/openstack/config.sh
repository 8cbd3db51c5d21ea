# shellcheck shell=bash
# Writes the configuration of the OpenStack testbed; sourced by part.sh. Reasons for the odd settings are beside them.
database_url() { echo "mysql+pymysql://root@localhost/$1?unix_socket=$DATABASE_SOCKET&charset=utf8mb4"; }
message_url() { echo "rabbit://guest:guest@127.0.0.1:$OPENSTACK_PORT_RABBIT/"; }
database() { printf 'connection = %s\nmax_pool_size = 10\n' "$(database_url "$1")"; }
login() { # user : how a service logs in
  cat <<CONF
auth_url = $KEYSTONE_URL
auth_type = password
username = $1
password = $OPENSTACK_PASSWORD
project_name = service
user_domain_id = default
project_domain_id = default
region_name = RegionOne
CONF
}
common_sections() { # database user
  cat <<CONF
[database]
$(database "$1")
[keystone_authtoken]
www_authenticate_uri = $KEYSTONE_URL
$(login "$2")
[oslo_concurrency]
lock_path = $D/lock
[oslo_messaging_notifications]
driver = noop
CONF
}

openstack_configure() {
  mkdir -p "$D"/{db,log,pid,lock,images,volumes,guests,state,rabbit} "$D"/etc/{keystone,placement} "$D"/state/glance-{tasks,staging}
  chmod 700 "$D/rabbit"
  configure_keystone >"$D/etc/keystone/keystone.conf"
  configure_placement >"$D/etc/placement/placement.conf"
  configure_glance >"$D/etc/glance-api.conf"
  configure_neutron >"$D/etc/neutron.conf"
  configure_ml2 >"$D/etc/ml2.ini"
  configure_nova >"$D/etc/nova.conf"
  configure_cinder >"$D/etc/cinder.conf"
  configure_rabbit >"$D/rabbit/rabbitmq.conf"
  echo '[].' >"$D/rabbit/enabled_plugins"
  configure_clouds >"$D/clouds.yaml"
}

configure_keystone() { # 4 rounds of hashing: logins are cheap on two cores
  cat <<CONF
[DEFAULT]
log_file = $D/log/keystone.log
[database]
$(database keystone)
[token]
provider = fernet
expiration = 86400
[fernet_tokens]
key_repository = $D/state/fernet
[credential]
key_repository = $D/state/credential
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = oslo_cache.dict
[oslo_policy]
enforce_scope = True
CONF
}
configure_placement() {
  cat <<CONF
[DEFAULT]
log_file = $D/log/placement.log
[api]
auth_strategy = keystone
[placement_database]
$(database placement)
$(common_sections placement placement)
CONF
}
configure_glance() { # 0 workers: no extra process
  cat <<CONF
[DEFAULT]
bind_host = 127.0.0.1
bind_port = $OPENSTACK_PORT_GLANCE
workers = 0
log_file = $D/log/glance.log
enabled_backends = file:file
node_staging_uri = file://$D/state/glance-staging
public_endpoint = http://127.0.0.1:$OPENSTACK_PORT_GLANCE
[glance_store]
default_backend = file
[file]
filesystem_store_datadir = $D/images
[os_glance_tasks_store]
filesystem_store_datadir = $D/state/glance-tasks
[os_glance_staging_store]
filesystem_store_datadir = $D/state/glance-staging
[paste_deploy]
flavor = keystone
config_file = $OPENSTACK_VENV/etc/glance/glance-api-paste.ini
$(common_sections glance glance)
CONF
}
configure_neutron() { # no agents, hence no broker; Nova hears at once of a floating IP
  cat <<CONF
[DEFAULT]
bind_host = 127.0.0.1
bind_port = $OPENSTACK_PORT_NEUTRON
state_path = $D/state
core_plugin = ml2
service_plugins = testbed_neutron.L3
api_paste_config = $OPENSTACK_VENV/etc/neutron/api-paste.ini
api_extensions_path =
dhcp_agent_notification = False
transport_url = fake:/
auth_strategy = keystone
notify_nova_on_port_status_changes = True
notify_nova_on_port_data_changes = True
send_events_interval = 0
l3_ha = False
router_distributed = False
log_file = $D/log/neutron.log
[nova]
$(login nova)
[quotas]
quota_floatingip = 50
quota_port = 500
$(common_sections neutron neutron)
CONF
}
configure_ml2() {
  cat <<CONF
[ml2]
type_drivers = flat,local
tenant_network_types = local
mechanism_drivers = testbed
extension_drivers = port_security
[ml2_type_flat]
flat_networks = physext
[securitygroup]
enable_security_group = True
CONF
}
configure_nova() { # periodic_fuzzy_delay and discover_hosts: else the host is mapped after up to a minute. service_down_time: a slow machine is not a dead one
  cat <<CONF
[DEFAULT]
host = testbed
my_ip = 127.0.0.1
state_path = $D/state
transport_url = $(message_url)
compute_driver = testbed.Driver
osapi_compute_listen = 127.0.0.1
osapi_compute_listen_port = $OPENSTACK_PORT_NOVA
osapi_compute_workers = 1
enabled_apis = osapi_compute
update_resources_interval = 60
report_interval = 10
service_down_time = 3600
periodic_fuzzy_delay = 0
heal_instance_info_cache_interval = 60
running_deleted_instance_action = noop
[wsgi]
api_paste_config = $OPENSTACK_VENV/etc/nova/api-paste.ini
[api]
auth_strategy = keystone
[conductor]
workers = 1
[scheduler]
workers = 1
discover_hosts_in_cells_interval = 2
[api_database]
$(database nova_api)
[service_user]
send_service_user_token = true
$(login nova)
[placement]
$(login placement)
[neutron]
$(login neutron)
[glance]
endpoint_override = http://127.0.0.1:$OPENSTACK_PORT_GLANCE
[cinder]
catalog_info = volumev3:cinderv3:publicURL
os_region_name = RegionOne
$(login nova)
[notifications]
notification_format = unversioned
[vnc]
enabled = false
$(common_sections nova nova)
CONF
}
configure_cinder() { # Nova shows a service token when it detaches: Cinder wants one
  cat <<CONF
[DEFAULT]
host = testbed
my_ip = 127.0.0.1
state_path = $D/state
transport_url = $(message_url)
auth_strategy = keystone
api_paste_config = $OPENSTACK_VENV/etc/cinder/api-paste.ini
resource_query_filters_file = $OPENSTACK_VENV/etc/cinder/resource_filters.json
glance_api_servers = http://127.0.0.1:$OPENSTACK_PORT_GLANCE
enabled_backends = file
report_interval = 10
service_down_time = 3600
periodic_fuzzy_delay = 0
backend_stats_polling_interval = 10
quota_volumes = 50
[file]
volume_driver = testbed_cinder.FileDriver
volume_backend_name = file
testbed_dir = $D/volumes
[nova]
$(login cinder)
[service_user]
send_service_user_token = true
$(login cinder)
[coordination]
backend_url = file://$D/state/coordination
$(common_sections cinder cinder | sed '/^www_authenticate_uri/a service_token_roles = service\nservice_token_roles_required = true')
CONF
}
configure_rabbit() {
  cat <<CONF
listeners.tcp.default = 127.0.0.1:$OPENSTACK_PORT_RABBIT
distribution.listener.interface = 127.0.0.1
distribution.listener.port_range.min = $OPENSTACK_PORT_DISTRIBUTION
distribution.listener.port_range.max = $OPENSTACK_PORT_DISTRIBUTION
log.file.level = warning
management_agent.disable_metrics_collector = true
disk_free_limit.absolute = 50MB
CONF
}
configure_clouds() {
  local cloud user project
  echo "clouds:"
  for cloud in "testbed demo demo" "testbed-admin admin admin"; do
    read -r cloud user project <<<"$cloud"
    cat <<CONF
  $cloud:
    auth:
      auth_url: "$KEYSTONE_URL"
      username: $user
      password: "$OPENSTACK_PASSWORD"
      project_name: $project
      user_domain_name: Default
      project_domain_name: Default
    region_name: RegionOne
    identity_api_version: 3
CONF
  done
}
