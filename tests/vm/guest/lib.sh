#!/bin/bash
#
# What the scenarios share: saying what was proven, giving devices to VFIO, starting the daemon.
# A scenario that ends early, by whatever command, shows the daemon's log.
set -euo pipefail
shopt -s extglob

# shellcheck disable=SC2034  # the scenarios use them
{
	edu=0000:01:00.0         # behind a root port
	root_bus_edu=0000:00:04.0
	nvme=0000:02:00.0        # likewise
	# In one scenario each:
	igb=0000:03:00.0         # sriov, eventfds, unplug
	second_nvme=0000:03:00.0 # share
	ivshmem=0000:03:00.0     # p2p
	bus_edu=0000:03:00.0 bus_edu2=0000:03:00.1 bus_ivshmem=0000:03:00.2 bus_igb=0000:04:00.0 # hotreset
	group_edu=0000:05:00.0 group_edu2=0000:06:00.0 group_nvme=0000:07:00.0 # group: behind a switch
}

daemon=''  # the process id of the daemon that runs now
daemon_log=/tmp/daemon.log

ok() {
	echo "ok  $*"
}

# Only for the scenario's own process: in a subshell it would end that alone.
fail() {
	echo "FAIL  $*"
	exit 1
}

finish() {
	local status=$? log
	if [[ -n $daemon ]]; then
		kill -KILL "$daemon" 2>/dev/null || true
		wait "$daemon" 2>/dev/null || true
	fi
	if ((status != 0)); then
		for log in /tmp/*.log; do
			[[ -e $log ]] || continue
			echo "--- end of $log:"
			tail -n 20 "$log"
		done
	fi
}
trap finish EXIT

# Repeats a command until it succeeds. The minute is no measure: it bounds a hang.
eventually() {
	local i
	for ((i = 0; i < 600; i++)); do
		if "$@"; then
			return 0
		fi
		sleep 0.1
	done
	return 1
}

# As the user "client", with that user's group alone. The command is one string for a shell.
as_client() {
	su client -c "$1"
}

group_of() {
	basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")"
}

driver_of() {
	[[ ! -e /sys/bus/pci/devices/$1/driver ]] ||
		basename "$(readlink "/sys/bus/pci/devices/$1/driver")"
}

# Only root opens anything of VFIO; the kernel makes /dev/vfio/vfio world-writable.
load_vfio() {
	modprobe -a vfio_iommu_type1 vfio-pci
	chmod 600 /dev/vfio/vfio
}

give_to_vfio() {
	local device=/sys/bus/pci/devices/$1
	if [[ -e $device/driver ]]; then
		echo "$1" >"$device/driver/unbind"
	fi
	echo vfio-pci >"$device/driver_override"
	echo "$1" >/sys/bus/pci/drivers_probe
	[[ $(driver_of "$1") == vfio-pci ]] || fail "$1 was not bound to vfio-pci"
	ok "$1 ($(cat "$device/vendor"):$(cat "$device/device")) is bound to vfio-pci," \
		"in IOMMU group $(group_of "$1")"
}

# make_mdev PARENT TYPE UUID: a mediated device of the kernel's samples.
make_mdev() {
	local device=/sys/bus/mdev/devices/$3
	echo "$3" >"/sys/class/mdev_bus/$1/mdev_supported_types/$2/create"
	[[ -e $device/driver ]] || fail "$2: $3 has no driver"
	ok "$2 ($(cat "$device/mdev_type/device_api")) is made as $3," \
		"in IOMMU group $(basename "$(readlink "$device/iommu_group")")"
}

command_register() {
	echo $((0x$(xxd -p -s 4 -l 2 "/sys/bus/pci/devices/$1/config" | sed 's/\(..\)\(..\)/\2\1/')))
}

bus_master() {
	(($(command_register "$1") & 4))
}

quiet() {
	! bus_master "$1"
}

# How often the IOMMU stopped a DMA, whatever the device. Faults that come close together are one.
faults() {
	dmesg | grep -c 'DMAR: DRHD: handling fault status' || true
}

# Newer kernels name the device with its domain, 6.1 without.
last_fault_of() {
	dmesg | grep -E "DMAR: \[DMA .*device \[(0000:)?${1#0000:}\]" | tail -n 1 | sed 's/.*DMAR: //'
}

# The log tells when the worker runs, the socket file only that clients may come.
listens_or_ended() {
	grep -q "listening on $1\$" "$daemon_log" || ! kill -0 "$daemon" 2>/dev/null
}

await_socket() {
	eventually listens_or_ended "$1" || true
	[[ -S $1 ]] || fail "the daemon does not listen on $1"
	ok "the daemon (process $daemon) listens on $1"
}

# daemon_start DEVICE=SOCKET… [-- OPTION…]
daemon_start() {
	local args=() sockets=() socket
	while (($#)) && [[ $1 != -- ]]; do
		args+=(--device "${1%%=*}" --socket-path "${1#*=}")
		sockets+=("${1#*=}")
		shift
	done
	: >"$daemon_log" # now: the job's own redirection may come after the first look at the file
	vfio-userd "${args[@]}" --iommu "$BACKEND" "${@:2}" 2>"$daemon_log" &
	daemon=$!
	for socket in "${sockets[@]}"; do
		await_socket "$socket"
	done
	sed -n 's/^vfio-userd: info: \(.* serving .*, DMA by .*\)/    \1/p' "$daemon_log"
}

# What the kernel has pinned for the daemon: type1 counts it as locked memory, iommufd as pinned.
pinned_kb() {
	awk '/^Vm(Lck|Pin):/ { kb += $2 } END { print kb }' "/proc/$daemon/status"
}

# daemon_stop: SIGTERM must end it with status 0.
daemon_stop() {
	local status=0 stopped=$daemon
	daemon=''
	kill -TERM "$stopped"
	wait "$stopped" || status=$?
	((status == 0)) || fail "the daemon ended with status $status on SIGTERM"
	ok "SIGTERM ends the daemon with status 0"
}

# refused WHAT PATTERN COMMAND: the command is one string for a shell.
refused() {
	local what=$1 pattern=$2 command=$3 status=0
	timeout 120 bash -c "$command" >/tmp/refusal.log 2>&1 || status=$?
	((status == 1)) || fail "$what: status $status"
	[[ $(wc -l </tmp/refusal.log) == 1 ]] || fail "$what: said in more or less than one line"
	grep -Eq "$pattern" /tmp/refusal.log || fail "$what: does not name the cause ($pattern)"
	ok "$what: status 1 and the line \"$(cat /tmp/refusal.log)\""
}

name_lines() {
	local line
	while IFS= read -r line; do
		case $line in
			'ok '*) echo "ok  $1: ${line##ok *( )}" ;;
			*) echo "    $1: $line" ;;
		esac
	done
}

# client_proves WHAT VFUC-ARGUMENT…: passes the client's own lines on, under a name.
client_proves() {
	local what=$1
	shift
	vfuc "$@" 2>&1 | name_lines "$what" || fail "$what: vfuc $*"
}
