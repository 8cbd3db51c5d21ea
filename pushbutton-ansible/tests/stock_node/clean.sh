#!/usr/bin/env bash
set -eu
sudo rm -rf /var/lib/mysql
