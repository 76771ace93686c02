/*
 *     /sys/bus/pci/devices/BDF/ATTRIBUTE
 *     /sys/bus/pci/devices/BDF/{driver,iommu_group,subsystem} -> the usual places
 *     /sys/bus/pci/devices/BDF/vfio-dev/vfioN, which is listed alone
 *     /sys/bus/platform/devices/NAME, the same without attributes
 *     /sys/bus/mdev/devices/UUID, the same without attributes but mdev_type/device_api
 *     /sys/kernel/iommu_groups/N/devices/BDF -> the device, and through it what is in that
 *     /sys/class/vfio/{N,noiommu-N} -> the group's file as a device, there as long as the file is
 */
#include "bridge/sim/sim_sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_internal.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

#define BUSES  "/sys/bus"
#define GROUPS "/sys/kernel/iommu_groups"
#define CLASS  "/sys/class/vfio"

enum {
    NAME_SIZE = 64,
};

/* Files of a device that are a register in hexadecimal. */
static const struct {
    const char *name;
    uint8_t offset, width;
} attributes[] = {
    {"vendor",           PCI_VENDOR_ID,           2},
    {"device",           PCI_DEVICE_ID,           2},
    {"subsystem_vendor", PCI_SUBSYSTEM_VENDOR_ID, 2},
    {"subsystem_device", PCI_SUBSYSTEM_ID,        2},
    {"revision",         PCI_REVISION_ID,         1},
    {"class",            PCI_CLASS_PROG,          3},
};

/*
 * A path that is understood. What is NULL or empty is not in the path; the kinds are told apart by
 * that.
 */
struct place {
    struct sim_group *group;
    struct sim_device *dev;
    char rest[NAME_SIZE]; /* behind the device */
};

/* "/NAME/rest": the name to out, returns the rest. NULL: there is none that fits. */
static const char *split_name(const char *path, char *out, size_t size)
{
    size_t len;

    if (*path++ != '/')
        return NULL;
    len = strcspn(path, "/");
    if (!len || len >= size)
        return NULL;
    memcpy(out, path, len);
    out[len] = '\0';
    return path + len;
}

/* "" or "/rest", to place->rest. */
static bool take_rest(struct place *place, const char *rest)
{
    if (!*rest)
        return true;
    snprintf(place->rest, sizeof(place->rest), "%s", rest + 1);
    return *rest == '/' && rest[1] && strlen(rest + 1) < sizeof(place->rest);
}

static const char *bus_of(const struct sim_device *dev)
{
    if (dev->model->platform)
        return "platform";
    return dev->model->mediated ? "mdev" : "pci";
}

/* BUSES/BUS/devices/NAME[/rest]. With sim->lock held, as the next ones. */
static bool find_device(struct sim *sim, const char *path, struct place *place)
{
    char bus[NAME_SIZE], name[NAME_SIZE];

    if (strncmp(path, BUSES "/", sizeof(BUSES)))
        return false;
    path = split_name(path + sizeof(BUSES) - 1, bus, sizeof(bus));
    path = path ? split_name(path, name, sizeof(name)) : NULL;
    path = path && !strcmp(name, "devices") ? split_name(path, name, sizeof(name)) : NULL;
    if (!path)
        return false;
    place->dev = sim_find_device(sim, name);
    if (place->dev && (sim_device_is_unplugged(place->dev) || strcmp(bus, bus_of(place->dev))))
        place->dev = NULL;
    return place->dev && take_rest(place, path);
}

/* GROUPS/N/devices[/NAME[/rest]] */
static bool find_group(struct sim *sim, const char *path, struct place *place)
{
    char name[NAME_SIZE], number[NAME_SIZE];

    if (strncmp(path, GROUPS "/", sizeof(GROUPS)))
        return false;
    path = split_name(path + sizeof(GROUPS) - 1, name, sizeof(name));
    if (!path)
        return false;
    place->group = sim_group_find(sim, atoi(name));
    snprintf(number, sizeof(number), "%d", place->group ? place->group->number : -1);
    if (strcmp(name, number))
        return false;
    path = split_name(path, name, sizeof(name));
    if (!path || strcmp(name, "devices"))
        return false;
    if (!*path)
        return true;
    path = split_name(path, name, sizeof(name));
    place->dev = path ? sim_find_device(sim, name) : NULL;
    return place->dev && place->dev->group == place->group && take_rest(place, path);
}

static bool find_place(struct sim *sim, const char *path, struct place *place)
{
    return find_device(sim, path, place) || find_group(sim, path, place);
}

