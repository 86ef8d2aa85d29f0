# The second start, with the disk of the first.

ln -s ../ringway-tune.service /etc/systemd/system/multi-user.target.wants/ringway-tune.service
echo 128 > /proc/sys/net/core/somaxconn
snapshot > /tmp/fresh

ringway_ends "verify after a restart" 1 tune --verify
said "what was done is gone" "gone: the machine was started anew since"
said "the files are not" "ringway-tune.service = .*holds"

# What systemd would do.
sysctl -p /etc/sysctl.d/90-ringway.conf > /dev/null
same "the file sets what is set" "$(cat /proc/sys/kernel/numa_balancing)" 0
command=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/ringway-tune.service)
$command > /tmp/said 2>&1
same "the unit's command: exit code" $? 0
same "and raises what is raised" "$(cat /proc/sys/net/core/somaxconn)" 4096
same "and binds interrupts" "$(affinity virtio0-input.0)" 2
ringway_ends "verify after the unit" 0 tune --verify

ringway_ends "revert after the restart" 0 tune --revert
for file in /etc/sysctl.d/90-ringway.conf /etc/systemd/system/ringway-tune.service \
    /etc/systemd/system/multi-user.target.wants/ringway-tune.service; do
    same "$file is removed" "$(ls $file 2> /dev/null)" ""
done
# Parameters that the file set are the machine's own now, until its next start.
snapshot | grep -v -e ^/etc -e numa_balancing -e slow_start -e port_range > /tmp/now.rest
grep -v -e ^/etc -e numa_balancing -e slow_start -e port_range /tmp/fresh > /tmp/fresh.rest
same "all else is as at the start" "$(diff /tmp/fresh.rest /tmp/now.rest)" ""
