#!/bin/sh
# Gathers the engine that the packages have installed in one folder, under the
# names that leaklab's arms look for: `leaklab run` then puts this engine in front
# of the fault, not a build of its own. Links, so an update shows.

own=$STATE/own/dockerd
mkdir -p "$own"

# link NAME PATH... makes NAME of the first path that is there.
link() {
	name=$1
	shift
	for path; do
		if [ -x "$ROOT$path" ]; then
			ln -sfn "$ROOT$path" "$own/$name"
			return
		fi
	done
	fail "the packages have brought no $name: looked for $*"
}

libexec=/usr/libexec/docker
link dockerd /usr/bin/dockerd-current /usr/bin/dockerd
if [ -x "$ROOT/usr/bin/dockerd-current" ]; then # CentOS's 1.13.1
	link docker-containerd "$libexec/docker-containerd-current" /usr/bin/docker-containerd-current
	link docker-containerd-shim "$libexec/docker-containerd-shim-current" /usr/bin/docker-containerd-shim-current
	link docker-containerd-ctr "$libexec/docker-ctr-current" /usr/bin/docker-ctr-current
	link docker-runc "$libexec/docker-runc-current" /usr/bin/docker-runc-current
else # Docker's own
	link containerd /usr/bin/containerd
	link containerd-shim /usr/bin/containerd-shim
	link ctr /usr/bin/ctr
	link runc /usr/bin/runc /usr/sbin/runc
fi
rpm -qf --queryformat '%{NAME}-%{VERSION}-%{RELEASE}\n' "$(readlink -f "$own/dockerd")" >"$own.version"
say "the box's own engine is $(cat "$own.version"), in $own"

# The unit is the other way to the fault: with it, systemd itself makes the mounts
# slaves or not.
if write "$ROOT/usr/bin/leaklab-unit" <<'TOOL'; then
#!/bin/sh
# Sets how systemd mounts for docker.service, and restarts it:
#
#   leaklab-unit slave    MountFlags=slave, the fault
#   leaklab-unit none     no MountFlags, the mitigation
#   leaklab-unit show     what it is now, and what the daemon holds open
set -eu
dropin=/etc/systemd/system/docker.service.d/zz-leaklab-unit.conf
case ${1:-show} in
slave | none)
	flags=$1
	# An empty value takes back what the package's unit says. "shared" would not
	# do: old systemd gives the service a namespace of its own for that too.
	[ "$flags" = none ] && flags=
	mkdir -p "${dropin%/*}"
	printf '[Service]\nMountFlags=%s\n' "$flags" >"$dropin"
	systemctl daemon-reload
	systemctl restart docker
	;;
show) ;;
*)
	echo "usage: leaklab-unit [slave|none|show]" >&2
	exit 2
	;;
esac
pid=$(systemctl show --property MainPID docker)
pid=${pid#MainPID=}
goroutines=$(curl --silent --unix-socket /var/run/docker.sock 'http://docker/debug/pprof/goroutine?debug=1' | sed -n 's/^goroutine profile: total //p')
echo "$(systemctl show --property MountFlags docker) pid=$pid fds=$(find "/proc/$pid/fd" -mindepth 1 | wc -l) goroutines=${goroutines:-unknown}"
TOOL
	chmod 755 "$ROOT/usr/bin/leaklab-unit"
	say "leaklab-unit sets the unit's MountFlags"
fi
