#!/bin/sh
# What every provisioning script begins with. Vagrant uploads this file and the
# script as one.
set -eu

# Before every path that is written; the tests have theirs.
ROOT=${ROOT:-}
# Where the box keeps what provisioning has recorded.
STATE=$ROOT/var/lib/leaklab
# Where downloads are kept, so that provisioning again fetches nothing.
DOWNLOADED=$ROOT/var/cache/leaklab/downloads
REBOOT_FLAG=$STATE/reboot-wanted
mkdir -p "$STATE" "$DOWNLOADED"

say() { echo "leaklab: $*"; }

fail() {
	echo "leaklab: $*" >&2
	exit 1
}

# already WHAT says that there is nothing to do, for whoever provisions again.
already() { say "$* already"; }

# wanted NAME prints "URL SHA256" of a download of versions.yml; the sum is "-"
# where none is known yet. DOWNLOADS has "NAME URL SHA256;" for each.
wanted() {
	echo "${DOWNLOADS:-}" | awk -v RS=';' -v name="$1" '$1 == name { print $2, $3; found = 1 } END { exit !found }' ||
		fail "$1 is not among the downloads in vagrant/versions.yml"
}

# fetch NAME downloads it, holds it to its checksum, or records that where none
# is known, and prints the file's path.
fetch() {
	url_and_sum=$(wanted "$1") || exit 1
	url=${url_and_sum% *}
	want=${url_and_sum#* }
	file=$DOWNLOADED/${url##*/}
	if [ ! -f "$file" ]; then
		say "fetching $url" >&2
		curl --fail --silent --show-error --location --retry 3 --connect-timeout 20 --output "$file.part" "$url" ||
			fail "cannot fetch $url"
		mv "$file.part" "$file"
	fi
	sum=$(sha256sum "$file" | cut -d ' ' -f 1)
	if [ "$want" = - ]; then
		say "no checksum is known of ${url##*/}: recording $sum" >&2
	elif [ "$sum" != "$want" ]; then
		rm -f "$file"
		fail "checksum mismatch of $url: $sum, want $want"
	fi
	grep -qsF " $url" "$STATE/sums" || echo "$sum $url" >>"$STATE/sums"
	echo "$file"
}

# write FILE puts its input there and succeeds if that changed the file.
write() {
	mkdir -p "$(dirname "$1")"
	cat >"$1.new"
	if cmp -s "$1.new" "$1"; then
		rm -f "$1.new"
		return 1
	fi
	mv "$1.new" "$1"
}

# want_reboot WHY has the machine booted again once all scripts have run.
want_reboot() {
	say "a reboot is needed: $*"
	echo "$*" >"$REBOOT_FLAG"
}
