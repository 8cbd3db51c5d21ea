"""An out-of-tree Nova virt driver (`compute_driver = testbed.Driver`; no patching).

Nova's fake driver with one difference: a server's console log is what its guest (guests.py) really wrote, so that a program
that learns a node's SSH host keys from the console, as cloud-init prints them there, can be tested; and a server that must have a config
drive gets it, as a folder beside that console log. What stands in it is Nova's own.
"""
import os
import shutil
import sys

from nova.api.metadata import base as metadata
from nova.virt import configdrive, fake

GUESTS = os.environ.get("TESTBED_GUESTS", "")


def config_drive(instance):
    return os.path.join(GUESTS, instance.uuid, "config-2")


class Driver(fake.FakeDriverWithoutFakeNodes):
    def spawn(self, context, instance, image_meta, injected_files, admin_password, allocations, network_info=None, **more):
        if configdrive.required_by(instance):
            extra = {"admin_pass": admin_password} if admin_password else {}
            content = metadata.InstanceMetadata(instance, content=injected_files, extra_md=extra, network_info=network_info)
            for path, data in content.metadata_for_config_drive():
                path = os.path.join(config_drive(instance), path)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(data if isinstance(data, bytes) else data.encode())
        return super().spawn(context, instance, image_meta, injected_files, admin_password, allocations, network_info, **more)

    def destroy(self, context, instance, *more, **named):
        shutil.rmtree(config_drive(instance), ignore_errors=True)
        return super().destroy(context, instance, *more, **named)

    def get_console_output(self, context, instance):
        try:
            with open(os.path.join(GUESTS, instance.uuid, "console.log"), "rb") as console:
                return console.read()
        except FileNotFoundError:
            return b""


sys.modules["nova.virt.testbed"] = sys.modules[__name__]  # Nova loads drivers from below nova.virt only
