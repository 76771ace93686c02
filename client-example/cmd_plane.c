/*
 * vfuc plane: the picture of a device that has a display, after registers were written in the same
 * session, as a guest's driver does that sets the mode.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client-example/cmd.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    PRIMARY = 1, /* DRM_PLANE_TYPE_PRIMARY */
};

/* The kernel's sample mbochs answers ENOMEM to the first query of a mode, and well to the next. */
static int query(struct vfuc *c, uint32_t type, struct vfio_userd_gfx_plane *plane)
{
    int ret = vfuc_gfx_plane(c, VFIO_USERD_GFX_PROBE | type, PRIMARY, plane);

    if (!ret)
        ret = vfuc_gfx_plane(c, type, PRIMARY, plane);
    if (ret == -ENOMEM)
        ret = vfuc_gfx_plane(c, type, PRIMARY, plane);
    if (!ret)
        printf("plane: %u x %u, format %.4s, stride %u, %u bytes\n", plane->width, plane->height,
               (const char *)&plane->drm_format, plane->stride, plane->size);
    return ret;
}

static void print_first(uint32_t pixel)
{
    printf(", which begins with 0x%08" PRIx32 "\n", pixel);
}

static int show_region(struct vfuc *c, const struct vfio_userd_gfx_plane *plane)
{
    uint32_t pixel;
    int ret = vfuc_region_read(c, plane->source, 0, &pixel, sizeof(pixel));

    if (ret)
        return cmd_error(ret, "reading region %u", plane->source);
    printf("  in region %u", plane->source);
    print_first(pixel);
    return CMD_OK;
}

/* Not every driver's can be mapped: mbochs' are made for reading alone, and can't. */
static int show_dmabuf(struct vfuc *c, const struct vfio_userd_gfx_plane *plane)
{
    cleanup_close_ int fd = -1;
    void *picture;
    off_t size;
    int ret = vfuc_gfx_dmabuf(c, plane->source, &fd);

    if (ret)
        return cmd_error(ret, "getting the dma-buf");
    size = lseek(fd, 0, SEEK_END);
    if (size < (off_t)plane->size)
        return cmd_error(size < 0 ? -errno : 0, "the dma-buf does not have the picture's size");
    printf("  in a dma-buf of %jd bytes", (intmax_t)size);
    picture = mmap(NULL, plane->size, PROT_READ, MAP_SHARED, fd, 0);
    if (picture == MAP_FAILED) {
        printf("\n");
        return CMD_OK;
    }
    print_first(*(const uint32_t *)picture);
    munmap(picture, plane->size);
    return CMD_OK;
}

static int show(struct vfuc *c, const struct vfio_userd_gfx_plane *plane)
{
    if (!plane->drm_format) {
        printf("  off\n");
        return CMD_OK;
    }
    return plane->flags & VFIO_USERD_GFX_REGION ? show_region(c, plane) : show_dmabuf(c, plane);
}

struct write {
    uint32_t region;
    uint64_t offset;
    uint8_t bytes[8];
    size_t len;
};

/* REGION OFFSET VALUE[:WIDTH] */
static int parse_write(char **argv, struct write *w)
{
    if (cmd_parse_region(argv[0], &w->region) || cmd_parse_number(argv[1], &w->offset))
        return cmd_usage("plane: %s %s: no REGION OFFSET", argv[0], argv[1]);
    return cmd_parse_value(argv[2], w->bytes, &w->len);
}

/* c: NULL to look at the arguments alone. */
static int write_all(struct vfuc *c, int argc, char **argv)
{
    if (argc % 3)
        return cmd_usage("plane: [REGION OFFSET VALUE[:WIDTH]]...");
    for (int i = 0; i < argc; i += 3) {
        struct write w;
        int ret = parse_write(argv + i, &w);

        if (ret)
            return ret;
        if (c)
            ret = vfuc_region_write(c, w.region, w.offset, w.bytes, (uint32_t)w.len);
        if (ret)
            return cmd_error(ret, "writing %s %s", argv[i], argv[i + 1]);
    }
    return CMD_OK;
}

int cmd_plane(const struct cmd_target *target, int argc, char **argv)
{
    static const uint32_t types[] = {VFIO_USERD_GFX_REGION, VFIO_USERD_GFX_DMABUF};
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    int found = 0, ret = write_all(NULL, argc, argv);

    if (!ret)
        ret = cmd_connect(target, &c);
    if (!ret)
        ret = write_all(c, argc, argv);
    for (size_t i = 0; !ret && i < ARRAY_SIZE(types); i++) {
        struct vfio_userd_gfx_plane plane;
        int err = query(c, types[i], &plane);

        if (!err) {
            found = 1;
            ret = show(c, &plane);
        } else if (err != -EINVAL) {
            ret = cmd_error(err, "asking for the plane");
        }
    }
    return ret || found ? ret : cmd_error(0, "the device has no plane");
}
