#!/bin/busybox sh
# The first process of the guest: measures the servers' idle connections and powers off.
#
# It prints `@say LINE` for each line of the measurement, and `@end CODE` when that has ended.

/bin/busybox --install -s /bin
export PATH=/usr/bin:/usr/sbin:/bin HOME=/tmp # its own tools come last
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
ifconfig lo 127.0.0.1 up
ulimit -n 1048576
ulimit -l unlimited
. /parameters

{
    "$program" bench-serve --idle --list /servers --idle-connections "$count" \
        --per-address "$per_address"
    echo $? > /tmp/code
} 2>&1 | while IFS= read -r line; do
    echo "@say $line"
done
echo "@end $(cat /tmp/code)"
poweroff -f
