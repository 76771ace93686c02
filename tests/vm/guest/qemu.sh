#!/bin/bash
#
# What the scenarios with QEMU as the client share. It runs as a user who may open nothing of VFIO,
# and gives each of its vfio-user-pci devices to the guest.
# shellcheck source=lib.sh
. /lib.sh

guest_log=/tmp/guest.log   # the guest's serial port
guest_kb=$((256 * 1024))   # its memory
qemu=''                    # the process id of QEMU

mount_qemu() {
	modprobe -a virtio_pci virtio_blk squashfs
	mkdir -p /mnt
	mount -t squashfs -o ro /dev/vda /mnt
	ok "the client is $(/mnt/qemu --version | head -n 1)"
}

refused_to_client() {
	local said
	if said=$(as_client "exec 3<>$1" 2>&1); then
		fail "the user client may open $1"
	fi
	[[ $said == *"Permission denied" ]] || fail "opening $1 as client: $said"
	ok "the user client gets EACCES from $1"
}

# start_qemu SOCKET… -- OPTION…
start_qemu() {
	local command=(/mnt/qemu -nodefaults -no-user-config -display none -no-reboot
		-object "memory-backend-memfd,id=m,size=${guest_kb}K,share=on" -m "${guest_kb}K"
		-machine "q35,memory-backend=m" -accel "tcg,thread=multi" -cpu "max,la57=off")
	# QEMU's own 5 seconds for an answer are short here, where pinning the memory may take longer.
	local device='"driver":"vfio-user-pci","x-msg-timeout":600000'
	while [[ $1 != -- ]]; do
		command+=(-device "{$device,\"socket\":{\"path\":\"$1\",\"type\":\"unix\"}}")
		shift
	done
	command+=("${@:2}")
	rm -f "$guest_log"
	# Each of these programs replaces the one before it, so the process id is QEMU's.
	su client -c "exec ${command[*]@Q}" >/tmp/qemu.log 2>&1 &
	qemu=$!
	eventually is_unprivileged_or_ended || true
	is_unprivileged || fail "QEMU runs with $(ids_of "$qemu")"
	ok "QEMU (process $qemu) runs with $(ids_of "$qemu")"
}

# start_linux SOCKET… [-- WORD…]: in the guest /inner/init runs, which knows the words.
start_linux() {
	local sockets=() append="console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable nowatchdog"
	append+=" mitigations=off cryptomgr.notests lsm= audit=0"
	append+=" READ_LBA=$READ_LBA READ_TEXT=\"$READ_TEXT\""
	append+=" WRITE_LBA=$WRITE_LBA WRITE_TEXT=\"$WRITE_TEXT\""
	while (($#)) && [[ $1 != -- ]]; do
		sockets+=("$1")
		shift
	done
	start_qemu "${sockets[@]}" -- -serial "file:$guest_log" \
		-kernel /inner/vmlinux -initrd /inner/initramfs -append "$append ${*:2}"
}

ids_of() {
	awk '/^(Uid|Gid|Groups|CapEff):/ { $1 = $1; print }' "/proc/$1/status" 2>/dev/null | xargs
}

is_unprivileged() {
	[[ $(ids_of "$qemu") == "Uid: 1000 1000 1000 1000 Gid: 1000 1000 1000 1000 Groups: 1000 \
CapEff: 0000000000000000" ]]
}

is_unprivileged_or_ended() {
	! kill -0 "$qemu" 2>/dev/null || is_unprivileged
}

guest_said_or_ended() {
	grep -q "$1" "$guest_log" 2>/dev/null || ! kill -0 "$qemu" 2>/dev/null
}

# await_guest WORD: in its log, however long an emulated machine in an emulated one takes; run bounds it.
await_guest() {
	until guest_said_or_ended "$1"; do
		sleep 0.5
	done
}

show_guest() {
	tr -d '\r' <"$guest_log" | grep -E '^(ok|FAIL)  ' || true
}

# QEMU ends by itself, or by SIGTERM.
await_qemu() {
	local status=0
	wait "$qemu" || status=$?
	((status == 0)) || fail "QEMU ended with status $status"
}
