/*
 * The features of DEVICE_FEATURE, each of which handle_feature.c has in its table, and the files
 * that carry them out.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "server/dispatch.h"

/* A GET or a SET of a feature. */
struct feature_call {
    struct session *session;
    struct request *request;
    const uint8_t *data; /* of the request, unaligned */
    size_t len;
    size_t room;    /* for data in the reply: what the client takes */
    uint32_t flags; /* of the request */
};

/*
 * Room for len bytes of data in the reply, whose header is filled in. *data: valid until the
 * reply. -EINVAL: the client does not take that much; -ENOMEM. What would be lost with a reply
 * that can't be sent is taken from the kernel after this.
 */
int feature_reply(struct feature_call *call, size_t len, void **data);

/* Copies the request's data out. -EINVAL: there are fewer than len bytes. */
int feature_take(const struct feature_call *call, void *out, size_t len);

/*
 * A feature's functions. Probe comes before each of the others. GET: makes the reply. SET: the
 * reply is the request's data, as the specification wants it, unless it makes one. Probe: 0, or
 * -ENOTTY if the device has no such feature.
 */

/* handle_migration.c */
int migration_feature_probe(struct session *s);
int migration_feature_flags(struct feature_call *call);
int migration_feature_get_state(struct feature_call *call);
int migration_feature_set_state(struct feature_call *call);
int migration_feature_data_size(struct feature_call *call);

/* handle_dirty.c */
int dirty_feature_probe(struct session *s);
int dirty_feature_start(struct feature_call *call);
int dirty_feature_stop(struct feature_call *call);
int dirty_feature_report(struct feature_call *call);

/* handle_power.c */
int power_feature_probe_entry(struct session *s);
int power_feature_probe_wakeup(struct session *s);
int power_feature_probe_exit(struct session *s);
int power_feature_enter(struct feature_call *call);
/* The eventfd is the message's descriptor; the data's field is not looked at. */
int power_feature_enter_with_wakeup(struct feature_call *call);
int power_feature_exit(struct feature_call *call);
