#!/bin/sh
# The report's small send buffers of TCP. They do not touch unix sockets, which is
# what containerd and its shims talk over: leaklab's arms show both.

if echo "net.ipv4.tcp_wmem = $TCP_WMEM" | write "$ROOT/etc/sysctl.d/90-leaklab.conf"; then
	sysctl --quiet "net.ipv4.tcp_wmem=$TCP_WMEM"
	say "tcp_wmem is $TCP_WMEM"
else
	already "tcp_wmem is $TCP_WMEM"
fi
