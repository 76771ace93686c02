#include "bridge/sysfs.h"

#include <errno.h>
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

/* The last component of the target of a link in the device's directory. */
static int read_link_name(struct host *host, const char *bdf, const char *link, char *name,
                          size_t size)
{
    char path[128], target[256];
    const char *last;
    ssize_t n;

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, link);
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

static int read_driver(struct host *host, struct sysfs_device *dev)
{
    int ret = read_link_name(host, dev->name, "driver", dev->driver, sizeof(dev->driver));

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

static int explain_missing_device(struct host *host, const char *bdf)
{
    char path[64];
    int ret;

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", bdf);
    ret = host_list(host, path, ignore_entry, NULL);
    if (ret > 0)
        return 0;
    log_error("no PCI device %s on this machine; 'lspci -D' lists the ones there are", bdf);
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

/* A kernel without VFIO's device files has no such directory. */
static void read_cdev(struct host *host, struct sysfs_device *dev)
{
    char path[128];

    dev->cdev[0] = '\0';
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", dev->name);
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

int sysfs_find_device(struct host *host, const char *bdf, struct sysfs_device *out)
{
    char group[32];
    int ret;

    ret = explain_missing_device(host, bdf);
    if (ret)
        return ret;
    snprintf(out->name, sizeof(out->name), "%s", bdf);
    out->vf_token[0] = '\0';
    ret = read_link_name(host, bdf, "iommu_group", group, sizeof(group));
    if (ret == -ENOENT) {
        log_error("%s is in no IOMMU group: switch the IOMMU on in the firmware and on the "
                  "kernel's command line (intel_iommu=on, or amd_iommu=on); a machine that has "
                  "none could serve it only unsafely, in VFIO's no-IOMMU mode",
                  bdf);
        return -ENXIO;
    }
    if (!ret)
        ret = parse_group(group, &out->group);
    if (!ret)
        ret = read_driver(host, out);
    if (ret) {
        log_error("can't read the IOMMU group and driver of %s from sysfs: %s", bdf,
                  strerror(-ret));
        return ret;
    }
    if (strcmp(out->driver, "vfio-pci")) {
        log_error("%s is bound to %s%s; bind it to vfio-pci first: modprobe vfio-pci; driverctl "
                  "set-override %s vfio-pci",
                  bdf, out->driver[0] ? "the driver " : "no driver", out->driver, bdf);
        return -EBUSY;
    }
    read_cdev(host, out);
    return read_noiommu(host, out);
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
    struct sysfs_device *found;
};

static int check_sibling(const char *name, void *arg)
{
    struct blocker_search *search = arg;

    snprintf(search->found->name, sizeof(search->found->name), "%s", name);
    return !read_driver(search->host, search->found) && !driver_lets_vfio(search->found->driver);
}

int sysfs_find_blocker(struct host *host, int group, struct sysfs_device *out)
{
    struct blocker_search search = {.host = host, .found = out};
    char path[64];

    out->group = group;
    snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%d/devices", group);
    return host_list(host, path, check_sibling, &search) > 0 ? 0 : -ENOENT;
}
