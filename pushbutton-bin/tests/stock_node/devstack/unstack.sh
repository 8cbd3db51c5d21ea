#!/usr/bin/env bash
set -eu
sudo systemctl stop devstack@keystone.service
