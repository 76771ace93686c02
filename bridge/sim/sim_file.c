#include "bridge/sim/sim_file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/sim/sim_internal.h"
#include "proto/base/cleanup.h"

void sim_file_table_init(struct sim_file_table *table)
{
    pthread_rwlock_init(&table->lock, NULL);
    LIST_INIT(&table->left);
}

void sim_file_table_destroy(struct sim_file_table *table)
{
    for (size_t i = 0; i < table->size; i++)
        assert(!table->files[i]);
    assert(LIST_EMPTY(&table->left));
    free(table->files);
    pthread_rwlock_destroy(&table->lock);
}

struct sim_file *sim_file_create(struct sim *sim, const struct sim_file_ops *ops, void *object)
{
    struct sim_file *file = malloc(sizeof(*file));

    if (!file)
        return NULL;
    file->sim = sim;
    file->ops = ops;
    file->object = object;
    file->shared = 0;
    atomic_init(&file->refs, 1);
    return file;
}

struct sim_file *sim_file_ref(struct sim_file *file)
{
    atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
    return file;
}

void sim_file_put(struct sim_file *file)
{
    if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
        return;
    file->ops->release(file);
    free(file);
}

static int grow(struct sim_file_table *table, size_t needed)
{
    size_t size = table->size ? table->size : 64;
    struct sim_file **files;

    if (needed <= table->size)
        return 0;
    while (size < needed)
        size *= 2;
    files = realloc(table->files, size * sizeof(struct sim_file *));
    if (!files)
        return -ENOMEM;
    memset(files + table->size, 0, (size - table->size) * sizeof(struct sim_file *));
    table->files = files;
    table->size = size;
    return 0;
}

int sim_file_install(struct sim_file *file)
{
    struct sim_file_table *table = &file->sim->files;
    cleanup_close_ int fd = memfd_create(file->ops->name, MFD_CLOEXEC);
    int ret;

    if (fd < 0)
        return -errno;
    pthread_rwlock_wrlock(&table->lock);
    ret = grow(table, (size_t)fd + 1);
    if (!ret) {
        /* Else somebody has closed a descriptor of ours by close(2). */
        assert(!table->files[fd]);
        table->files[fd] = file;
        table->open[file->ops->kind]++;
        ret = steal_fd(&fd);
    }
    pthread_rwlock_unlock(&table->lock);
    return ret;
}

static struct sim_file *find(const struct sim_file_table *table, int fd)
{
    return fd >= 0 && (size_t)fd < table->size ? table->files[fd] : NULL;
}

struct sim_file *sim_file_get(struct sim *sim, int fd)
{
    struct sim_file *file;

    pthread_rwlock_rdlock(&sim->files.lock);
    file = find(&sim->files, fd);
    if (file)
        sim_file_ref(file);
    pthread_rwlock_unlock(&sim->files.lock);
    return file;
}

static bool is_held(struct sim_file *file)
{
    return file->ops->is_held && file->ops->is_held(file);
}

/* The table's reference, when the last descriptor here is gone. */
static void leave(struct sim_file *file)
{
    struct sim_file_table *table = &file->sim->files;

    if (!is_held(file)) {
        sim_file_put(file);
        return;
    }
    pthread_rwlock_wrlock(&table->lock);
    LIST_INSERT_HEAD(&table->left, file, link);
    table->any_left = true;
    pthread_rwlock_unlock(&table->lock);
}

void sim_file_reap(struct sim *sim, bool all)
{
    struct sim_file_table *table = &sim->files;
    struct sim_file_list found = LIST_HEAD_INITIALIZER(found);
    struct sim_file *file;

    if (!table->any_left)
        return;
    pthread_rwlock_wrlock(&table->lock);
    while ((file = LIST_FIRST(&table->left))) {
        LIST_REMOVE(file, link);
        LIST_INSERT_HEAD(&found, file, link);
    }
    table->any_left = false;
    pthread_rwlock_unlock(&table->lock);
    while ((file = LIST_FIRST(&found))) {
        LIST_REMOVE(file, link);
        if (all)
            sim_file_put(file);
        else
            leave(file);
    }
}

int sim_file_close(struct sim *sim, int fd)
{
    struct sim_file_table *table = &sim->files;
    struct sim_file *file;

    pthread_rwlock_wrlock(&table->lock);
    file = find(table, fd);
    if (file) {
        table->files[fd] = NULL;
        table->open[file->ops->kind]--;
        /* Under the lock: the number may be given out again from here on. */
        close(fd);
    }
    pthread_rwlock_unlock(&table->lock);
    if (!file)
        return -EBADF;
    leave(file);
    return 0;
}

unsigned sim_file_count(struct sim *sim, enum sim_file_kind kind)
{
    unsigned count;

    pthread_rwlock_rdlock(&sim->files.lock);
    count = sim->files.open[kind];
    pthread_rwlock_unlock(&sim->files.lock);
    return count;
}
