import unittest

from acme.array import Array, ArrayBusy
from acme.driver import ATTEMPTS, Driver


class RetryTest(unittest.TestCase):
    def driver(self, busy_calls):
        array = Array()
        driver = Driver(array)
        driver.create_volume('vol', 10)
        array.busy_calls = busy_calls
        return driver

    def test_attach_waits_for_a_busy_array(self):
        driver = self.driver(busy_calls=ATTEMPTS - 1)
        driver.initialize_connection('vol', 'compute1')
        self.assertIn('compute1', driver.array.volumes['vol']['hosts'])

    def test_attach_gives_up_in_the_end(self):
        driver = self.driver(busy_calls=ATTEMPTS)
        self.assertRaises(ArrayBusy, driver.initialize_connection, 'vol', 'compute1')

    def test_detach_waits_too(self):
        driver = self.driver(busy_calls=1)
        driver.terminate_connection('vol', 'compute1')
