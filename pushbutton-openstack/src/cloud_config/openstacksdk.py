"""Reads the cases of openstacksdk_tests.rs with openstacksdk, and prints what it makes of them, as JSON."""
import importlib
import json
import os
import sys
import warnings

from openstack.config import loader

warnings.simplefilter("ignore")
SERVICES = ("compute", "network", "image", "block-storage")


def plain(text):
    """keystoneauth takes internalURL for internal."""
    return text.removesuffix("URL") if isinstance(text, str) else text


def path(directory, name):
    return name if name is None else os.path.join(directory, name)


def network(entry):
    entry.setdefault("nat_source", False)
    for family in ("ipv4", "ipv6"):
        entry.setdefault(f"routes_{family}_externally", entry["routes_externally"])
    return entry


def read(case):
    directory = case["directory"]
    os.chdir(directory)
    for name in [name for name in os.environ if name.startswith(("OS_", "XDG_"))]:
        del os.environ[name]
    os.environ.update(case["variables"])
    importlib.reload(loader)
    arguments = {"region_name": case["region"]} if case["region"] else {}
    region = loader.OpenStackConfig().get_one(case["cloud"], **arguments)
    verify, cert = region.get_requests_verify_args()
    cert, key = cert if isinstance(cert, tuple) else (cert, None)
    return {
        "region": region.get_region_name() or None,
        "auth_type": region.config["auth_type"],
        "auth": region.config["auth"],
        "verify": verify is not False,
        "cacert": path(directory, verify if isinstance(verify, str) else None),
        "cert": path(directory, cert),
        "key": path(directory, key),
        "networks": [network(entry) for entry in region.config["networks"]],
        "services": {
            service: {
                "region": region.get_region_name(service) or None,
                "interface": plain(region.get_interface(service)),
                "endpoint": region.get_endpoint(service),
                "api_version": region.get_api_version(service),
            }
            for service in SERVICES
        },
    }


results = []
for case in json.load(sys.stdin):
    try:
        results.append(read(case))
    except Exception as error:
        results.append({"error": f"{type(error).__name__}: {error}"})
json.dump(results, sys.stdout)
