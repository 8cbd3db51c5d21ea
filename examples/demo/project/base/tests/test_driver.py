import unittest

from acme.array import Array, NotFound
from acme.driver import Driver


class VolumeTest(unittest.TestCase):
    def setUp(self):
        self.array = Array()
        self.driver = Driver(self.array)

    def test_create(self):
        self.driver.create_volume('vol', 10)
        self.assertEqual(10, self.array.volumes['vol']['size_gb'])

    def test_create_refuses_no_size(self):
        self.assertRaises(ValueError, self.driver.create_volume, 'vol', 0)

    def test_delete(self):
        self.driver.create_volume('vol', 10)
        self.driver.delete_volume('vol')
        self.assertEqual({}, self.array.volumes)

    def test_delete_twice(self):
        self.driver.delete_volume('vol')

    @unittest.skip('the array cannot do it before firmware 7')
    def test_snapshot(self):
        self.fail()


class ConnectionTest(unittest.TestCase):
    def setUp(self):
        self.array = Array()
        self.driver = Driver(self.array)
        self.driver.create_volume('vol', 10)

    def test_attach(self):
        connection = self.driver.initialize_connection('vol', 'compute1')
        self.assertEqual('iscsi', connection['driver_volume_type'])
        self.assertIn('compute1', self.array.volumes['vol']['hosts'])

    def test_attach_names_the_target(self):
        data = self.driver.initialize_connection('vol', 'compute1')['data']
        self.assertTrue(data['target_iqn'].endswith(':vol'))

    def test_attach_to_two_hosts(self):
        self.driver.initialize_connection('vol', 'compute1')
        self.driver.initialize_connection('vol', 'compute2')
        self.assertEqual({'compute1', 'compute2'}, self.array.volumes['vol']['hosts'])

    def test_attach_needs_a_volume(self):
        self.assertRaises(NotFound, self.driver.initialize_connection, 'other', 'compute1')

    def test_detach(self):
        self.driver.initialize_connection('vol', 'compute1')
        self.driver.terminate_connection('vol', 'compute1')
        self.assertEqual(set(), self.array.volumes['vol']['hosts'])

    def test_detach_twice(self):
        self.driver.terminate_connection('vol', 'compute1')