static ssize_t show_attribute(const struct sim_device *dev, const char *name, char *buf,
                              size_t size)
{
    if (dev->model->mediated)
        return strcmp(name, "mdev_type/device_api") ? -ENOENT : snprintf(buf, size, "vfio-pci\n");
    if (dev->model->platform)
        return -ENOENT;
    for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
        if (!strcmp(attributes[i].name, name))
            return snprintf(buf, size, "0x%0*x\n", 2 * attributes[i].width,
                            sim_pci_read(dev, attributes[i].offset, attributes[i].width));
    }
    if (strcmp(name, "config"))
        return -ENOENT;
    memcpy(buf, dev->pci.config, MIN(size, dev->pci.size));
    return (ssize_t)dev->pci.size;
}

struct content {
    size_t len;
    char data[PCI_CFG_SPACE_EXP_SIZE];
};

static ssize_t sysfs_pread(struct sim_file *file, void *buf, size_t len, off_t offset)
{
    const struct content *content = file->object;

    if ((size_t)offset >= content->len)
        return 0;
    len = MIN(len, content->len - (size_t)offset);
    memcpy(buf, content->data + offset, len);
    return (ssize_t)len;
}

static ssize_t sysfs_pwrite(struct sim_file *file, const void *buf, size_t len, off_t offset)
{
    (void)file;
    (void)buf;
    (void)len;
    (void)offset;
    return -EBADF; /* open for reading alone */
}

static void sysfs_release(struct sim_file *file)
{
    free(file->object);
}

static const struct sim_file_ops sysfs_ops = {
    .name = "sim-sysfs",
    .kind = SIM_FILE_SYSFS,
    .pread = sysfs_pread,
    .pwrite = sysfs_pwrite,
    .release = sysfs_release,
};

static ssize_t read_content(struct sim *sim, const char *path, struct content *content)
{
    struct place place = {0};
    ssize_t ret = -ENOENT;

    pthread_mutex_lock(&sim->lock);
    if (find_device(sim, path, &place)) {
        pthread_mutex_lock(&place.dev->lock);
        ret = place.rest[0]
                  ? show_attribute(place.dev, place.rest, content->data, sizeof(content->data))
                  : -EISDIR;
        pthread_mutex_unlock(&place.dev->lock);
    }
    pthread_mutex_unlock(&sim->lock);
    return ret;
}

int sim_sysfs_open(struct sim *sim, const char *path, int flags)
{
    cleanup_free_ struct content *content = calloc(1, sizeof(*content));
    struct sim_file *file;
    ssize_t len;
    int ret;

    if (!content)
        return -ENOMEM;
    len = read_content(sim, path, content);
    if (len < 0)
        return (int)len;
    if ((flags & O_ACCMODE) != O_RDONLY)
        return -EACCES;
    content->len = (size_t)len;
    file = sim_file_create(sim, &sysfs_ops, content);
    if (!file)
        return -ENOMEM;
    content = NULL; /* the file's */
    ret = sim_file_install(file);
    if (ret < 0)
        sim_file_put(file);
    return ret;
}

/* CLASS/NAME */
static bool is_group_file(struct sim *sim, const char *path)
{
    char name[NAME_SIZE];

    for (struct sim_group *group = sim->groups; group; group = group->next) {
        snprintf(name, sizeof(name), "%s%d", group->noiommu ? "noiommu-" : "", group->number);
        if (sim_group_has_file(group) && !strncmp(path, CLASS "/", sizeof(CLASS)) &&
            !strcmp(path + sizeof(CLASS), name))
            return true;
    }
    return false;
}

static int format_device(const struct sim_device *dev, const char *up, char *buf, size_t size)
{
    if (dev->model->mediated)
        return snprintf(buf, size, "%s../../../devices/virtual/sim/sim/%s", up, dev->name);
    if (dev->model->platform)
        return snprintf(buf, size, "%s../../../devices/platform/%s", up, dev->name);
    return snprintf(buf, size, "%s../../../devices/pci%.7s/%s", up, dev->name, dev->name);
}

static int format_link(struct sim *sim, const char *path, char *buf, size_t size)
{
    struct place place = {0};
    const struct sim_device *dev;

    if (is_group_file(sim, path))
        return snprintf(buf, size, "../../devices/virtual/vfio%s", strrchr(path, '/'));
    if (!find_place(sim, path, &place) || !place.dev)
        return -ENOENT;
    dev = place.dev;
    if (!place.rest[0])
        return format_device(dev, place.group ? "../" : "", buf, size);
    if (!strcmp(place.rest, "driver") && dev->driver[0])
        return snprintf(buf, size, "../../../bus/%s/drivers/%s", bus_of(dev), dev->driver);
    if (!strcmp(place.rest, "subsystem"))
        return snprintf(buf, size, "../../../bus/%s", bus_of(dev));
    if (!strcmp(place.rest, "iommu_group") && sim_group_exists(dev->group))
        return snprintf(buf, size, "../../../kernel/iommu_groups/%d", dev->group->number);
    return -ENOENT;
}

