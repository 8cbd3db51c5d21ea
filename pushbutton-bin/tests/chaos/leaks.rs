//! What the cloud itself lists. Only this run uses the cloud: everything on it is ours.

use pushbutton_testbed::OpenStack;

/// Everything that is left, one line each.
pub(crate) fn left(cloud: &OpenStack) -> Vec<String> {
    let servers = cloud.list_servers().into_iter().map(|it| format!("server {it:?}"));
    let addresses = cloud.list_floating_ips().into_iter().map(|it| format!("floating IP {it:?}"));
    let ports = cloud.list_ports().into_iter().map(|it| format!("port {it:?}"));
    let volumes = cloud.list_volumes().into_iter().map(|it| format!("volume {it:?}"));
    servers.chain(addresses).chain(ports).chain(volumes).collect()
}
