/*
 * The capabilities are known by one table, which both directions use: what is a number and where
 * it is kept in struct version_caps. The keys that are no plain numbers (migration, vfio_userd,
 * twin_socket, write_multiple) have a few lines each.
 *
 * json-c reads; of a key that stands there twice the last counts. What is written needs no
 * escapes and no tree: it is printed.
 */
#include "proto/version.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json_object.h>
#include <json-c/json_tokener.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "proto/limits.h"
#include "proto/wire.h"

/* A key whose value is a number from 1 to INT64_MAX. */
struct number_key {
    const char *name;
    size_t value;   /* offset of the uint64_t in struct version_caps */
    size_t present; /* and of its bool */
};

#define NUMBER_KEY(name)                                                                           \
    {                                                                                              \
#name, offsetof(struct version_caps, name), offsetof(struct version_caps, has_##name)      \
    }

static const struct number_key number_keys[] = {
    NUMBER_KEY(max_msg_fds),
    NUMBER_KEY(max_data_xfer_size),
    NUMBER_KEY(max_dma_maps),
    NUMBER_KEY(pgsizes),
};

struct version_caps version_defaults(void)
{
    return (struct version_caps){
        .major = LIMIT_VERSION_MAJOR,
        .minor = LIMIT_VERSION_MINOR,
        .max_msg_fds = 1,
        .max_data_xfer_size = 1 << 20,
        .max_dma_maps = 65535,
        .pgsizes = 4096,
        .migration_pgsize = 4096,
        .migration_max_bitmap_size = 256 << 20,
    };
}

static void put_object(struct json_object **o)
{
    json_object_put(*o);
}

static void free_tokener(struct json_tokener **t)
{
    if (*t)
        json_tokener_free(*t);
}

static int refuse_type(const char *key, const char *type)
{
    return log_peer_refusal(EINVAL, "VERSION: \"%s\" is not %s", key, type);
}

/* *value: left alone if the key is not there. */
static int parse_object(struct json_object *parent, const char *key, struct json_object **value)
{
    struct json_object *o;

    if (!json_object_object_get_ex(parent, key, &o))
        return 0;
    if (!json_object_is_type(o, json_type_object))
        return refuse_type(key, "an object");
    *value = o;
    return 0;
}

static int parse_bool(struct json_object *parent, const char *key, bool *value, bool *present)
{
    struct json_object *o;

    *present = json_object_object_get_ex(parent, key, &o);
    if (!*present)
        return 0;
    if (!json_object_is_type(o, json_type_boolean))
        return refuse_type(key, "a boolean");
    *value = json_object_get_boolean(o);
    return 0;
}

static int parse_number(struct json_object *parent, const char *key, uint64_t *value, bool *present)
{
    struct json_object *o;
    uint64_t v;

    *present = json_object_object_get_ex(parent, key, &o);
    if (!*present)
        return 0;
    if (!json_object_is_type(o, json_type_int))
        return refuse_type(key, "an integer");
    v = json_object_get_uint64(o); /* 0 for what is negative */
    if (!v || v > INT64_MAX)
        return log_peer_refusal(EINVAL, "VERSION: \"%s\" is not from 1 to %" PRId64, key,
                                INT64_MAX);
    *value = v;
    return 0;
}

static int parse_migration(struct json_object *caps, struct version_caps *out)
{
    struct json_object *migration = NULL;
    bool has_pgsize;
    int r;

    r = parse_object(caps, "migration", &migration);
    if (r < 0 || !migration)
        return r;
    out->has_migration = true;
    r = parse_number(migration, "pgsize", &out->migration_pgsize, &has_pgsize);
    if (r < 0)
        return r;
    return parse_number(migration, "max_bitmap_size", &out->migration_max_bitmap_size,
                        &out->has_migration_max_bitmap_size);
}

/* Our own: {"vfio_userd": {"extensions": VERSION}}. */
static int parse_extension(struct json_object *caps, struct version_caps *out)
{
    struct json_object *ours = NULL;
    int r = parse_object(caps, "vfio_userd", &ours);

    if (r < 0 || !ours)
        return r;
    return parse_number(ours, "extensions", &out->extensions, &out->has_extensions);
}

static int parse_twin_socket(struct json_object *caps, struct version_caps *out)
{
    struct json_object *twin = NULL;
    bool has_supported;
    int r;

    r = parse_object(caps, "twin_socket", &twin);
    if (r < 0 || !twin)
        return r;
    out->has_twin_socket = true;
    return parse_bool(twin, "supported", &out->twin_socket, &has_supported);
}

