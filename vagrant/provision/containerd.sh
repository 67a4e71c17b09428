#!/bin/sh
# containerd as its project released it, with the ttrpc 1.0.x of its go.mod.

bin=$ROOT/usr/local/bin
if "$bin/containerd" --version 2>/dev/null | grep -qF " v$CONTAINERD_VERSION "; then
	already "containerd $CONTAINERD_VERSION is installed"
	exit 0
fi
archive=$(fetch containerd)
say "installing containerd $CONTAINERD_VERSION"
mkdir -p "${bin%/bin}"
tar --extract --gzip --no-same-owner --file "$archive" --directory "${bin%/bin}"
"$bin/containerd" --version | grep -qF " v$CONTAINERD_VERSION " || fail "this is not containerd $CONTAINERD_VERSION"
