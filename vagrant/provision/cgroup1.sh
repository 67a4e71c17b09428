#!/bin/sh
# The hierarchies of cgroup v1, which old engines know, instead of the unified one.

if grep -qs ' /sys/fs/cgroup/memory cgroup ' "$ROOT/proc/mounts"; then
	already "the hierarchies of cgroup v1 are mounted"
	exit 0
fi
command -v update-grub >/dev/null || fail "this box has no GRUB: boot it with systemd.unified_cgroup_hierarchy=0"
write "$ROOT/etc/default/grub.d/leaklab.cfg" <<'GRUB' || already "GRUB knows"
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"
GRUB
update-grub >/dev/null 2>&1 || fail "update-grub"
want_reboot "cgroup v1 instead of v2"
