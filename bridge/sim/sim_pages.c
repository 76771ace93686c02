/*
 * A file is mapped for as long as the pages exist. Like the kernel, this asks neither whether its
 * descriptor may write nor whether it is sealed. Where it differs:
 *
 * - The kernel's device writes to a file that is sealed against it; here such writes are lost.
 * - The kernel looks for the file's end when it pins, this when it maps. What is cut off in between
 *   is noticed, what is added is not.
 */
#include "bridge/sim/sim_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "bridge/sim/sim_dmabuf.h"
#include "bridge/sim/sim_internal.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

/* The pages that [start, start + length) touches; the file's or the process's. */
static int create(struct sim *sim, uint64_t start, uint64_t length, bool writable,
                  struct sim_pages **out)
{
    struct sim_pages *pages;

    if (start + length < start)
        return -EOVERFLOW;
    if (!length || length > UINT64_MAX - UINT64_C(2) * SIM_PAGE)
        return -EINVAL;
    pages = calloc(1, sizeof(*pages));
    if (!pages)
        return -ENOMEM;
    pages->sim = sim;
    pages->refs = 1;
    pages->writable = writable;
    pages->first = start % SIM_PAGE;
    pages->size = (pages->first + length + SIM_PAGE - 1) & ~(uint64_t)(SIM_PAGE - 1);
    *out = pages;
    return 0;
}

int sim_pages_of_memory(struct sim *sim, uint64_t vaddr, uint64_t length, bool writable,
                        struct sim_pages **out)
{
    int ret = create(sim, vaddr, length, writable, out);

    if (!ret)
        (*out)->vaddr = vaddr - (*out)->first;
    return ret;
}

struct sim_pages *sim_pages_get(struct sim_pages *pages)
{
    pages->refs++;
    return pages;
}

void sim_pages_put(struct sim_pages *pages)
{
    if (--pages->refs)
        return;
    if (pages->map)
        munmap(pages->map, pages->map_size);
    if (pages->dmabuf)
        sim_file_put(pages->dmabuf);
    free(pages);
}

/* The size of the file's pages; 0: it is not of shared memory or hugetlbfs, or is too short. */
static uint64_t file_page_size(struct sim *sim, int fd, uint64_t at, uint64_t size)
{
    struct sim_file *file = sim_file_get(sim, fd);
    struct statfs fs;
    struct stat st;

    if (file) {
        sim_file_put(file); /* the machine's own, whatever it is made of */
        return 0;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        !range_within(at, size, (uint64_t)st.st_size) || fstatfs(fd, &fs) < 0)
        return 0;
    if (fs.f_type == TMPFS_MAGIC)
        return SIM_PAGE;
    return fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)st.st_blksize : 0;
}

/* Opens the file anew, since what its descriptor may does not matter. */
static void *map_as(struct sim *sim, int fd, uint64_t at, size_t size, int flags, int prot)
{
    cleanup_close_ int file = -1;
    char number[16];

    snprintf(number, sizeof(number), "%d", fd);
    file = openat(sim->proc_fds, number, flags | O_CLOEXEC);
    if (file < 0)
        return MAP_FAILED;
    return mmap(NULL, size, prot, MAP_SHARED | MAP_NORESERVE, file, (off_t)at);
}

/* at: where the pages begin in the file. */
static int map_file(struct sim_pages *pages, int fd, uint64_t at)
{
    uint64_t page = file_page_size(pages->sim, fd, at, pages->size);
    uint64_t skip;
    void *map;

    if (!page) {
        pages->bad_file = true;
        return 0;
    }
    skip = at % page;
    pages->map_size = (skip + pages->size + page - 1) / page * page;
    map = map_as(pages->sim, fd, at - skip, pages->map_size, O_RDWR, PROT_READ | PROT_WRITE);
    if (map == MAP_FAILED)
        map = map_as(pages->sim, fd, at - skip, pages->map_size, O_RDONLY, PROT_READ);
    if (map == MAP_FAILED)
        return -ENOMEM;
    pages->map = map;
    pages->vaddr = (uintptr_t)map + skip;
    return 0;
}

/* *dmabuf, if it is one, is to be put. */
static bool is_dmabuf(struct sim *sim, int fd, struct sim_file **dmabuf)
{
    struct sim_file *file = sim_file_get(sim, fd);

    if (file && sim_dmabuf_of_file(file)) {
        *dmabuf = file;
        return true;
    }
    if (file)
        sim_file_put(file);
    return false;
}

static int attach(struct sim_pages *pages, uint64_t start, uint64_t length)
{
    int ret = sim_dmabuf_attach(sim_dmabuf_of_file(pages->dmabuf), start, length, &pages->peer);

    pages->peer.start -= pages->first;
    return ret;
}

int sim_pages_of_file(struct sim *sim, int fd, uint64_t start, uint64_t length, bool writable,
                      struct sim_pages **out)
{
    int flags = fcntl(fd, F_GETFL);
    int ret;

    if (flags < 0 || flags & O_PATH)
        return -EBADF;
    ret = create(sim, start, length, writable, out);
    if (ret)
        return ret;
    if (is_dmabuf(sim, fd, &(*out)->dmabuf))
        ret = attach(*out, start, length);
    else
        ret = map_file(*out, fd, start - (*out)->first);
    if (ret)
        sim_pages_put(*out);
    return ret;
}

/* The page tables of the process have no memory for a BAR that could be pinned. */
static int pin_memory(struct sim_pages *pages)
{
    struct sim_peer peer;

    if (sim_vma_find(pages->sim, pages->vaddr, pages->size, pages->writable, &peer))
        return -EFAULT;
    return sim_pin(pages->sim, &pages->pin, pages->vaddr, pages->size, pages->writable);
}

static int pin(struct sim_pages *pages)
{
    int ret;

    if (pages->dmabuf)
        return 0;
    if (pages->bad_file)
        return -EINVAL;
    if (!pages->map)
        return pin_memory(pages);
    ret = sim_pin_in_place(pages->sim, &pages->pin, pages->vaddr, pages->size, false);
    return ret == -EFAULT ? -EINVAL : ret;
}

int sim_pages_pin(struct sim_pages *pages)
{
    int ret = pages->pins ? 0 : pin(pages);

    if (!ret)
        pages->pins++;
    return ret;
}

void sim_pages_unpin(struct sim_pages *pages)
{
    if (--pages->pins == 0)
        sim_unpin(pages->sim, &pages->pin);
}
