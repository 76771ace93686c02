/*
 * A display (VFIO_DEVICE_QUERY_GFX_PLANE, GET_GFX_DMABUF): one plane of 128 by 128 pixels of 32
 * bits, the RAM of a BAR, that is told both as a region and as a dma-buf. The region is one that
 * GET_INFO does not count, as mdpy's. The dma-buf is a memfd, a copy of the picture as it is then:
 * a descriptor of the process, which anybody may map.
 *
 * With the device's lock held.
 */
#pragma once

struct sim_device;

enum {
    SIM_GFX_WIDTH = 128,
    SIM_GFX_HEIGHT = 128,
    SIM_GFX_SIZE = SIM_GFX_WIDTH * SIM_GFX_HEIGHT * 4,
    SIM_GFX_REGION = 16,
    SIM_GFX_DMABUF_ID = 7,
};

int sim_gfx_query_plane(struct sim_device *dev, void *arg);
/* A descriptor. */
int sim_gfx_get_dmabuf(struct sim_device *dev, void *arg);
