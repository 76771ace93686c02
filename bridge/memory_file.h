/* What a client's descriptor may be to become DMA memory. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A range of a file, and which file that is: descriptors of the same one differ. */
struct memory_file {
    int fd; /* stays its owner's */
    uint64_t offset;
    dev_t dev;
    ino_t ino;
};

/*
 * Checks that [offset, offset + size) of the file can be pinned for the device without harm to the
 * host: a memfd, tmpfs or hugetlbfs file, open for what the device will do, not sealed against it,
 * and large enough. These are the checks that mmap makes of a mode and a seal but a kernel that
 * takes the file itself does not, and the file systems whose pages a device may write.
 *
 * Returns 0; -EINVAL for a wrong kind of file or a range past its end, -EACCES for the mode,
 * -EPERM for a seal, -EBADF. The cause is logged. Any thread; the descriptor stays the caller's.
 */
int memory_file_check(int fd, uint64_t offset, uint64_t size, bool device_writes,
                      struct memory_file *file);
