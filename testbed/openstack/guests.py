#!/usr/bin/env python3
"""Give every ACTIVE Nova server a real machine to log in to, on this host.

Nova's fake driver boots nothing. This watcher asks Nova (all projects) and Neutron once a second, and makes each ACTIVE server
true: a network namespace whose eth0 has the Neutron port's MAC and fixed IP (and, while associated, the floating IP) on an
on-host bridge; in it, mount, pid, uts and ipc namespaces of its own, with the host's root file system under a throw-away
overlay, fresh host keys (shown on the server's console as cloud-init does), and an sshd that admits the server's keypair for
root and debian. A server that is deleted, shut off or in ERROR loses its guest. It is a stand-in for a machine, not a
security boundary.

A server whose image has the property `testbed_tree` is a stock Debian instead: its own tree with its own systemd and cloud-init, which
reads the config drive that Nova wrote (stock-boot.sh). Its packages come through relay.py, which starts with the first such server.

A server's metadata can ask for trouble, in `testbed_guest`:
  none         no guest at all: the addresses never answer
  silent       the console does not show the host keys
  plain        an image without cloud-init: the user data is not read
  dies:N       the guest is killed N seconds after its boot: connections break, new ones are refused or get no answer
  unplugged:N  its network cable is pulled N seconds after its boot: silence, also in open connections
  nologin:N    pam_nologin refuses unprivileged logins N seconds longer than the boot takes (stock Debian only)

Needs root, iproute2, openssh-server, overlayfs; systemd-nspawn for a stock Debian.
"""
import argparse
import base64
import email
import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import relay

HERE = os.path.dirname(os.path.realpath(__file__))
USERS = "root debian"
INTERVAL = 0.7  # seconds between two polls


def run(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True)


def say(message):
    print(time.strftime("%H:%M:%S"), message, flush=True)


def behaviour(server):
    """The word and the seconds of `testbed_guest`."""
    word, _, seconds = server.get("metadata", {}).get("testbed_guest", "").partition(":")
    return word, float(seconds or 0)


def host_keys(server):
    """The `ssh_keys` of the user data: names such as ed25519_private, and keys. As in cloud-init, a MIME document has several
    parts, a part of type text/plain is what its first line says, and of a key in two parts the first counts."""
    import yaml
    data = base64.b64decode(server.get("OS-EXT-SRV-ATTR:user_data") or "")
    keys = {}
    try:
        message = email.message_from_string(data.decode())
        parts = [message] if not message.keys() else [part for part in message.walk() if not part.is_multipart()]
        for part in parts:
            text = data.decode() if not message.keys() else part.get_payload(decode=True).decode()
            if text.startswith("#cloud-config\n"):
                keys = {**((yaml.safe_load(text) or {}).get("ssh_keys") or {}), **keys}
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        say(f"cannot read the user data of {server['id']}: {error}")
    return keys


def remove_cgroups(name):
    """Those that stock-boot.sh and a guest's systemd have made. The kernel removes only an empty group, and empties it in its own time."""
    for top in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        for folder, _, _ in os.walk(os.path.join(top, name), topdown=False):
            for _ in range(50):
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    time.sleep(0.02)


