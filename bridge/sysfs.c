#include "bridge/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/log.h"

bool sysfs_is_bdf(const char *text)
{
    static const char form[] = "xxxx:xx:xx.7";

    if (strlen(text) != sizeof(form) - 1)
        return false;
    for (size_t i = 0; form[i]; i++) {
        bool fits = form[i] == 'x'   ? text[i] && strchr("0123456789abcdef", text[i])
                    : form[i] == '7' ? text[i] >= '0' && text[i] <= '7'
                                     : text[i] == form[i];
        if (!fits)
            return false;
    }
    return true;
}

static bool is_uuid(const char *text)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    if (strlen(text) != sizeof(form) - 1)
        return false;
    for (size_t i = 0; form[i]; i++) {
        if (form[i] == 'x' ? !strchr("0123456789abcdef", text[i]) : form[i] != text[i])
            return false;
    }
    return true;
}

bool sysfs_is_device(const char *text)
{
    static const char root[] = "/sys/";
    size_t len = strlen(text);

    return sysfs_is_bdf(text) || is_uuid(text) ||
           (!strncmp(text, root, sizeof(root) - 1) && len < SYSFS_PATH_SIZE &&
            text[len - 1] != '/');
}

/* The last component of the target of a link in a directory. */
static int read_link_name(struct host *host, const char *directory, const char *link, char *name,
                          size_t size)
{
    char path[SYSFS_PATH_SIZE + 32], target[SYSFS_PATH_SIZE];
    const char *last;
    ssize_t n;

    snprintf(path, sizeof(path), "%s/%s", directory, link);
    n = host_readlink(host, path, target, sizeof(target));
    if (n < 0)
        return (int)n;
    last = strrchr(target, '/');
    last = last ? last + 1 : target;
    if (strlen(last) >= size)
        return -ENAMETOOLONG;
    strcpy(name, last);
    return 0;
}

static int read_driver(struct host *host, const char *directory, struct sysfs_device *dev)
{
    int ret = read_link_name(host, directory, "driver", dev->driver, sizeof(dev->driver));

    if (ret == -ENOENT) {
        dev->driver[0] = '\0';
        return 0;
    }
    return ret;
}

static int ignore_entry(const char *name, void *arg)
{
    (void)name;
    (void)arg;
    return 1;
}

static int explain_missing_device(struct host *host, const char *directory,
                                  const struct sysfs_device *dev)
{
    if (host_list(host, directory, ignore_entry, NULL) > 0)
        return 0;
    if (dev->mediated)
        log_error("no mediated device %s on this machine: its parent makes it when the UUID is "
                  "written to mdev_supported_types/TYPE/create",
                  dev->name);
    else if (strcmp(dev->bus, "pci"))
        log_error("no device %s on this machine's bus %s", dev->name, dev->bus);
    else
        log_error("no PCI device %s on this machine; 'lspci -D' lists the ones there are",
                  dev->name);
    return -ENODEV;
}

static int parse_group(const char *text, int *group)
{
    unsigned long number;
    char *end;

    errno = 0;
    number = strtoul(text, &end, 10);
    if (errno || end == text || *end || number > INT_MAX)
        return -EPROTO;
    *group = (int)number;
    return 0;
}

static int take_name(const char *name, void *arg)
{
    struct sysfs_device *dev = arg;

    snprintf(dev->cdev, sizeof(dev->cdev), "%s", name);
    return 1;
}

/* Whatever VFIO driver has a device, there is such a directory, but on old kernels. */
static void read_cdev(struct host *host, const char *directory, struct sysfs_device *dev)
{
    char path[SYSFS_PATH_SIZE + 32];

    dev->cdev[0] = '\0';
    snprintf(path, sizeof(path), "%s/vfio-dev", directory);
    host_list(host, path, take_name, dev);
}

/*
 * Without an IOMMU, and only if the mode is on, vfio-pci makes a group for the device. In sysfs it
 * is as any other; the name of VFIO's file for it tells the kind.
 */
