#!/bin/sh
# leaklab itself and the runtimes that came along from its cache, for
# `vagrant ssh -c 'sudo leaklab run …'`.

upload=$ROOT/tmp/leaklab-upload
if [ ! -f "$upload/leaklab" ]; then
	say "no binary came along (make build makes bin/leaklab); leaklab run --machine vagrant pushes its own"
	exit 0
fi
# /usr/bin, because the sudo of CentOS looks nowhere else.
mkdir -p "$ROOT/usr/bin"
install -m 755 "$upload/leaklab" "$ROOT/usr/bin/leaklab"
cache=$ROOT/root/.cache/leaklab/runtimes
mkdir -p "$cache"
for runtime in "$upload"/runtimes/*/; do
	[ -d "$runtime" ] || continue
	name=${runtime%/}
	name=${name##*/}
	rm -rf "${cache:?}/$name"
	mv "$runtime" "$cache/$name"
	chmod -R a+rX "$cache/$name"
	find "$cache/$name/bin" -type f -exec chmod 755 {} +
done
rm -rf "$upload"
say "$("$ROOT/usr/bin/leaklab" --version), runtimes: $(find "$cache" -mindepth 1 -maxdepth 1 -type d | wc -l)"