class Guest:
    def __init__(self, options, server, nics, public_key, stock):
        self.id, self.name = server["id"], server["name"]
        self.namespace = f"{options.bridge}-{self.id[:8]}"
        self.link = f"v{self.id[:8]}"
        self.folder = os.path.join(options.folder, self.id)
        self.floating = set()
        self.trouble, self.seconds = behaviour(server)
        self.booted = time.monotonic()
        os.makedirs(self.folder + "/disk", exist_ok=True)
        with open(self.folder + "/authorized_keys", "w", encoding="utf-8") as file:
            file.write((public_key or "").strip() + "\n")
        os.makedirs(self.folder + "/host_keys", exist_ok=True)
        for name, key in (host_keys(server) if self.trouble != "plain" else {}).items():
            kind, _, half = name.partition("_")
            if kind in ("rsa", "ecdsa", "ed25519") and half in ("private", "public"):
                path = f"{self.folder}/host_keys/ssh_host_{kind}_key{'.pub' if half == 'public' else ''}"
                with open(path, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                    file.write(key)
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        for number, nic in enumerate(nics):
            self.plug(options, number, *nic)
        with open(self.folder + "/console.log", "ab") as console:
            self.process = subprocess.Popen(
                self.boot_stock(options, nics) if stock else self.boot(), stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                start_new_session=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"})
        say(f"boot {self.name} {self.id} {','.join(nic[1] for nic in nics)}{' stock' if stock else ''}")

    def boot(self):
        hostname = "".join(c if c.isalnum() or c == "-" else "-" for c in self.name)[:60].strip("-") or "guest"
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "-m", "-u", "-i", "-p", "--fork", "--kill-child=KILL",
                "sh", f"{HERE}/guest-boot.sh", self.folder, hostname, USERS, self.console]

    def boot_stock(self, options, nics):
        # nspawn makes the other namespaces. Told to enter that of the network by itself, it would mount the host's /sys/class/net.
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "-m", "-p", "--fork", "--kill-child=KILL", "--mount-proc",
                "sh", f"{HERE}/stock-boot.sh", self.folder, options.stock, self.namespace, nics[0][2], self.console, str(int(self.seconds)) if self.trouble == "nologin" else "0"]

    @property
    def console(self):
        return "mute" if self.trouble == "silent" else "keys"

    def plug(self, options, number, mac, address, gateway):
        inside = f"eth{number}"
        run("ip", "link", "add", f"{self.link}{number}", "type", "veth", "peer", "name", inside, "netns", self.namespace, "address", mac)
        run("ip", "link", "set", f"{self.link}{number}", "master", options.bridge, "up")
        run("ip", "-n", self.namespace, "addr", "add", address, "dev", inside)
        run("ip", "-n", self.namespace, "link", "set", inside, "up")
        # No default route on purpose: a host with ip_forward=1 would pass the guest's packets on to the outside.
        if number == 0 and gateway:
            run("ip", "-n", self.namespace, "route", "add", options.route, "via", gateway)

    def set_floating(self, wanted):
        for address in wanted ^ self.floating:
            verb = "replace" if address in wanted else "del"
            run("ip", "-n", self.namespace, "addr", verb, address + "/32", "dev", "eth0", check=verb == "replace")
            run("ip", "neigh", "flush", "to", address, check=False)
            say(f"floating ip {address} {'->' if address in wanted else '<-'} {self.name}")
        self.floating = set(wanted)

    def misbehave(self):
        if self.trouble not in ("dies", "unplugged") or time.monotonic() - self.booted < self.seconds:
            return
        say(f"{self.name}: {self.trouble}")
        if self.trouble == "dies":
            self.kill()
        else:
            run("ip", "link", "set", f"{self.link}0", "down", check=False)
        self.trouble = "had"

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # unshare --kill-child: its whole pid namespace goes too
            self.process.wait()

    def destroy(self):
        self.kill()
        run("ip", "netns", "del", self.namespace, check=False)  # takes the veth pair with it
        remove_cgroups(self.namespace)
        # Its files can be many, and their removal slow: the other guests do not wait for it.
        gone = self.folder + ".gone"
        os.rename(self.folder, gone)
        threading.Thread(target=shutil.rmtree, args=(gone, True)).start()
        say(f"gone {self.name} {self.id}")


