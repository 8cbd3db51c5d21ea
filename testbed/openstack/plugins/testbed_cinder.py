"""An out-of-tree Cinder volume driver (loaded by class path, no patching).

FileDriver: each volume and snapshot is a sparse file in testbed_dir. No LVM, no iSCSI, no qemu-img, no root tools.
A real file system stands behind it, but nothing is ever exported: an attachment is a record only.
"""
import os, subprocess
from oslo_config import cfg
from cinder import exception, interface
from cinder.volume import configuration, driver

OPTS = [cfg.StrOpt('testbed_dir', help='where the files are'),
        cfg.IntOpt('testbed_capacity_gb', default=100, help='a request above what is left of this has no valid backend')]
cfg.CONF.register_opts(OPTS, group=configuration.SHARED_CONF_GROUP)


@interface.volumedriver
class FileDriver(driver.VolumeDriver):
    VERSION = '1.0'

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTS)

    def do_setup(self, context):
        self.dir = self.configuration.testbed_dir
        os.makedirs(self.dir, exist_ok=True)

    def check_for_setup_error(self):
        if not os.access(self.dir, os.W_OK):
            raise exception.VolumeBackendAPIException(data='cannot write to ' + self.dir)

    def local_path(self, thing):
        return os.path.join(self.dir, thing.name)

    def _size(self, volume, gb=None):
        with open(self.local_path(volume), 'ab') as f:
            f.truncate((gb or volume.size) << 30)

    def _copy(self, source, target):
        subprocess.run(['cp', '--sparse=always', self.local_path(source), self.local_path(target)], check=True)

    def _remove(self, thing):
        try:
            os.remove(self.local_path(thing))
        except FileNotFoundError:
            pass

    create_volume = _size
    delete_volume = delete_snapshot = _remove

    def create_snapshot(self, snapshot):
        self._copy(snapshot.volume, snapshot)

    def create_volume_from_snapshot(self, volume, snapshot):
        self._copy(snapshot, volume); self._size(volume)

    def create_cloned_volume(self, volume, src_vref):
        self._copy(src_vref, volume); self._size(volume)

    def extend_volume(self, volume, new_size):
        self._size(volume, new_size)

    def clone_image(self, context, volume, image_location, image_meta, image_service):
        with open(self.local_path(volume), 'wb') as f:      # raw images only: done here because the usual path needs qemu-img
            image_service.download(context, image_meta['id'], f)
        self._size(volume)
        return {}, True

    def initialize_connection(self, volume, connector):
        return {'driver_volume_type': 'local', 'data': {'device_path': self.local_path(volume), 'access_mode': 'rw'}}

    def terminate_connection(self, volume, connector, **kwargs):
        pass

    def ensure_export(self, context, volume):
        pass

    def create_export(self, context, volume, connector):
        pass

    def remove_export(self, context, volume):
        pass

    def _update_volume_stats(self):
        total = self.configuration.testbed_capacity_gb
        used = sum(os.path.getsize(os.path.join(self.dir, n)) for n in os.listdir(self.dir)) >> 30
        name = self.configuration.safe_get('volume_backend_name') or 'file'
        self._stats = {'volume_backend_name': name, 'vendor_name': 'testbed', 'driver_version': self.VERSION,
                       'storage_protocol': 'file', 'pools': [{
                           'pool_name': name, 'total_capacity_gb': total, 'free_capacity_gb': max(0, total - used),
                           'provisioned_capacity_gb': used, 'reserved_percentage': 0, 'max_over_subscription_ratio': '1.0',
                           'thin_provisioning_support': False, 'thick_provisioning_support': True,
                           'multiattach': False, 'QoS_support': False}]}
