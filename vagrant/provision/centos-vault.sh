#!/bin/sh
# CentOS 7 has reached its end: its mirrors are empty and its packages are in the
# vault, one frozen tree per release. Frozen, so "the newest in the repository" is
# a pinned version too. Packages are signed; the key is in the box.

vault=${VAULT:-http://vault.centos.org}
repos=$ROOT/etc/yum.repos.d

for repo in "$repos"/CentOS-*.repo; do
	[ -f "$repo" ] || continue
	mv "$repo" "$repo.gone"
	say "${repo##*/} led to mirrors that are gone: set aside"
done

if {
	echo "# The vault of CentOS $CENTOS_RELEASE, by leaklab."
	for part in os updates extras; do
		cat <<REPO
[vault-$part]
name=CentOS $CENTOS_RELEASE $part (vault)
baseurl=$vault/$CENTOS_RELEASE/$part/x86_64/
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7
REPO
	done
} | write "$repos/leaklab-vault.repo"; then
	yum clean all >/dev/null
	say "packages come from the vault of CentOS $CENTOS_RELEASE"
else
	already "packages come from the vault of CentOS $CENTOS_RELEASE"
fi
