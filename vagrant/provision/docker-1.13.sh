#!/bin/sh
# Docker 1.13.1 from CentOS's own packages, as the stats report had it: live-restore
# on, and the unit's mounts slaves.

if rpm -q docker 2>/dev/null | grep -q "^docker-$DOCKER_VERSION-"; then
	already "docker $DOCKER_VERSION is installed"
else
	common=$(fetch docker-common)
	client=$(fetch docker-client)
	docker=$(fetch docker)
	say "installing docker $DOCKER_VERSION"
	yum --assumeyes --quiet install "$common" "$client" "$docker"
fi

changed=
# Debug serves the profiles in which the leak is counted.
write "$ROOT/etc/docker/daemon.json" <<'JSON' && changed=yes
{ "live-restore": true, "debug": true }
JSON

# Earlier packages have MountFlags=slave in the unit itself, later ones not.
own=$(grep -s '^MountFlags=' "$ROOT/usr/lib/systemd/system/docker.service" || true)
say "the package's unit says: ${own:-nothing about MountFlags}"
if [ "$own" != MountFlags=slave ]; then
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