class Watcher:
    def __init__(self, options, cloud):
        self.options, self.cloud = options, cloud
        self.guests, self.subnets, self.images, self.broken, self.relays = {}, {}, {}, set(), False

    def get(self, service, path, **more):
        reply = service.get(path, **more)
        reply.raise_for_status()
        return reply.json()

    def nics(self, server):
        found = []
        for port in self.get(self.cloud.network, f"/ports?device_id={server['id']}")["ports"]:
            for fixed in port["fixed_ips"]:
                subnet = fixed["subnet_id"]
                if subnet not in self.subnets:
                    self.subnets[subnet] = self.get(self.cloud.network, f"/subnets/{subnet}")["subnet"]
                length = ipaddress.ip_network(self.subnets[subnet]["cidr"]).prefixlen
                found.append((port["mac_address"], f"{fixed['ip_address']}/{length}", self.subnets[subnet]["gateway_ip"]))
        return found

    def public_key(self, server):
        if not server.get("key_name"):
            return None
        path = f"/os-keypairs/{server['key_name']}?user_id={server['user_id']}"
        return self.get(self.cloud.compute, path, microversion="2.10")["keypair"]["public_key"]

    def stock(self, server):
        """Is it to be a stock Debian? Then there are ways out for it."""
        image = (server["image"] or {}).get("id")
        if image and image not in self.images:
            self.images[image] = self.get(self.cloud.image, f"/images/{image}")
        if not self.images.get(image, {}).get("testbed_tree"):
            return False
        if not os.path.isdir(self.options.stock):
            raise FileNotFoundError(f"{self.options.stock}: testbed install stock")
        if not self.relays:
            self.relays = True
            network = ipaddress.ip_network(self.options.guests)
            for problem in relay.start(str(network[1]), network, self.options.packages):
                say(f"a relay does not start: {problem}")
        return True

    def poll(self):
        reply = self.get(self.cloud.compute, "/servers/detail?all_tenants=1", microversion="2.26")
        servers = {server["id"]: server for server in reply["servers"]}
        active = {key for key, server in servers.items() if server["status"] in ("ACTIVE", "REBOOT", "PASSWORD") and behaviour(server)[0] != "none"}
        for key in set(self.guests) - active:
            self.guests.pop(key).destroy()
        self.broken &= active
        for key in active - set(self.guests) - self.broken:
            try:
                self.guests[key] = Guest(self.options, servers[key], self.nics(servers[key]), self.public_key(servers[key]), self.stock(servers[key]))
            except Exception as error:  # one server's fault is not the others'
                self.broken.add(key)
                say(f"cannot boot {key}: {error} {getattr(error, 'stderr', '')}")
        if self.guests:
            self.poll_floating()
        for guest in self.guests.values():
            guest.misbehave()

    def poll_floating(self):
        wanted = {}
        for floating in self.get(self.cloud.network, "/floatingips")["floatingips"]:
            device = (floating.get("port_details") or {}).get("device_id")
            if floating["port_id"] and device in self.guests:
                wanted.setdefault(device, set()).add(floating["floating_ip_address"])
        for key, guest in self.guests.items():
            guest.set_floating(wanted.get(key, set()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cloud", required=True, help="an administrator's cloud in clouds.yaml")
    parser.add_argument("--folder", required=True, help="one folder per guest is made here")
    parser.add_argument("--bridge", required=True)
    parser.add_argument("--route", required=True, help="CIDR that a guest reaches by its gateway: the floating range")
    parser.add_argument("--guests", required=True, help="CIDR of the guests; its first address is the host's")
    parser.add_argument("--stock", required=True, help="the tree of a stock Debian")
    parser.add_argument("--packages", required=True, help="Debian packages that stock guests have fetched are kept here")
    options = parser.parse_args()
    import openstack
    watcher = Watcher(options, openstack.connect(cloud=options.cloud))
    for line in run("ip", "netns", "list").stdout.splitlines():  # left over from a killed watcher
        if line.startswith(options.bridge + "-"):
            run("ip", "netns", "del", line.split()[0], check=False)
            remove_cgroups(line.split()[0])
    os.makedirs(options.folder, exist_ok=True)
    stop = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.append(1))
    say("watching")
    while not stop:
        try:
            watcher.poll()
        except Exception as error:  # an API that is slow or away: ask again
            say(f"poll failed: {error}")
        end = time.monotonic() + INTERVAL
        while not stop and time.monotonic() < end:
            time.sleep(0.1)
    for guest in watcher.guests.values():
        guest.destroy()


if __name__ == "__main__":
    sys.exit(main())
