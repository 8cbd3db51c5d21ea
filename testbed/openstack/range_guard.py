#!/usr/bin/env python3
"""Refuse an address range that this machine already talks to: our bridge would capture that traffic.

range_guard.py BRIDGE CIDR...   exit 0: free; exit 1: says on stderr what is in the way
"""
import ipaddress
import os
import re
import subprocess
import sys


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def others(text, bridge):
    return "\n".join(line for line in text.splitlines() if bridge not in line and not line.startswith("default"))


def main():
    bridge, wanted = sys.argv[1], [ipaddress.ip_network(cidr) for cidr in sys.argv[2:]]
    sources = [(open(name, encoding="utf-8").read(), name) for name in ("/etc/hosts", "/etc/resolv.conf") if os.path.exists(name)]
    sources += [
        (others(output("ip", "-4", "route", "show", "table", "all"), bridge), "a route"),
        (others(output("ip", "-4", "-o", "addr"), bridge), "an interface"),
        (output("ss", "-Htn"), "an open connection"),
        (" ".join(value for name, value in os.environ.items() if name.lower().endswith("_proxy")), "a proxy variable"),
        ("192.0.2.0/24 198.51.100.0/24 203.0.113.0/24", "a documentation range"),  # sites do use them
    ]
    clashes = []
    for text, why in sources:
        for found in re.findall(r"\b\d+\.\d+\.\d+\.\d+(?:/\d+)?", text):
            try:
                seen = ipaddress.ip_network(found, strict=False)
            except ValueError:
                continue
            clashes += [f"{net} overlaps {seen} ({why})" for net in wanted if net.overlaps(seen) and seen.prefixlen]
    if clashes:
        sys.exit("address range in use: " + "; ".join(sorted(set(clashes))))


if __name__ == "__main__":
    main()
