/*
 * The handlers, a file a subject: each translates one message to the bridge's terms and back.
 * They are the only code that knows both. See struct request for the contract; the comments tell
 * what a -errno stands for beyond what validate.h and the bridge's headers say.
 */
#pragma once

#include "server/dispatch.h"

/* handle_device.c */
int handle_device_get_info(struct session *s, struct request *req);
int handle_device_reset(struct session *s, struct request *req);

/* handle_info.c */
int handle_device_info(struct session *s, struct request *req);
int handle_iommu_info(struct session *s, struct request *req);

/* handle_hot_reset.c; without a reset of the whole bus or slot both are ENOTTY */
int handle_hot_reset_info(struct session *s, struct request *req);
int handle_hot_reset(struct session *s, struct request *req);

/* handle_region.c */
int handle_region_info(struct session *s, struct request *req);
int handle_region_read(struct session *s, struct request *req);
int handle_region_write(struct session *s, struct request *req);
/* The same two of a device that is not there any more; they use no session. */
int handle_region_read_gone(struct session *s, struct request *req);
int handle_region_write_gone(struct session *s, struct request *req);
/* Entries are carried out in order up to the first that fails; the reply counts those before it. */
int handle_region_write_multi(struct session *s, struct request *req);

/* handle_io_fds.c */
int handle_region_io_fds(struct session *s, struct request *req);

/* handle_irq.c */
int handle_irq_info(struct session *s, struct request *req);
int handle_set_irqs(struct session *s, struct request *req);

/* handle_dma.c */
int handle_dma_map(struct session *s, struct request *req);
int handle_dma_unmap(struct session *s, struct request *req);
/* Of a device that is not there any more; uses no session. */
int handle_dma_unmap_gone(struct session *s, struct request *req);

/* handle_feature.c */
int handle_device_feature(struct session *s, struct request *req);

/* handle_migration.c */
int handle_mig_data_read(struct session *s, struct request *req);
int handle_mig_data_write(struct session *s, struct request *req);
/* Of the extension. */
int handle_precopy_info(struct session *s, struct request *req);

/* handle_gfx.c */
int handle_query_gfx_plane(struct session *s, struct request *req);
int handle_get_gfx_dmabuf(struct session *s, struct request *req);

/* handle_eeh.c; ENOTTY without EEH */
int handle_eeh_op(struct session *s, struct request *req);
