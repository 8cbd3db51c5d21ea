#!/usr/bin/env python3
"""Wait until nova-compute is up, mapped to its cell and in Placement's inventory, and Cinder's scheduler knows a pool."""
import sys
import time

from seed import connect

LIMIT = 90  # seconds


def ready(cloud):
    if not list(cloud.compute.hypervisors()):
        return False
    if not any(service.binary == "nova-compute" and service.state == "up" for service in cloud.compute.services()):
        return False
    providers = cloud.placement.get("/resource_providers").json()["resource_providers"]
    if not providers:
        return False
    inventory = cloud.placement.get(f"/resource_providers/{providers[0]['uuid']}/inventories").json()["inventories"]
    return "VCPU" in inventory and bool(list(cloud.block_storage.backend_pools()))


def main():
    cloud, end, last = connect(), time.monotonic() + LIMIT, "not ready"
    while time.monotonic() < end:
        try:
            if ready(cloud):
                return
        except Exception as error:  # services answer anything while they start
            last = error
        time.sleep(0.3)
    sys.exit(f"no compute host or no volume back end after {LIMIT} s: {last}")


if __name__ == "__main__":
    main()