static int read_noiommu(struct host *host, struct sysfs_device *dev)
{
    char path[64], target[256];
    ssize_t n;

    snprintf(path, sizeof(path), "/sys/class/vfio/noiommu-%d", dev->group);
    n = host_readlink(host, path, target, sizeof(target));
    dev->noiommu = n >= 0;
    if (n >= 0 || n == -ENOENT)
        return 0;
    log_error("can't read %s from sysfs: %s", path, strerror((int)-n));
    return (int)n;
}

static const char ap_needs_kvm[] =
    "the crypto adapters of vfio-ap work through the KVM of the program that opens them, which is "
    "not this one";

/* VFIO has a driver for devices of these. */
static bool is_served_bus(const char *bus)
{
    static const char *const served[] = {"pci", "mdev", "platform", "amba", "fsl-mc", "cdx"};

    for (size_t i = 0; i < ARRAY_SIZE(served); i++) {
        if (!strcmp(bus, served[i]))
            return true;
    }
    return false;
}

/* Its bus is what the device's link "subsystem" says. */
static int locate_path(struct host *host, const char *path, struct sysfs_device *dev)
{
    const char *name = strrchr(path, '/') + 1;
    int ret = read_link_name(host, path, "subsystem", dev->bus, sizeof(dev->bus));

    if (ret == -ENOENT) {
        log_error("%s is no device's directory on this machine", path);
        return -ENODEV;
    }
    if (ret || strlen(name) >= sizeof(dev->name)) {
        log_error("can't tell what device %s is: %s", path, strerror(ret ? -ret : ENAMETOOLONG));
        return ret ? ret : -ENAMETOOLONG;
    }
    strcpy(dev->name, name);
    if (is_served_bus(dev->bus))
        return 0;
    if (!strcmp(dev->bus, "ap"))
        log_error("%s can't be served: %s", path, ap_needs_kvm);
    else
        log_error("%s is a device of the bus %s, which VFIO has no driver for", path, dev->bus);
    return -ENOTSUP;
}

static int locate(struct host *host, const char *text, struct sysfs_device *dev, char *directory,
                  size_t size)
{
    int ret = 0;

    if (*text == '/') {
        ret = locate_path(host, text, dev);
    } else {
        strcpy(dev->bus, sysfs_is_bdf(text) ? "pci" : "mdev");
        snprintf(dev->name, sizeof(dev->name), "%s", text);
    }
    dev->mediated = !strcmp(dev->bus, "mdev");
    snprintf(directory, size, "/sys/bus/%s/devices/%s", dev->bus, dev->name);
    return ret ? ret : explain_missing_device(host, directory, dev);
}

static int explain_no_group(const struct sysfs_device *dev)
{
    if (dev->mediated)
        log_error("%s is in no IOMMU group: no driver of mediated devices has it, or the kernel "
                  "has VFIO without groups",
                  dev->name);
    else
        log_error("%s is in no IOMMU group: switch the IOMMU on in the firmware and on the "
                  "kernel's command line (intel_iommu=on, or amd_iommu=on); a machine that has "
                  "none could serve it only unsafely, in VFIO's no-IOMMU mode",
                  dev->name);
    return -ENXIO;
}