ssize_t sim_sysfs_readlink(struct sim *sim, const char *path, char *buf, size_t size)
{
    int len;

    pthread_mutex_lock(&sim->lock);
    len = format_link(sim, path, buf, size);
    pthread_mutex_unlock(&sim->lock);
    return len >= 0 && (size_t)len >= size ? -ENAMETOOLONG : len;
}

/* The names of a directory; collected first, because who is told of them may call the machine. */
struct names {
    char (*name)[NAME_SIZE];
    size_t count, size;
};

static int add_name(struct names *names, const char *name)
{
    if (names->count == names->size) {
        size_t size = names->size ? 2 * names->size : 16;
        void *grown = realloc(names->name, size * sizeof(*names->name));

        if (!grown)
            return -ENOMEM;
        names->name = grown;
        names->size = size;
    }
    snprintf(names->name[names->count++], NAME_SIZE, "%s", name);
    return 0;
}

/* bus NULL: of all; group NULL: of all */
static int add_devices(struct sim *sim, const char *bus, const struct sim_group *group,
                       struct names *names)
{
    int ret = 0;

    for (struct sim_device *dev = sim->devices; dev && !ret; dev = dev->next) {
        if ((!bus || !strcmp(bus, bus_of(dev))) && (!group || dev->group == group))
            ret = add_name(names, dev->name);
    }
    return ret;
}

static int add_groups(struct sim *sim, struct names *names)
{
    char number[NAME_SIZE];
    int ret = 0;

    for (struct sim_group *group = sim->groups; group && !ret; group = group->next) {
        if (!sim_group_exists(group))
            continue;
        snprintf(number, sizeof(number), "%d", group->number);
        ret = add_name(names, number);
    }
    return ret;
}

static bool has_cdev(const struct sim_device *dev)
{
    return dev->sim->iommufd != SIM_IOMMUFD_NONE && sim_device_has_vfio(dev) &&
           !dev->group->noiommu;
}

static int add_cdev(const struct sim_device *dev, struct names *names)
{
    char name[NAME_SIZE];

    snprintf(name, sizeof(name), "vfio%d", dev->cdev);
    return add_name(names, name);
}

static int add_attributes(const struct sim_device *dev, struct names *names)
{
    int ret = sim_group_exists(dev->group) ? add_name(names, "iommu_group") : 0;

    if (!ret)
        ret = add_name(names, "subsystem");
    for (size_t i = 0; i < ARRAY_SIZE(attributes) && !ret && sim_device_is_on_pci(dev); i++)
        ret = add_name(names, attributes[i].name);
    if (!ret && !dev->model->platform)
        ret = add_name(names, dev->model->mediated ? "mdev_type" : "config");
    if (!ret && dev->driver[0])
        ret = add_name(names, "driver");
    if (!ret && has_cdev(dev))
        ret = add_name(names, "vfio-dev");
    return ret;
}

static int collect(struct sim *sim, const char *path, struct names *names)
{
    struct place place = {0};

    if (!strcmp(path, BUSES "/pci/devices"))
        return add_devices(sim, "pci", NULL, names);
    if (!strcmp(path, BUSES "/mdev/devices"))
        return add_devices(sim, "mdev", NULL, names);
    if (!strcmp(path, BUSES "/platform/devices"))
        return add_devices(sim, "platform", NULL, names);
    if (!strcmp(path, GROUPS))
        return add_groups(sim, names);
    if (!find_place(sim, path, &place))
        return -ENOENT;
    if (!place.dev)
        return add_devices(sim, NULL, place.group, names);
    if (!place.rest[0])
        return add_attributes(place.dev, names);
    if (!strcmp(place.rest, "vfio-dev") && has_cdev(place.dev))
        return add_cdev(place.dev, names);
    return -ENOENT;
}

int sim_sysfs_list(struct sim *sim, const char *path, int (*entry)(const char *name, void *arg),
                   void *arg)
{
    struct names names = {0};
    int ret;

    pthread_mutex_lock(&sim->lock);
    ret = collect(sim, path, &names);
    pthread_mutex_unlock(&sim->lock);
    for (size_t i = 0; i < names.count && !ret; i++)
        ret = entry(names.name[i], arg);
    free(names.name);
    return ret;
}
