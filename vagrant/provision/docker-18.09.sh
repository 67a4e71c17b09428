#!/bin/sh
# Docker CE 18.09.2 with its containerd, from Docker's own packages for CentOS 7.
# Its unit has no MountFlags; SLAVE_MOUNTS=1 (or `leaklab-unit slave` later) adds
# MountFlags=slave as a drop-in, the setting of the stop report.

if rpm -q docker-ce 2>/dev/null | grep -q "^docker-ce-$DOCKER_VERSION-"; then
	already "docker-ce $DOCKER_VERSION is installed"
else
	key=$(fetch docker-key)
	fingerprint=$(gpg --quiet --with-fingerprint "$key" | sed -n 's/.*fingerprint = //p' | tr -d ' ' | head -n 1)
	[ "$fingerprint" = "$DOCKER_KEY_FINGERPRINT" ] ||
		fail "Docker's signing key has the fingerprint $fingerprint, want $DOCKER_KEY_FINGERPRINT"
	rpm --import "$key"
	containerd=$(fetch containerd.io)
	client=$(fetch docker-ce-cli)
	docker=$(fetch docker-ce)
	for package in "$containerd" "$client" "$docker"; do
		rpm --checksig "$package" >/dev/null || fail "${package##*/} is not signed by Docker's key"
	done
	say "installing docker-ce $DOCKER_VERSION"
	yum --assumeyes --quiet install "$containerd" "$client" "$docker"
fi

changed=
write "$ROOT/etc/docker/daemon.json" <<'JSON' && changed=yes
{ "live-restore": true, "debug": true }
JSON
if [ -n "${SLAVE_MOUNTS:-}" ]; then
	write "$ROOT/etc/systemd/system/docker.service.d/leaklab-mounts.conf" <<'UNIT' && changed=yes
[Service]
MountFlags=slave
UNIT
fi

if [ -n "$changed" ]; then
	systemctl daemon-reload
	systemctl restart docker
fi
systemctl --quiet enable docker
systemctl is-active --quiet docker || systemctl start docker
say "docker $(docker version --format '{{.Server.Version}}') runs, its unit has $(systemctl show --property MountFlags docker)"
