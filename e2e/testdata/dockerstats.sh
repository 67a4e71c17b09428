#!/bin/sh
# The report's steps typed as a shell recipe, to hold leaklab against (make
# bench): a real dockerd 1.13.1 under a slave mount namespace with live-restore,
# restarted, and stats calls that hang.
#
#   dockerstats.sh BIN WORKLOAD DIR rounds  five rounds of 500 calls by curl, counted; ends
#   dockerstats.sh BIN WORKLOAD DIR hold    prints the container's id when calls hang, and
#                                           holds the daemon until its input ends
set -eu
if [ "${INSIDE:-}" = "" ]; then
	INSIDE=1 exec unshare --mount --pid --ipc --uts --net --fork --kill-child --mount-proc sh "$0" "$@"
fi
bin=$1 workload=$2 dir=$3 what=$4
socket=$dir/docker.sock
ip link set lo up 2>/dev/null || true
mount -t tmpfs tmpfs /run
mkdir -p /run/etc/upper /run/etc/work "$dir/root" "$dir/image"
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
echo '{"live-restore": true}' >"$dir/daemon.json"

api() { curl --silent --show-error --unix-socket "$socket" "$@"; }

start() {
	unshare --mount --propagation slave env -i PATH="$bin" "$bin/dockerd" --graph "$dir/data" --exec-root /run/docker \
		-p "$dir/pid" -H "unix://$socket" --storage-driver vfs --bridge=none --iptables=false --ip-forward=false \
		--ip-masq=false --userland-proxy=false --cgroup-parent=/leaklab-bench --config-file "$dir/daemon.json" -D \
		>>"$dir/log" 2>&1 &
	until api http://d/_ping >/dev/null 2>&1; do sleep 0.1; done
}

start
cp "$workload" "$dir/image/workload"
tar -C "$dir/image" -c . | api -X POST -H 'Content-Type: application/x-tar' --data-binary @- 'http://d/images/create?fromSrc=-&repo=workload' >/dev/null
id=$(api -X POST -H 'Content-Type: application/json' \
	-d '{"Image":"workload","Cmd":["/workload","sleep"],"HostConfig":{"NetworkMode":"none"}}' \
	http://d/containers/create | sed 's/.*"Id":"\([0-9a-f]*\)".*/\1/')
api -X POST "http://d/containers/$id/start"
kill "$(cat "$dir/pid")"
while [ -e "$dir/pid" ]; do sleep 0.1; done
start

case $what in
hold)
	echo "$id"
	cat >/dev/null
	;;
rounds)
	for round in 1 2 3 4 5; do
		for call in $(seq 500); do
			api "http://d/containers/$id/stats?stream=0" >/dev/null 2>&1 &
		done
		sleep 2
		api 'http://d/debug/pprof/goroutine?debug=1' | grep '^[0-9].* @' | head -1
		ls "/proc/$(cat "$dir/pid")/fd" | wc -l
	done
	;;
esac
