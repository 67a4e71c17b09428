#!/bin/bash
# In a box with systemd: dockerd 1.13.1 as docker.service, and what MountFlags in
# its unit does to stats calls after a restart with live-restore.
#
#   usage: unit.sh FOLDER        (of the binaries, leaklab-unit among them)
#
# Prints for each setting, before and after 20 calls without a deadline, what
# leaklab-unit shows, and how many calls were answered.
set -euo pipefail
bin=$1

calls=20
socket=/var/run/docker.sock
api() { curl --silent --unix-socket "$socket" "$@"; }

install -m 755 "$bin/leaklab-unit" /usr/bin/leaklab-unit
mkdir -p /etc/docker
echo '{ "live-restore": true, "debug": true }' >/etc/docker/daemon.json
cat >/etc/systemd/system/docker.service <<UNIT
[Service]
Type=notify
NotifyAccess=all
Environment=PATH=$bin
ExecStart=$bin/dockerd --storage-driver vfs --iptables=false --bridge=none --userland-proxy=false
KillMode=process
TimeoutStartSec=600
UNIT

tar -C "$bin" -cf /tmp/image.tar workload
for setting in slave none; do
	echo "setting $setting"
	leaklab-unit "$setting" >/dev/null
	api -X POST -H 'Content-Type: application/x-tar' --data-binary @/tmp/image.tar 'http://docker/images/create?fromSrc=-&repo=workload' >/dev/null
	api -X POST -H 'Content-Type: application/json' \
		-d '{"Image": "workload", "Cmd": ["/workload", "sleep"], "HostConfig": {"NetworkMode": "none"}}' \
		"http://docker/containers/create?name=$setting" >/dev/null
	api -X POST "http://docker/containers/$setting/start"
	systemctl restart docker
	leaklab-unit show
	callers=()
	for ((i = 0; i < calls; i++)); do
		api --output "/tmp/$setting.$i" "http://docker/containers/$setting/stats?stream=false" &
		callers+=($!)
	done
	# A call that is answered takes two of the collector's seconds; an emulated
	# machine gets plenty.
	for ((i = 0; i < 60; i++)); do
		answered=$(find /tmp -name "$setting.*" -size +0 | wc -l)
		((answered == calls)) && break
		((i >= 25)) && [ "$setting" = slave ] && break
		sleep 1
	done
	leaklab-unit show
	echo "answered $answered"
	kill "${callers[@]}" 2>/dev/null || true
	wait
	api -X DELETE "http://docker/containers/$setting?force=1"
done
