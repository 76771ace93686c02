#include "client-example/cmd.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"

static const char *const region_names[] = {
    [VFIO_PCI_BAR0_REGION_INDEX] = "bar0", [VFIO_PCI_BAR1_REGION_INDEX] = "bar1",
    [VFIO_PCI_BAR2_REGION_INDEX] = "bar2", [VFIO_PCI_BAR3_REGION_INDEX] = "bar3",
    [VFIO_PCI_BAR4_REGION_INDEX] = "bar4", [VFIO_PCI_BAR5_REGION_INDEX] = "bar5",
    [VFIO_PCI_ROM_REGION_INDEX] = "rom",   [VFIO_PCI_CONFIG_REGION_INDEX] = "config",
    [VFIO_PCI_VGA_REGION_INDEX] = "vga",
};

__attribute__((format(printf, 4, 0))) static void print_line(FILE *out, const char *prefix, int err,
                                                             const char *fmt, va_list ap)
{
    fputs(prefix, out);
    vfprintf(out, fmt, ap);
    if (err)
        fprintf(out, ": %s", strerror(-err));
    fputc('\n', out);
}

int cmd_error(int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_line(stderr, "vfuc: ", err, fmt, ap);
    va_end(ap);
    return CMD_FAILED;
}

int cmd_fail(int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_line(stderr, "FAIL ", err, fmt, ap);
    va_end(ap);
    return CMD_FAILED;
}

int cmd_usage(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_line(stderr, "vfuc: ", 0, fmt, ap);
    va_end(ap);
    return CMD_USAGE;
}

int cmd_ok(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_line(stdout, "ok   ", 0, fmt, ap);
    va_end(ap);
    return CMD_OK;
}

int cmd_skip(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_line(stdout, "skip ", 0, fmt, ap);
    va_end(ap);
    return CMD_OK;
}

int cmd_connect(const struct cmd_target *target, struct vfuc **c)
{
    int ret = vfuc_open(c, target->socket, NULL);

    if (ret)
        return cmd_error(ret, "opening a session on %s", target->socket);
    vfuc_set_timeout(*c, target->timeout_ms);
    return CMD_OK;
}

int cmd_parse_number(const char *text, uint64_t *value)
{
    char *end;

    /* strtoull() would take a sign and blanks. */
    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    *value = strtoull(text, &end, 0);
    return errno || *end ? -EINVAL : 0;
}

int cmd_parse_region(const char *text, uint32_t *index)
{
    uint64_t value;

    for (uint32_t i = 0; i < ARRAY_SIZE(region_names); i++) {
        if (!strcmp(text, region_names[i])) {
            *index = i;
            return 0;
        }
    }
    if (cmd_parse_number(text, &value) || value > UINT32_MAX)
        return -EINVAL;
    *index = (uint32_t)value;
    return 0;
}

const char *cmd_region_name(uint32_t index)
{
    return index < ARRAY_SIZE(region_names) ? region_names[index] : "device";
}

int cmd_read_config16(struct vfuc *c, uint64_t offset, uint16_t *value)
{
    int ret = vfuc_region_read(c, VFIO_PCI_CONFIG_REGION_INDEX, offset, value, sizeof(*value));

    *value = le16toh(*value);
    return ret;
}

int cmd_update_command(struct vfuc *c, uint16_t set, uint16_t clear)
{
    uint16_t old, new, now;
    int ret = cmd_read_config16(c, PCI_COMMAND, &old);

    if (ret)
        return ret;
    new = htole16((uint16_t)((old & ~clear) | set));
    ret = vfuc_region_write(c, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &new, sizeof(new));
    if (!ret)
        ret = cmd_read_config16(c, PCI_COMMAND, &now);
    if (ret)
        return ret;
    return (now & (set | clear)) == set ? 0 : -EIO;
}
