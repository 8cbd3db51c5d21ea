#!/usr/bin/env bash
set -eu
sudo rm -rf /etc/keystone /etc/systemd/system/devstack@keystone.service