static int parse_capabilities(struct json_object *caps, struct version_caps *out)
{
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(number_keys); i++) {
        const struct number_key *key = &number_keys[i];

        r = parse_number(caps, key->name, (uint64_t *)((char *)out + key->value),
                         (bool *)((char *)out + key->present));
        if (r < 0)
            return r;
    }
    r = parse_migration(caps, out);
    if (r < 0)
        return r;
    r = parse_extension(caps, out);
    if (r < 0)
        return r;
    r = parse_twin_socket(caps, out);
    if (r < 0)
        return r;
    return parse_bool(caps, "write_multiple", &out->write_multiple, &out->has_write_multiple);
}

/* text: with its NUL. *root: the caller's to put. */
static int parse_json(const char *text, size_t len, struct json_object **root)
{
    cleanup_(free_tokener) struct json_tokener *tok = json_tokener_new_ex(LIMIT_JSON_DEPTH);
    enum json_tokener_error err;

    if (!tok)
        return -ENOMEM;
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    *root = json_tokener_parse_ex(tok, text, (int)len);
    err = json_tokener_get_error(tok);
    if (err != json_tokener_success)
        return log_peer_refusal(EINVAL, "VERSION: the version data is not JSON: %s",
                                json_tokener_error_desc(err));
    if (!json_object_is_type(*root, json_type_object))
        return refuse_type("version data", "an object");
    return 0;
}

static int parse_text(const char *text, size_t len, struct version_caps *out)
{
    cleanup_(put_object) struct json_object *root = NULL;
    struct json_object *caps = NULL;
    int r;

    if (len > LIMIT_VERSION_DATA)
        return log_peer_refusal(EINVAL, "VERSION: version data of %zu bytes, at most %d", len,
                                LIMIT_VERSION_DATA);
    if (memchr(text, '\0', len) != text + len - 1)
        return log_peer_refusal(EINVAL, "VERSION: the version data does not end with its only NUL");
    r = parse_json(text, len, &root);
    if (r < 0)
        return r;
    out->has_json = true;
    r = parse_object(root, "capabilities", &caps);
    if (r < 0 || !caps)
        return r;
    out->has_capabilities = true;
    return parse_capabilities(caps, out);
}

int version_parse(const void *payload, size_t len, struct version_caps *out)
{
    struct vfio_user_version fixed;
    const char *text = (const char *)payload + sizeof(fixed);
    size_t text_len;

    if (len < sizeof(fixed))
        return log_peer_refusal(EINVAL, "VERSION: payload of %zu bytes", len);
    memcpy(&fixed, payload, sizeof(fixed));
    *out = version_defaults();
    out->major = fixed.major;
    out->minor = fixed.minor;
    out->payload_len = len;
    if (fixed.major != LIMIT_VERSION_MAJOR)
        return log_peer_refusal(EPROTONOSUPPORT, "VERSION: %u.%u is not supported", fixed.major,
                                fixed.minor);
    text_len = len - sizeof(fixed);
    if (!text_len || (text_len == 1 && !*text))
        return 0;
    return parse_text(text, text_len, out);
}

/* Prints a comma in front of each key but the first. */
static void print_key(FILE *f, const char **separator, const char *key)
{
    fprintf(f, "%s\"%s\":", *separator, key);
    *separator = ",";
}

static void print_migration(FILE *f, const struct version_caps *caps)
{
    fprintf(f, "{\"pgsize\":%" PRIu64, caps->migration_pgsize);
    if (caps->has_migration_max_bitmap_size)
        fprintf(f, ",\"max_bitmap_size\":%" PRIu64, caps->migration_max_bitmap_size);
    fputc('}', f);
}

static const char *bool_text(bool value)
{
    return value ? "true" : "false";
}

static void print_capabilities(FILE *f, const struct version_caps *caps)
{
    const char *separator = "";

    fputc('{', f);
    for (size_t i = 0; i < ARRAY_SIZE(number_keys); i++) {
        const struct number_key *key = &number_keys[i];

        if (!*(const bool *)((const char *)caps + key->present))
            continue;
        print_key(f, &separator, key->name);
        fprintf(f, "%" PRIu64, *(const uint64_t *)((const char *)caps + key->value));
    }
    if (caps->has_migration) {
        print_key(f, &separator, "migration");
        print_migration(f, caps);
    }
    if (caps->has_extensions) {
        print_key(f, &separator, "vfio_userd");
        fprintf(f, "{\"extensions\":%" PRIu64 "}", caps->extensions);
    }
    if (caps->has_twin_socket) {
        print_key(f, &separator, "twin_socket");
        fprintf(f, "{\"supported\":%s}", bool_text(caps->twin_socket));
    }
    if (caps->has_write_multiple) {
        print_key(f, &separator, "write_multiple");
        fputs(bool_text(caps->write_multiple), f);
    }
    fputc('}', f);
}

