#!/usr/bin/env python3
"""Fill a new cloud, in one process (each call of the openstack command costs 2 s).

seed.py identity   users, roles, service catalogue            (needs Keystone only)
seed.py resources  image, flavors, networks, quota, key rules (needs Glance, Nova, Neutron)
"""
import os
import sys

import openstack

PASSWORD = os.environ["OPENSTACK_PASSWORD"]
FIXED, FLOATING = os.environ["OPENSTACK_FIXED"], os.environ["OPENSTACK_FLOATING"]  # first three numbers of each range


def url(service, path=""):
    return f"http://127.0.0.1:{os.environ['OPENSTACK_PORT_' + service.upper()]}{path}"


def connect():
    return openstack.connect(auth_url=url("keystone", "/v3"), username="admin", password=PASSWORD, project_name="admin",
                             user_domain_id="default", project_domain_id="default", region_name="RegionOne",
                             load_yaml_config=False, load_envvars=False)


def identity(cloud):
    keystone = cloud.identity
    roles = {role.name: role for role in keystone.roles()}
    roles.setdefault("service", None)
    roles["service"] = roles["service"] or keystone.create_role(name="service")
    project = keystone.create_project(name="service", domain_id="default")
    for name in ("nova", "neutron", "glance", "placement", "cinder"):
        user = keystone.create_user(name=name, password=PASSWORD, domain_id="default")
        for role in ("admin", "service"):
            keystone.assign_project_role_to_user(project, user, roles[role])
    demo = keystone.create_project(name="demo", domain_id="default")
    user = keystone.create_user(name="demo", password=PASSWORD, domain_id="default")
    keystone.assign_project_role_to_user(demo, user, roles["member"])
    keystone.assign_project_role_to_user(demo, next(keystone.users(name="admin")), roles["admin"])
    for kind, name, port, path in (
        ("image", "glance", "glance", ""), ("compute", "nova", "nova", "/v2.1"), ("network", "neutron", "neutron", ""),
        ("placement", "placement", "placement", ""), ("volumev3", "cinderv3", "cinder", "/v3/%(project_id)s"),
    ):
        service = keystone.create_service(type=kind, name=name)
        for interface in ("public", "internal", "admin"):
            keystone.create_endpoint(service_id=service.id, interface=interface, region_id="RegionOne", url=url(port, path))


def resources(cloud):
    demo = cloud.identity.find_project("demo")
    cloud.image.create_image(name="tiny", disk_format="raw", container_format="bare", visibility="public",
                             data=b"\0" * (1 << 20), validate_checksum=False)
    # What guests.py boots for it is a tree that `testbed install stock` has made.
    cloud.image.create_image(name="debian-12", disk_format="raw", container_format="bare", visibility="public", data=b"\0" * (1 << 20),
                             validate_checksum=False, img_config_drive="mandatory", os_distro="debian", testbed_tree="debian-12")
    cloud.compute.create_flavor(name="m1.tiny", ram=64, vcpus=1, disk=1)
    cloud.compute.create_flavor(name="m1.small", ram=512, vcpus=1, disk=1)
    cloud.compute.create_flavor(name="m1.huge", ram=64 << 20, vcpus=4, disk=1)  # 64 TiB of memory: fits on no host
    network = cloud.network
    public = network.create_network(name="public", is_router_external=True, provider_network_type="flat",
                                    provider_physical_network="physext")
    network.create_subnet(name="public-subnet", network_id=public.id, ip_version=4, cidr=f"{FLOATING}.0/24",
                          gateway_ip=f"{FLOATING}.1", is_dhcp_enabled=False,
                          allocation_pools=[{"start": f"{FLOATING}.100", "end": f"{FLOATING}.200"}])
    private = network.create_network(name="private", project_id=demo.id)
    subnet = network.create_subnet(name="private-subnet", network_id=private.id, ip_version=4, cidr=f"{FIXED}.0/24",
                                   gateway_ip=f"{FIXED}.1", is_dhcp_enabled=False, project_id=demo.id)
    router = network.create_router(name="router1", project_id=demo.id, external_gateway_info={"network_id": public.id})
    network.add_interface_to_router(router, subnet_id=subnet.id)
    group = next(network.security_groups(project_id=demo.id, name="default"))
    for protocol, low, high in (("tcp", 22, 22), ("icmp", None, None)):
        network.create_security_group_rule(security_group_id=group.id, direction="ingress", ether_type="IPv4", protocol=protocol,
                                           port_range_min=low, port_range_max=high, project_id=demo.id)
    cloud.compute.put(f"/os-quota-sets/{demo.id}", json={"quota_set": {"ram": 10**9, "instances": 40, "cores": 80, "key_pairs": 500}})


if __name__ == "__main__":
    {"identity": identity, "resources": resources}[sys.argv[1]](connect())
