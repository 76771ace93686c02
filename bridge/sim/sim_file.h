/*
 * Open files of the simulated kernel.
 *
 * A descriptor is a real one of the process: an empty memfd, so that it is seen in /proc/self/fd
 * and its number belongs to nobody else. A table finds the file by the number. A call holds a
 * reference on the file while it runs: when another thread closes the descriptor meanwhile, the
 * file is released by the last call that uses it, as in the kernel.
 *
 * A kind of file is a struct of functions; a further kind needs no change here but its enum.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>
#include <sys/types.h>

struct sim;
struct sim_file;

enum sim_file_kind {
    SIM_FILE_CONTAINER,
    SIM_FILE_GROUP,
    SIM_FILE_DEVICE,
    SIM_FILE_IOMMUFD,
    SIM_FILE_DMABUF,
    SIM_FILE_SYSFS,
    SIM_FILE_STREAM,
    SIM_FILE_KINDS
};

struct sim_file_ops {
    const char *name; /* as /proc/self/fd shows it */
    enum sim_file_kind kind;

    /* NULL: the errno of a file without it. */
    int (*ioctl)(struct sim_file *file, unsigned long request, void *arg);
    ssize_t (*pread)(struct sim_file *file, void *buf, size_t len, off_t offset);
    ssize_t (*pwrite)(struct sim_file *file, const void *buf, size_t len, off_t offset);
    ssize_t (*read)(struct sim_file *file, void *buf, size_t len, bool nonblock);
    ssize_t (*write)(struct sim_file *file, const void *buf, size_t len);
    bool (*ready)(struct sim_file *file); /* as poll(2) tells; NULL: always */

    int (*mmap)(struct sim_file *file, void **addr, size_t len, int prot, int flags, off_t offset);

    int (*share)(struct sim_file *file);    /* a descriptor for other processes */
    bool (*is_held)(struct sim_file *file); /* one of those is left; NULL: never */

    /* The last reference has gone. Called without locks; of a dma-buf, with a context's. */
    void (*release)(struct sim_file *file);
};

struct sim_file {
    struct sim *sim;
    const struct sim_file_ops *ops;
    void *object; /* of the kind */
    off_t shared; /* the number of its descriptors for others, 0: there are none */
    _Atomic unsigned refs;
    LIST_ENTRY(sim_file) link; /* in the table's list */
};

LIST_HEAD(sim_file_list, sim_file);

struct sim_file_table {
    pthread_rwlock_t lock;
    struct sim_file **files; /* by descriptor */
    size_t size;
    unsigned open[SIM_FILE_KINDS];
    struct sim_file_list left; /* without a descriptor here, but open in other processes */
    _Atomic bool any_left;
};

void sim_file_table_init(struct sim_file_table *table);
/* No file may be open. */
void sim_file_table_destroy(struct sim_file_table *table);

/* A file with one reference, without descriptor; NULL without memory. */
struct sim_file *sim_file_create(struct sim *sim, const struct sim_file_ops *ops, void *object);

/* Gives the file a descriptor, which takes the caller's reference over. On -errno it stays. */
int sim_file_install(struct sim_file *file);

/* NULL: not a descriptor of this machine. To be put. */
struct sim_file *sim_file_get(struct sim *sim, int fd);

struct sim_file *sim_file_ref(struct sim_file *file);
void sim_file_put(struct sim_file *file);

/* -EBADF: not a descriptor of this machine. */
int sim_file_close(struct sim *sim, int fd);

/*
 * Releases the files that were open in other processes alone and are not any more; all: those that
 * still are too. Nobody tells that another process closes something, so whoever may see the
 * difference asks.
 */
void sim_file_reap(struct sim *sim, bool all);

/* Descriptors of a kind that are open. */
unsigned sim_file_count(struct sim *sim, enum sim_file_kind kind);
