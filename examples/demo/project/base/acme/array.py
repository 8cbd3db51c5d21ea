"""A storage array, as its driver sees it."""


class ArrayBusy(Exception):
    """The array has too much to do right now."""


class NotFound(Exception):
    """There is no such volume."""


class Array:
    """Keeps volumes and who is attached to them. Stands in for the array's REST API."""

    def __init__(self, busy_calls=0):
        self.volumes = {}
        self.busy_calls = busy_calls

    def _call(self):
        if self.busy_calls > 0:
            self.busy_calls -= 1
            raise ArrayBusy()

    def create(self, name, size_gb):
        self._call()
        self.volumes[name] = {'size_gb': size_gb, 'hosts': set()}

    def delete(self, name):
        self._call()
        self.volumes.pop(name, None)

    def attach(self, name, host):
        self._call()
        if name not in self.volumes:
            raise NotFound(name)
        self.volumes[name]['hosts'].add(host)

    def detach(self, name, host):
        self._call()
        if name in self.volumes:
            self.volumes[name]['hosts'].discard(host)
