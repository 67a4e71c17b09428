#!/bin/sh
# Tells the initramfs-tools of a root that is being made which drivers its one
# machine needs.
#
#   usage: initrd.sh ROOT
set -eu
etc=$1/etc/initramfs-tools
mkdir -p "$etc/conf.d"
printf 'MODULES=list\nRESUME=none\nFSTYPE=ext4\n' >"$etc/conf.d/leaklab"
printf 'virtio_pci\nvirtio_blk\next4\n' >"$etc/modules"
