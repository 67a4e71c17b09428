#!/bin/sh
# Turns a freshly installed Debian root into a box: the user vagrant with the
# public key and sudo, the network by DHCP, and nothing started that costs time
# in an emulated machine.
#
#   usage: furnish.sh ROOT PUBLIC_KEY
set -eu
root=$1
key=$2

in_root() { chroot "$root" "$@"; }

in_root useradd --create-home --shell /bin/bash --password '*' vagrant
install -d -m 700 "$root/home/vagrant/.ssh"
install -m 600 "$key" "$root/home/vagrant/.ssh/authorized_keys"
in_root chown -R vagrant:vagrant /home/vagrant/.ssh
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
chmod 440 "$root/etc/sudoers.d/vagrant"

echo leaklab-box >"$root/etc/hostname"
echo '127.0.0.1 localhost leaklab-box' >"$root/etc/hosts"
echo '/dev/vda / ext4 defaults,noatime 0 1' >"$root/etc/fstab"
cat >"$root/etc/systemd/network/eth0.network" <<'NETWORK'
[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
NETWORK
in_root systemctl --quiet enable systemd-networkd.service
# Names are not looked up in a box without an Internet; a dead resolver would
# only make sudo and sshd wait.
: >"$root/etc/resolv.conf"
in_root systemctl --quiet mask \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
	getty@tty1.service serial-getty@ttyS0.service systemd-networkd-wait-online.service \
	systemd-binfmt.service systemd-hwdb-update.service systemd-update-utmp.service e2scrub_reap.service
# The cheapest key exchange for an emulated processor, and no look-ups.
printf 'UseDNS no\nGSSAPIAuthentication no\nUsePAM no\nPrintMotd no\n' >"$root/etc/ssh/sshd_config.d/leaklab.conf"
rm -f "$root"/etc/ssh/ssh_host_rsa_key* "$root"/etc/ssh/ssh_host_dsa_key*
