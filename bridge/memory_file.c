#include "bridge/memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "proto/base/arith.h"
#include "proto/base/log.h"

static int check_kind(int fd, struct stat *st)
{
    struct statfs fs;
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0 && flags & O_PATH) {
        log_peer_warning("DMA_MAP: the file is not open for reading");
        return -EACCES;
    }
    /* Only the kinds that are wanted know of seals; the others' file system, which may be the
     * peer's own, is not asked anything. */
    if (fcntl(fd, F_GET_SEALS) < 0) {
        log_peer_warning("DMA_MAP: the descriptor is no memfd, tmpfs or hugetlbfs file: %s",
                         strerror(errno));
        return errno == EBADF ? -EBADF : -EINVAL;
    }
    if (fstat(fd, st) < 0 || fstatfs(fd, &fs) < 0) {
        int err = errno;

        log_peer_warning("DMA_MAP: can't look at the descriptor: %s", strerror(err));
        return -err;
    }
    if (!S_ISREG(st->st_mode) || (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC)) {
        log_peer_warning("DMA_MAP: the descriptor is no memfd, tmpfs or hugetlbfs file (mode %o, "
                         "file system %lx)",
                         st->st_mode & S_IFMT, (unsigned long)fs.f_type);
        return -EINVAL;
    }
    return 0;
}

static int check_access(int fd, bool device_writes)
{
    int flags = fcntl(fd, F_GETFL);
    int mode = flags & O_ACCMODE;
    int seals;

    if (flags < 0 || flags & O_PATH || mode == O_WRONLY || (device_writes && mode != O_RDWR)) {
        log_peer_warning("DMA_MAP: the file is not open for %s",
                         device_writes ? "reading and writing" : "reading");
        return -EACCES;
    }
    seals = fcntl(fd, F_GET_SEALS);
    if (device_writes && seals > 0 && seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) {
        log_peer_warning("DMA_MAP: the file is sealed against writing");
        return -EPERM;
    }
    return 0;
}

int memory_file_check(int fd, uint64_t offset, uint64_t size, bool device_writes,
                      struct memory_file *file)
{
    struct stat st;
    int ret = check_kind(fd, &st);

    if (!ret)
        ret = check_access(fd, device_writes);
    if (ret)
        return ret;
    if (!range_within(offset, size, (uint64_t)st.st_size)) {
        log_peer_warning("DMA_MAP: offset 0x%" PRIx64 " and size 0x%" PRIx64
                         " pass the end of the file at 0x%" PRIx64,
                         offset, size, (uint64_t)st.st_size);
        return -EINVAL;
    }
    *file = (struct memory_file){.fd = fd, .offset = offset, .dev = st.st_dev, .ino = st.st_ino};
    return 0;
}