/* A text file of one line. */
static int read_line(struct host *host, const char *path, char *line, size_t size)
{
    int fd = host_open(host, path, O_RDONLY);
    ssize_t n;

    if (fd < 0)
        return fd;
    n = host_pread(host, fd, line, size - 1, 0);
    host_close(host, &fd);
    if (n < 0)
        return (int)n;
    line[n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return 0;
}

/* A mediated device may be of any kind, which its type names. */
static int check_api(struct host *host, const char *directory, const struct sysfs_device *dev)
{
    char path[SYSFS_PATH_SIZE + 32], api[64];
    int ret;

    snprintf(path, sizeof(path), "%s/mdev_type/device_api", directory);
    ret = read_line(host, path, api, sizeof(api));
    if (ret) {
        log_error("can't read %s: %s", path, strerror(-ret));
        return ret;
    }
    if (!strcmp(api, "vfio-pci") || !strcmp(api, "vfio-ccw"))
        return 0;
    if (!strcmp(api, "vfio-ap"))
        log_error("%s can't be served: %s", dev->name, ap_needs_kvm);
    else
        log_error("%s can't be served: nobody here knows its API, %s", dev->name, api);
    return -ENOTSUP;
}

/* Each bus has one of that name; those for single kinds of devices have others. */
static bool has_vfio_driver(const struct sysfs_device *dev)
{
    char general[sizeof("vfio-") + SYSFS_BUS_SIZE];

    snprintf(general, sizeof(general), "vfio-%s", dev->bus);
    return dev->mediated ? dev->driver[0] : !strcmp(dev->driver, general) || dev->cdev[0];
}

static int check_driver(const struct sysfs_device *dev)
{
    if (has_vfio_driver(dev))
        return 0;
    if (dev->mediated)
        log_error("%s is bound to no driver", dev->name);
    else if (strcmp(dev->bus, "pci"))
        log_error("%s is bound to %s%s; bind it to VFIO's driver for its bus first: driverctl "
                  "--bus %s set-override %s vfio-%s",
                  dev->name, dev->driver[0] ? "the driver " : "no driver", dev->driver, dev->bus,
                  dev->name, dev->bus);
    else
        log_error("%s is bound to %s%s; bind it to vfio-pci first: modprobe vfio-pci; driverctl "
                  "set-override %s vfio-pci",
                  dev->name, dev->driver[0] ? "the driver " : "no driver", dev->driver, dev->name);
    return -EBUSY;
}

int sysfs_find_device(struct host *host, const char *text, struct sysfs_device *out)
{
    char directory[SYSFS_PATH_SIZE], group[32];
    int ret;

    *out = (struct sysfs_device){0};
    ret = locate(host, text, out, directory, sizeof(directory));
    if (ret)
        return ret;
    ret = read_link_name(host, directory, "iommu_group", group, sizeof(group));
    if (ret == -ENOENT)
        return explain_no_group(out);
    if (!ret)
        ret = parse_group(group, &out->group);
    if (!ret)
        ret = read_driver(host, directory, out);
    if (ret) {
        log_error("can't read the IOMMU group and driver of %s from sysfs: %s", out->name,
                  strerror(-ret));
        return ret;
    }
    read_cdev(host, directory, out);
    ret = check_driver(out);
    if (!ret && out->mediated)
        return check_api(host, directory, out);
    return ret ? ret : read_noiommu(host, out);
}

/* Drivers that do no DMA of their own: they leave the group's DMA ownership alone. */
static bool driver_lets_vfio(const char *driver)
{
    static const char *const harmless[] = {"", "vfio-pci", "pci-stub", "pcieport"};

    for (size_t i = 0; i < ARRAY_SIZE(harmless); i++) {
        if (!strcmp(driver, harmless[i]))
            return true;
    }
    return false;
}

struct blocker_search {
    struct host *host;
    const char *directory;
    struct sysfs_device *found;
};

static int check_sibling(const char *name, void *arg)
{
    struct blocker_search *search = arg;
    struct sysfs_device *found = search->found;
    char path[SYSFS_PATH_SIZE];

    snprintf(path, sizeof(path), "%s/%s", search->directory, name);
    snprintf(found->name, sizeof(found->name), "%s", name);
    if (read_driver(search->host, path, found) || driver_lets_vfio(found->driver))
        return 0;
    read_cdev(search->host, path, found);
    return !found->cdev[0];
}

int sysfs_find_blocker(struct host *host, int group, struct sysfs_device *out)
{
    char directory[64];
    struct blocker_search search = {.host = host, .directory = directory, .found = out};

    out->group = group;
    snprintf(directory, sizeof(directory), "/sys/kernel/iommu_groups/%d/devices", group);
    return host_list(host, directory, check_sibling, &search) > 0 ? 0 : -ENOENT;
}