static void print_payload(FILE *f, const struct version_caps *caps)
{
    const struct vfio_user_version fixed = {.major = caps->major, .minor = caps->minor};

    fwrite(&fixed, sizeof(fixed), 1, f);
    if (!caps->has_json)
        return;
    fputc('{', f);
    if (caps->has_capabilities) {
        fputs("\"capabilities\":", f);
        print_capabilities(f, caps);
    }
    fputc('}', f);
    fputc('\0', f);
}

/* Closes a memory stream. Its text may be incomplete only for want of memory. */
static int finish(FILE *f)
{
    bool failed = ferror(f);

    return fclose(f) || failed ? -ENOMEM : 0;
}

int version_propose(const struct version_caps *caps, void **payload, size_t *len)
{
    cleanup_free_ char *bytes = NULL;
    FILE *f = open_memstream(&bytes, len);
    int r;

    if (!f)
        return -ENOMEM;
    print_payload(f, caps);
    r = finish(f);
    if (r < 0)
        return r;
    *payload = steal_ptr(bytes);
    return 0;
}

/*
 * A client takes pgsizes as what it may use, so the sizes that both know are told. Ours if there
 * are none, and the client decides. JSON readers keep numbers in 63 bits, QEMU ends the session
 * on sizes under 4 KiB.
 */
static uint64_t answer_pgsizes(uint64_t proposed, uint64_t offered)
{
    const uint64_t ours = offered & INT64_MAX & ~UINT64_C(4095);

    return ours & proposed ? ours & proposed : ours;
}

static struct version_caps answer_to(const struct version_caps *proposed,
                                     const struct version_offer *offer)
{
    struct version_caps answer = *proposed; /* the keys are the proposed ones */

    answer.minor = MIN(proposed->minor, (uint16_t)LIMIT_VERSION_MINOR);
    answer.max_msg_fds = LIMIT_MSG_FDS;
    answer.max_data_xfer_size = LIMIT_DATA_XFER;
    answer.max_dma_maps = MIN(proposed->max_dma_maps, offer->max_dma_maps);
    answer.pgsizes = answer_pgsizes(proposed->pgsizes, offer->pgsizes);
    answer.has_migration = proposed->has_migration && offer->migration;
    answer.migration_pgsize = LIMIT_BITMAP_PGSIZE;
    answer.migration_max_bitmap_size =
        MIN(proposed->migration_max_bitmap_size, (uint64_t)LIMIT_BITMAP_SIZE);
    answer.extensions = MIN(proposed->extensions, (uint64_t)LIMIT_EXTENSIONS);
    answer.twin_socket = false;
    return answer;
}

/* Leaves out one more of the keys whose absence says the same; false if there is none. */
static bool shorten(struct version_caps *answer)
{
    if (answer->has_twin_socket) {
        answer->has_twin_socket = false;
        return true;
    }
    if (answer->has_write_multiple && !answer->write_multiple) {
        answer->has_write_multiple = false;
        return true;
    }
    return false;
}

int version_reply(const struct version_caps *proposed, const struct version_offer *offer,
                  void **payload, size_t *len, struct version_caps *agreed)
{
    struct version_caps answer = answer_to(proposed, offer);
    cleanup_free_ void *bytes = NULL;
    int r;

    do {
        free(bytes);
        bytes = NULL;
        r = version_propose(&answer, &bytes, len);
        if (r < 0)
            return r;
    } while (proposed->payload_len && *len > proposed->payload_len && shorten(&answer));
    *payload = steal_ptr(bytes);
    if (agreed)
        *agreed = answer;
    return 0;
}

char *version_capabilities_text(const char *program_version)
{
    cleanup_free_ char *text = NULL;
    struct version_caps caps = version_defaults();
    size_t len;
    FILE *f;

    assert(!strpbrk(program_version, "\"\\"));
    f = open_memstream(&text, &len);
    if (!f)
        return NULL;
    caps.max_msg_fds = LIMIT_MSG_FDS;
    caps.max_data_xfer_size = LIMIT_DATA_XFER;
    caps.max_dma_maps = LIMIT_DMA_MAPS;
    caps.extensions = LIMIT_EXTENSIONS;
    caps.write_multiple = true;
    caps.has_max_msg_fds = caps.has_max_data_xfer_size = caps.has_max_dma_maps =
        caps.has_extensions = caps.has_write_multiple = true;
    fprintf(f,
            "{\"type\":\"vfio-user\",\"version\":\"%s\",\"protocol\":\"%u.%u\",\"capabilities\":",
            program_version, caps.major, caps.minor);
    print_capabilities(f, &caps);
    fputc('}', f);
    return finish(f) < 0 ? NULL : steal_ptr(text);
}
