#!/bin/sh
# Starts and stops a libvirtd for machines where no service manager does, such
# as containers and CI jobs. The machine's own configuration stays as it is: the
# daemon sees another qemu.conf, in a mount namespace of its own.
#
#   usage: libvirtd.sh start DIR | stop DIR      (DIR keeps its pid and log)
#
# A libvirtd that is running already is used, and left alone.
set -eu

action=${1:?usage: libvirtd.sh start|stop DIR}
dir=${2:?usage: libvirtd.sh start|stop DIR}
say() { echo "libvirtd: $*" >&2; }
answers() { virsh --connect qemu:///system version >/dev/null 2>&1; }

start() {
	if answers; then
		say "one is running already"
		return
	fi
	[ "$(id -u)" = 0 ] || { say "needs root to start one"; exit 3; }
	mkdir -p "$dir"
	cat >"$dir/qemu.conf" <<'CONF'
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = [ ]
namespaces = [ ]
remember_owner = 0
CONF
	# shellcheck disable=SC2016 # $1 is the inner shell's
	setsid unshare --mount sh -c '
		mount --bind "$1/qemu.conf" /etc/libvirt/qemu.conf
		echo $$ >"$1/pid"
		exec libvirtd --timeout 0 >"$1/log" 2>&1 </dev/null
	' libvirtd "$dir" &
	tries=0
	until answers; do
		tries=$((tries + 1))
		if [ "$tries" -gt 60 ]; then
			say "does not answer: $(tail -n 1 "$dir/log")"
			exit 3
		fi
		sleep 0.5
	done
	# The NAT network with DHCP that boxes are on.
	virsh --connect qemu:///system net-list --name | grep -qx default ||
		virsh --connect qemu:///system net-start default >/dev/null
}

stop() {
	[ -f "$dir/pid" ] || return 0
	# The network's dnsmasq outlives the daemon unless it is told.
	virsh --connect qemu:///system net-destroy default >/dev/null || say "the network default was not up"
	kill "$(cat "$dir/pid")"
	rm -f "$dir/pid"
}

case $action in
start | stop) "$action" ;;
*)
	say "no action $action"
	exit 2
	;;
esac
