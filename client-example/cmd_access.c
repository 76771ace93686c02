/* vfuc read and vfuc write: a region's bytes. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/cmd.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    DEFAULT_WIDTH = 4,
    MAX_BYTES = 1 << 30, /* what is held in memory at a time */
};

static void fclosep(FILE **file)
{
    if (*file)
        fclose(*file);
}

static int parse_place(char **argv, uint32_t *region, uint64_t *offset)
{
    if (cmd_parse_region(argv[0], region))
        return cmd_usage("\"%s\" is no region", argv[0]);
    if (cmd_parse_number(argv[1], offset))
        return cmd_usage("\"%s\" is no offset", argv[1]);
    return CMD_OK;
}

/* Sixteen bytes a line, as hexdump -C has them. */
static void print_line(uint64_t offset, const uint8_t *bytes, size_t n)
{
    printf("%08" PRIx64 " ", offset);
    for (size_t i = 0; i < 16; i++) {
        if (i % 8 == 0)
            putchar(' ');
        if (i < n)
            printf("%02x ", bytes[i]);
        else
            printf("   ");
    }
    printf(" |");
    for (size_t i = 0; i < n; i++)
        putchar(bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : '.');
    printf("|\n");
}

static int save(const char *path, const uint8_t *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");
    bool written;

    if (!file)
        return cmd_error(-errno, "opening %s", path);
    written = fwrite(bytes, 1, n, file) == n;
    if (fclose(file) || !written)
        return cmd_error(-errno, "writing %s", path);
    return CMD_OK;
}

int cmd_read(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    cleanup_free_ uint8_t *bytes = NULL;
    uint64_t offset = 0, count;
    uint32_t region = 0;
    int ret;

    if (argc < 3 || argc > 4)
        return cmd_usage("read: REGION OFFSET COUNT [FILE]");
    ret = parse_place(argv, &region, &offset);
    if (ret)
        return ret;
    if (cmd_parse_number(argv[2], &count) || !count || count > MAX_BYTES)
        return cmd_usage("\"%s\" is no number of bytes from 1 to %d", argv[2], MAX_BYTES);
    bytes = malloc(count);
    if (!bytes)
        return cmd_error(-ENOMEM, "reading %" PRIu64 " bytes", count);
    ret = cmd_connect(target, &c);
    if (ret)
        return ret;
    ret = vfuc_region_read_all(c, region, offset, bytes, count);
    if (ret)
        return cmd_error(ret, "reading %" PRIu64 " bytes of region %s at 0x%" PRIx64, count,
                         argv[0], offset);
    if (argc == 4)
        return save(argv[3], bytes, count);
    for (size_t i = 0; i < count; i += 16)
        print_line(offset + i, bytes + i, MIN(count - i, (size_t)16));
    return CMD_OK;
}

int cmd_parse_value(const char *text, uint8_t bytes[8], size_t *n)
{
    const char *colon = strchr(text, ':');
    uint64_t value, width = DEFAULT_WIDTH;
    cleanup_free_ char *number = colon ? strndup(text, (size_t)(colon - text)) : strdup(text);

    if (!number)
        return cmd_error(-ENOMEM, "reading %s", text);
    if (cmd_parse_number(number, &value) || (colon && cmd_parse_number(colon + 1, &width)))
        return cmd_usage("\"%s\" is no VALUE[:WIDTH]", text);
    if (!is_pow2(width) || width > 8)
        return cmd_usage("a width is 1, 2, 4 or 8, not %" PRIu64, width);
    if (width < 8 && value >> (8 * width))
        return cmd_usage("0x%" PRIx64 " does not fit in %" PRIu64 " bytes", value, width);
    for (size_t i = 0; i < width; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    *n = width;
    return CMD_OK;
}

static int load(const char *path, uint8_t **bytes, size_t *n)
{
    cleanup_(fclosep) FILE *file = fopen(path, "rb");
    long size;

    if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0)
        return cmd_error(-errno, "opening %s", path);
    if (!size || size > MAX_BYTES)
        return cmd_error(-EFBIG, "%s has %ld bytes, 1 to %d can be written", path, size, MAX_BYTES);
    rewind(file);
    *n = (size_t)size;
    *bytes = malloc(*n);
    if (!*bytes || fread(*bytes, 1, *n, file) != *n)
        return cmd_error(*bytes ? -EIO : -ENOMEM, "reading %s", path);
    return CMD_OK;
}

int cmd_write(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    cleanup_free_ uint8_t *loaded = NULL;
    uint8_t value[8];
    uint64_t offset = 0;
    uint32_t region = 0;
    size_t n = 0;
    int ret;

    if (argc != 3 && !(argc == 4 && !strcmp(argv[2], "--file")))
        return cmd_usage("write: REGION OFFSET VALUE[:WIDTH] | REGION OFFSET --file FILE");
    ret = parse_place(argv, &region, &offset);
    if (!ret)
        ret = argc == 4 ? load(argv[3], &loaded, &n) : cmd_parse_value(argv[2], value, &n);
    if (!ret)
        ret = cmd_connect(target, &c);
    if (ret)
        return ret;
    ret = vfuc_region_write_all(c, region, offset, loaded ? loaded : value, n);
    if (ret)
        return cmd_error(ret, "writing %zu bytes of region %s at 0x%" PRIx64, n, argv[0], offset);
    return CMD_OK;
}
