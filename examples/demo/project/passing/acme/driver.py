"""The driver: what the block storage service calls."""

from acme.array import ArrayBusy

ATTEMPTS = 3


class Driver:
    def __init__(self, array):
        self.array = array

    def create_volume(self, name, size_gb):
        if size_gb < 1:
            raise ValueError('a volume has at least 1 GB')
        self.array.create(name, size_gb)

    def delete_volume(self, name):
        self.array.delete(name)

    def initialize_connection(self, name, host):
        self._retry(self.array.attach, name, host)
        return {'driver_volume_type': 'iscsi', 'data': {'target_iqn': 'iqn.2026-11.example.acme:' + name}}

    def terminate_connection(self, name, host):
        self._retry(self.array.detach, name, host)

    def _retry(self, call, *args):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call(*args)
            except ArrayBusy:
                if attempt == ATTEMPTS:
                    raise
