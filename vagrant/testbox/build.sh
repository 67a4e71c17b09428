#!/bin/sh
# Makes the project's own test box: a small Debian with systemd, OpenSSH and
# cgroup v1, for vagrant-libvirt. Packages come from where this machine's own
# apt gets them, whatever mirror that is.
#
#   usage: build.sh OUT.box
#
# The image has neither partitions nor a boot loader: kernel and initrd lie
# beside it in the box, so that no loop device is needed. Needs root.
set -eu

out=${1:?usage: build.sh OUT.box}
here=$(cd "$(dirname "$0")" && pwd)

say() { echo "test box: $*" >&2; }
cannot() {
	say "$*"
	exit 3
}

for tool in mmdebstrap mke2fs qemu-img tar; do
	command -v "$tool" >/dev/null ||
		cannot "$tool is missing: apt-get install --no-install-recommends mmdebstrap e2fsprogs qemu-utils tar"
done
[ "$(id -u)" = 0 ] || cannot "needs root, for the owners of the files in the image"

# The public "insecure" key that every box starts with comes with Vagrant.
key=$(find /usr/share/rubygems-integration /opt/vagrant -path '*/keys/vagrant.pub' 2>/dev/null | head -n 1)
key=${VAGRANT_PUBLIC_KEY:-$key}
[ -f "$key" ] || cannot "Vagrant's keys/vagrant.pub is not found: install Vagrant, or set VAGRANT_PUBLIC_KEY"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
root=$work/root

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keyring" ] || cannot "$keyring is missing: apt-get install debian-archive-keyring"
# shellcheck disable=SC2016 # the names are apt's to fill in
apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
	sort -u | sed "s,^,deb [signed-by=\"$keyring\"] ," >"$work/sources.list"
# shellcheck disable=SC2016
suite=$(apt-get indextargets --format '$(CODENAME)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' |
	grep -v -e - | head -n 1)
[ -n "$suite" ] || cannot "apt on this machine knows no Debian repository (apt-get update?)"

say "installing the packages of Debian $suite (takes minutes)"
# The settings of the initrd must be there before the kernel's package makes it:
# the drivers of this one machine, and no search for others.
mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--essential-hook="sh '$here/initrd.sh' \"\$1\"" \
	--include=systemd-sysv,udev,openssh-server,sudo,curl,iproute2,kmod,procps,initramfs-tools,linux-image-cloud-amd64 \
	"$suite" "$root" - <"$work/sources.list"

say "setting it up"
sh "$here/furnish.sh" "$root" "$key"

say "writing the image"
mkdir "$work/box"
cp "$root"/boot/vmlinuz-* "$work/box/vmlinuz"
cp "$root"/boot/initrd.img-* "$work/box/initrd.img"
rm -rf "${root:?}"/boot/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
size_mb=4096
truncate -s "${size_mb}M" "$work/disk"
mke2fs -q -F -t ext4 -L root -d "$root" "$work/disk"
qemu-img convert -c -O qcow2 "$work/disk" "$work/box/box.img"

printf '{"provider": "libvirt", "format": "qcow2", "virtual_size": %d}\n' $((size_mb / 1024)) >"$work/box/metadata.json"
cp "$here/Vagrantfile.box" "$work/box/Vagrantfile"
mkdir -p "$(dirname "$out")"
# Written beside its place, so that a box that is there is whole.
tar -C "$work/box" -cf "$out.making" metadata.json Vagrantfile box.img vmlinuz initrd.img
mv "$out.making" "$out"
say "$out: $(du -m "$out" | cut -f1) MB"
