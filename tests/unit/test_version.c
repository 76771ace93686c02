#include "proto/version.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "proto/wire.h"
#include "tests/unit/payload.h"

enum { FIXED = sizeof(struct vfio_user_version) };

/* What type1 says on an IOMMU with pages of 4 KiB, 2 MiB and 1 GiB. */
static const struct version_offer offer = {.pgsizes = 0x40201000, .max_dma_maps = 65535};
static const struct version_offer offer_migration = {
    .pgsizes = 0x40201000, .max_dma_maps = 65535, .migration = true};

/* data: the version data, len bytes of it. */
static struct payload proposal(uint16_t minor, const void *data, size_t len)
{
    const struct vfio_user_version fixed = {0, minor};

    return payload_new(&fixed, sizeof(fixed), data, len);
}

static int parse(const void *data, size_t len, struct version_caps *caps)
{
    struct payload p = proposal(1, data, len);
    int r = version_parse(p.bytes, p.len, caps);

    payload_free(&p);
    return r;
}

static int parse_text(const char *json, struct version_caps *caps)
{
    return parse(json, strlen(json) + 1, caps);
}

/* The reply to a proposal, held against its text; json NULL: no version data either way. */
static void check_reply(const struct version_offer *o, uint16_t minor, const char *json,
                        uint16_t reply_minor, const char *reply_json)
{
    struct payload p = proposal(minor, json, json ? strlen(json) + 1 : 0);
    const size_t expected_len = FIXED + (reply_json ? strlen(reply_json) + 1 : 0);
    struct vfio_user_version fixed;
    struct version_caps caps;
    cleanup_free_ void *reply = NULL;
    size_t len;

    assert_int_equal(version_parse(p.bytes, p.len, &caps), 0);
    assert_int_equal(caps.payload_len, p.len);
    assert_int_equal(version_reply(&caps, o, &reply, &len, NULL), 0);
    memcpy(&fixed, reply, sizeof(fixed));
    assert_int_equal(fixed.major, 0);
    assert_int_equal(fixed.minor, reply_minor);
    if (reply_json)
        assert_string_equal((const char *)reply + FIXED, reply_json);
    assert_int_equal(len, expected_len);
    payload_free(&p);
}

static const char qemu[] =
    "{\"capabilities\": {\"pgsizes\": 4096, \"max_msg_fds\": 16, \"max_dma_maps\": 65535, "
    "\"max_data_xfer_size\": 1048576, \"migration\": {\"max_bitmap_size\": 268435456, "
    "\"pgsize\": 4096}, \"write_multiple\": true}}";

static void test_qemu(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct vfio_user_header) + FIXED + sizeof(qemu), 214);
    check_reply(&offer, 0, qemu, 0,
                "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
                "\"max_dma_maps\":65535,\"pgsizes\":4096,\"write_multiple\":true}}");
    check_reply(&offer_migration, 0, qemu, 0,
                "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
                "\"max_dma_maps\":65535,\"pgsizes\":4096,\"migration\":{\"pgsize\":4096,"
                "\"max_bitmap_size\":1048576},\"write_multiple\":true}}");
}

/* The longest numbers that a host can bring about still fit in QEMU's 214 bytes. */
static void test_qemu_longest_reply(void **state)
{
    const struct version_offer longest = {
        .pgsizes = ~UINT64_C(0x1fff), .max_dma_maps = 65535, .migration = true};
    struct payload p = proposal(0, qemu, sizeof(qemu));
    struct version_caps caps;
    cleanup_free_ void *reply = NULL;
    size_t len;

    (void)state;
    assert_int_equal(version_parse(p.bytes, p.len, &caps), 0);
    assert_int_equal(version_reply(&caps, &longest, &reply, &len, NULL), 0);
    assert_non_null(strstr((char *)reply + FIXED, "\"pgsizes\":9223372036854767616,"));
    assert_non_null(strstr((char *)reply + FIXED, "\"write_multiple\":true"));
    assert_true(len <= p.len);
    payload_free(&p);
}

static void test_rust_vmm(void **state)
{
    const char json[] = "{\"capabilities\":{\"max_msg_fds\":1,\"max_data_xfer_size\":1048576,"
                        "\"migration\":{\"pgsize\":4096}}}";
    /* an earlier release, without the outer key */
    const char flat[] = "{\"max_msg_fds\":1,\"max_data_xfer_size\":1048576,"
                        "\"migration\":{\"pgsize\":4096}}";

    (void)state;
    check_reply(&offer, 1, json, 1,
                "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}");
    check_reply(&offer_migration, 1, json, 1,
                "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
                "\"migration\":{\"pgsize\":4096}}}");
    check_reply(&offer_migration, 0, flat, 0, "{}");
}

static void test_spdk(void **state)
{
    struct version_caps caps;

    (void)state;
    check_reply(&offer, 1, NULL, 1, NULL);
    check_reply(&offer_migration, 1, NULL, 1, NULL);
    assert_int_equal(parse(NULL, 0, &caps), 0);
    assert_false(caps.has_json);
    assert_int_equal(caps.max_msg_fds, 1);
    assert_int_equal(caps.max_data_xfer_size, 1048576);
}

static void test_alioth(void **state)
{
    const char json[] = "{\"capabilities\":{\"max_fds\":32,\"max_data_xfer_size\":1048576}}";

    (void)state;
    check_reply(&offer, 2, json, 1, "{\"capabilities\":{\"max_data_xfer_size\":1048576}}");
}

static void test_libvfio_user(void **state)
{
    const char json[] = "{\"capabilities\":{\"max_msg_fds\":32,\"max_data_xfer_size\":1024}}";
    const char twin[] = "{\"capabilities\":{\"max_msg_fds\":32,\"max_data_xfer_size\":1024,"
                        "\"twin_socket\":{\"supported\":true}}}";

    (void)state;
    check_reply(&offer, 1, json, 1,
                "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}");
    /* 3 bytes longer than its request with "twin_socket" */
    check_reply(&offer, 1, twin, 1,
                "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}");
}

static void test_keys_are_those_proposed(void **state)
{
    (void)state;
    check_reply(&offer_migration, 1, "{}", 1, "{}");
    check_reply(&offer_migration, 1, "{\"other\":1}", 1, "{}");
    check_reply(&offer_migration, 1, "{\"capabilities\":{}}", 1, "{\"capabilities\":{}}");
    check_reply(&offer_migration, 1, "{\"capabilities\":{\"unknown\":[null]}}", 1,
                "{\"capabilities\":{}}");
    check_reply(&offer, 1, "{\"capabilities\":{\"pgsizes\":4096}}", 1,
                "{\"capabilities\":{\"pgsizes\":4096}}");
    check_reply(&offer, 1, "{\"capabilities\":{\"migration\":{}}}", 1, "{\"capabilities\":{}}");
    check_reply(&offer_migration, 1, "{\"capabilities\":{\"migration\":{}}}", 1,
                "{\"capabilities\":{\"migration\":{\"pgsize\":4096}}}");
}

static void test_minor_is_the_smaller(void **state)
{
    (void)state;
    check_reply(&offer, 0, NULL, 0, NULL);
    check_reply(&offer, 1, NULL, 1, NULL);
    check_reply(&offer, 2, NULL, 1, NULL);
    check_reply(&offer, UINT16_MAX, "{}", 1, "{}");
}

static void test_numbers(void **state)
{
    const struct version_offer few = {.pgsizes = 0x40201000, .max_dma_maps = 512};

    (void)state;
    check_reply(&few, 1, "{\"capabilities\":{\"max_dma_maps\":65535}}", 1,
                "{\"capabilities\":{\"max_dma_maps\":512}}");
    check_reply(&few, 1, "{\"capabilities\":{\"max_dma_maps\":511}}", 1,
                "{\"capabilities\":{\"max_dma_maps\":511}}");
    check_reply(&few, 1, "{\"capabilities\":{\"max_msg_fds\":1099511627776}}", 1,
                "{\"capabilities\":{\"max_msg_fds\":16}}");
    check_reply(&few, 1, "{\"capabilities\":{\"max_data_xfer_size\":1099511627776}}", 1,
                "{\"capabilities\":{\"max_data_xfer_size\":1048576}}");
    check_reply(&offer_migration, 1,
                "{\"capabilities\":{\"migration\":{\"pgsize\":65536,\"max_bitmap_size\":4096}}}", 1,
                "{\"capabilities\":{\"migration\":{\"pgsize\":4096,\"max_bitmap_size\":4096}}}");
}

static void test_pgsizes(void **state)
{
    const struct version_offer big = {.pgsizes = 0x10000, .max_dma_maps = 65535};
    const struct version_offer all = {.pgsizes = ~UINT64_C(0), .max_dma_maps = 65535};

    (void)state;
    check_reply(&offer, 1, "{\"capabilities\":{\"pgsizes\":1075843072}}", 1,
                "{\"capabilities\":{\"pgsizes\":1075843072}}");
    check_reply(&offer, 1, "{\"capabilities\":{\"pgsizes\":2101248}}", 1,
                "{\"capabilities\":{\"pgsizes\":2101248}}");
    check_reply(&offer, 1, "{\"capabilities\":{\"pgsizes\":69632}}", 1,
                "{\"capabilities\":{\"pgsizes\":4096}}");
    /* nothing in common: ours */
    check_reply(&big, 1, "{\"capabilities\":{\"pgsizes\":4096}}", 1,
                "{\"capabilities\":{\"pgsizes\":65536}}");
    /* never a bit under 4096, never one that no reader of JSON takes */
    check_reply(&all, 1, "{\"capabilities\":{\"pgsizes\":7168}}", 1,
                "{\"capabilities\":{\"pgsizes\":4096}}");
    check_reply(&all, 1, "{\"capabilities\":{\"pgsizes\":1}}", 1,
                "{\"capabilities\":{\"pgsizes\":9223372036854771712}}");
}

/* A reply that outgrows its request loses what says nothing, twin_socket first. */
static void test_reply_is_shortened(void **state)
{
    (void)state;
    check_reply(&offer, 1, "{\"capabilities\": {\"twin_socket\": {\"supported\": true}}}", 1,
                "{\"capabilities\":{\"twin_socket\":{\"supported\":false}}}");
    check_reply(&offer, 1, "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}", 1,
                "{\"capabilities\":{}}");
    check_reply(&offer, 1, "{\"capabilities\":{\"twin_socket\":{},\"write_multiple\":false}}", 1,
                "{\"capabilities\":{\"write_multiple\":false}}");
    check_reply(&offer, 1, "{\"capabilities\":{\"max_msg_fds\":1,\"write_multiple\":false}}", 1,
                "{\"capabilities\":{\"max_msg_fds\":16}}");
    check_reply(&offer, 1, "{\"capabilities\":{\"max_msg_fds\":11,\"write_multiple\":false}}", 1,
                "{\"capabilities\":{\"max_msg_fds\":16,\"write_multiple\":false}}");
    check_reply(&offer_migration, 1,
                "{\"capabilities\":{\"max_data_xfer_size\":1,\"migration\":{},"
                "\"twin_socket\":{},\"write_multiple\":false}}",
                1,
                "{\"capabilities\":{\"max_data_xfer_size\":1048576,"
                "\"migration\":{\"pgsize\":4096}}}");
}

/* Ours: told only to who asks for it, by the smaller version. */
static void test_extensions(void **state)
{
    struct version_caps caps, agreed;
    cleanup_free_ void *reply = NULL;
    size_t len;

    (void)state;
    check_reply(&offer, 1, "{\"capabilities\":{\"vfio_userd\":{\"extensions\":1}}}", 1,
                "{\"capabilities\":{\"vfio_userd\":{\"extensions\":1}}}");
    check_reply(&offer, 1,
                "{\"capabilities\":{\"vfio_userd\":{\"extensions\":9223372036854775807,"
                "\"more\":[]}}}",
                1, "{\"capabilities\":{\"vfio_userd\":{\"extensions\":1}}}");
    check_reply(&offer, 1, "{\"capabilities\":{\"vfio_userd\":{}}}", 1, "{\"capabilities\":{}}");

    assert_int_equal(parse_text("{\"capabilities\":{\"vfio_userd\":{\"extensions\":7}}}", &caps),
                     0);
    assert_int_equal(caps.extensions, 7);
    assert_int_equal(version_reply(&caps, &offer, &reply, &len, &agreed), 0);
    assert_int_equal(agreed.extensions, 1);
    free(steal_ptr(reply));
    assert_int_equal(parse_text(qemu, &caps), 0);
    assert_int_equal(version_reply(&caps, &offer, &reply, &len, &agreed), 0);
    assert_int_equal(agreed.extensions, 0);
}

/* What says something stays, even if the reply is the longer one. */
static void test_reply_keeps_what_matters(void **state)
{
    (void)state;
    check_reply(&offer, 1, "{\"capabilities\":{\"max_msg_fds\":1}}", 1,
                "{\"capabilities\":{\"max_msg_fds\":16}}");
    check_reply(&offer, 1, "{\"capabilities\":{\"max_msg_fds\":1,\"write_multiple\":true}}", 1,
                "{\"capabilities\":{\"max_msg_fds\":16,\"write_multiple\":true}}");
}

static void test_agreed(void **state)
{
    const struct version_offer few = {.pgsizes = 0x201000, .max_dma_maps = 100};
    struct version_caps caps, agreed;
    cleanup_free_ void *reply = NULL;
    size_t len;

    (void)state;
    assert_int_equal(parse_text(qemu, &caps), 0);
    assert_int_equal(version_reply(&caps, &few, &reply, &len, &agreed), 0);
    assert_int_equal(agreed.major, 0);
    assert_int_equal(agreed.minor, 1);
    assert_int_equal(agreed.max_msg_fds, LIMIT_MSG_FDS);
    assert_int_equal(agreed.max_data_xfer_size, LIMIT_DATA_XFER);
    assert_int_equal(agreed.max_dma_maps, 100);
    assert_int_equal(agreed.pgsizes, 4096);
    assert_true(agreed.write_multiple);
    assert_false(agreed.has_migration);
    assert_false(agreed.twin_socket);
}

/* Limits that the client can't be told hold all the same. */
static void test_agreed_without_json(void **state)
{
    const struct version_offer few = {.pgsizes = 0x201000, .max_dma_maps = 100};
    struct version_caps caps, agreed;
    cleanup_free_ void *reply = NULL;
    size_t len;

    (void)state;
    assert_int_equal(parse(NULL, 0, &caps), 0);
    assert_int_equal(version_reply(&caps, &few, &reply, &len, &agreed), 0);
    assert_int_equal(agreed.max_dma_maps, 100);
    assert_false(agreed.write_multiple);
    assert_false(agreed.has_json);
}

static void test_parsed_values(void **state)
{
    struct version_caps caps;

    (void)state;
    assert_int_equal(parse_text("{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":512,"
                                "\"max_dma_maps\":9,\"pgsizes\":2097152,\"migration\":{\"pgsize\":"
                                "8192,\"max_bitmap_size\":7},\"twin_socket\":{\"supported\":true},"
                                "\"write_multiple\":true}}",
                                &caps),
                     0);
    assert_int_equal(caps.major, 0);
    assert_int_equal(caps.minor, 1);
    assert_true(caps.has_json && caps.has_capabilities);
    assert_true(caps.has_max_msg_fds && caps.has_max_data_xfer_size && caps.has_max_dma_maps);
    assert_true(caps.has_pgsizes && caps.has_migration && caps.has_migration_max_bitmap_size);
    assert_true(caps.has_twin_socket && caps.has_write_multiple);
    assert_int_equal(caps.max_msg_fds, 8);
    assert_int_equal(caps.max_data_xfer_size, 512);
    assert_int_equal(caps.max_dma_maps, 9);
    assert_int_equal(caps.pgsizes, 2097152);
    assert_int_equal(caps.migration_pgsize, 8192);
    assert_int_equal(caps.migration_max_bitmap_size, 7);
    assert_true(caps.twin_socket && caps.write_multiple);
}

static void test_defaults(void **state)
{
    struct version_caps caps = version_defaults(), parsed;

    (void)state;
    assert_int_equal(caps.major, 0);
    assert_int_equal(caps.minor, 1);
    assert_int_equal(caps.max_msg_fds, 1);
    assert_int_equal(caps.max_data_xfer_size, 1048576);
    assert_int_equal(caps.max_dma_maps, 65535);
    assert_int_equal(caps.pgsizes, 4096);
    assert_false(caps.write_multiple || caps.twin_socket || caps.has_json);
    assert_int_equal(parse_text("{\"capabilities\":{}}", &parsed), 0);
    assert_int_equal(parsed.max_msg_fds, caps.max_msg_fds);
    assert_int_equal(parsed.migration_pgsize, 4096);
    assert_int_equal(parsed.migration_max_bitmap_size, 268435456);
    assert_false(parsed.has_max_msg_fds || parsed.has_migration || parsed.has_write_multiple);
}

static void test_accepted_texts(void **state)
{
    const char *const texts[] = {
        "",
        " { } ",
        "{}\n",
        "{\"capabilities\":{\"max_msg_fds\":9223372036854775807}}",
        "{\"capabilities\":{\"x\":-1,\"y\":1.5,\"z\":null,\"max_fds\":\"32\"}}",
        "{\"capabilities\":{\"x\":\"\xc3\xa9\"}}",
        "{\"capabilities\":{\"twin_socket\":{\"fd_index\":0}}}",
        "{\"x\":[[[[[[1]]]]]]}",
    };
    struct version_caps caps;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        assert_int_equal(parse_text(texts[i], &caps), 0);
}

/* Of a repeated key the last counts. */
static void test_duplicate_keys(void **state)
{
    struct version_caps caps;

    (void)state;
    assert_int_equal(parse_text("{\"capabilities\":{\"max_msg_fds\":0,\"max_msg_fds\":5}}", &caps),
                     0);
    assert_int_equal(caps.max_msg_fds, 5);
    assert_int_equal(parse_text("{\"capabilities\":{\"max_msg_fds\":5,\"max_msg_fds\":0}}", &caps),
                     -EINVAL);
    assert_int_equal(
        parse_text("{\"capabilities\":{\"max_msg_fds\":5},\"capabilities\":{}}", &caps), 0);
    assert_int_equal(caps.max_msg_fds, 1);
    assert_false(caps.has_max_msg_fds);
}

static void test_refused_texts(void **state)
{
    const char *const texts[] = {
        " ",
        "{",
        "}",
        "null",
        "1",
        "[]",
        "\"capabilities\"",
        "{}{}",
        "{} x",
        "{}//",
        "{/**/}",
        "{\"capabilities\":{},}",
        "{\"capabilities\"}",
        "{\"capabilities\":{}",
        "{\"capabilities\":null}",
        "{\"capabilities\":[]}",
        "{\"capabilities\":\"\"}",
        "{\"capabilities\":1}",
        "{\"x\":\"\xff\"}",
        "{\"x\":\"\xc3\"}",
        "{\"x\":\"\x80\"}",
        "{\"x\":\"a\nb\xe2\x82\"}",
        "{\"x\":[[[[[[[1]]]]]]]}",
    };
    struct version_caps caps;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        assert_int_equal(parse_text(texts[i], &caps), -EINVAL);
}

static void test_refused_numbers(void **state)
{
    const char *const keys[] = {
        "{\"capabilities\":{\"max_msg_fds\":%s}}",
        "{\"capabilities\":{\"max_data_xfer_size\":%s}}",
        "{\"capabilities\":{\"max_dma_maps\":%s}}",
        "{\"capabilities\":{\"pgsizes\":%s}}",
        "{\"capabilities\":{\"migration\":{\"pgsize\":%s}}}",
        "{\"capabilities\":{\"migration\":{\"max_bitmap_size\":%s}}}",
    };
    const char *const values[] = {
        "0",
        "-0",
        "-1",
        "-9223372036854775808",
        "-99999999999999999999",
        "1.5",
        "16.0",
        "1e3",
        "9223372036854775808",
        "18446744073709551615",
        "null",
        "true",
        "\"1\"",
        "18446744073709551616",
        "99999999999999999999999999",
        "[1]",
        "{}",
        "NaN",
        "Infinity",
        "0x10",
    };
    struct version_caps caps;
    char text[256];

    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
        for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
            const char *at = strstr(keys[k], "%s");

            snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - keys[k]), keys[k], values[v],
                     at + 2);
            assert_int_equal(parse_text(text, &caps), -EINVAL);
        }
    }
}

static void test_refused_types(void **state)
{
    const char *const texts[] = {
        "{\"capabilities\":{\"write_multiple\":1}}",
        "{\"capabilities\":{\"write_multiple\":\"true\"}}",
        "{\"capabilities\":{\"write_multiple\":null}}",
        "{\"capabilities\":{\"write_multiple\":{}}}",
        "{\"capabilities\":{\"migration\":true}}",
        "{\"capabilities\":{\"migration\":null}}",
        "{\"capabilities\":{\"migration\":4096}}",
        "{\"capabilities\":{\"migration\":[]}}",
        "{\"capabilities\":{\"twin_socket\":true}}",
        "{\"capabilities\":{\"twin_socket\":null}}",
        "{\"capabilities\":{\"twin_socket\":{\"supported\":1}}}",
        "{\"capabilities\":{\"twin_socket\":{\"supported\":null}}}",
    };
    struct version_caps caps;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        assert_int_equal(parse_text(texts[i], &caps), -EINVAL);
}

static void test_nul(void **state)
{
    const char none[] = {'{', '}'}, middle[] = "{}\0{}", twice[] = "{}\0", first[] = "\0{}",
               inside[] = "{\"capabilities\0\":{}}";
    struct version_caps caps;

    (void)state;
    assert_int_equal(parse(none, sizeof(none), &caps), -EINVAL);
    assert_int_equal(parse(none, 1, &caps), -EINVAL);
    assert_int_equal(parse(middle, sizeof(middle), &caps), -EINVAL);
    assert_int_equal(parse(twice, sizeof(twice), &caps), -EINVAL);
    assert_int_equal(parse(first, sizeof(first), &caps), -EINVAL);
    assert_int_equal(parse(inside, sizeof(inside), &caps), -EINVAL);
    assert_int_equal(parse("\0", 1, &caps), 0);
    assert_false(caps.has_json);
    assert_int_equal(parse("\0", 2, &caps), -EINVAL);
}

static void test_lengths(void **state)
{
    const size_t mib = 1 << 20;
    cleanup_free_ char *spaces = malloc(mib);
    const uint8_t short_payload[3] = {0};
    struct version_caps caps;

    (void)state;
    assert_non_null(spaces);
    assert_int_equal(version_parse(short_payload, 0, &caps), -EINVAL);
    assert_int_equal(version_parse(short_payload, 3, &caps), -EINVAL);

    memset(spaces, ' ', mib);
    spaces[mib - 1] = '\0';
    assert_int_equal(parse(spaces, mib, &caps), -EINVAL);
    spaces[LIMIT_VERSION_DATA - 1] = '\0';
    assert_int_equal(parse(spaces, LIMIT_VERSION_DATA, &caps), -EINVAL);
    memcpy(spaces, "{}", 2);
    assert_int_equal(parse(spaces, LIMIT_VERSION_DATA, &caps), 0);
    assert_true(caps.has_json);
    spaces[LIMIT_VERSION_DATA - 1] = ' ';
    spaces[LIMIT_VERSION_DATA] = '\0';
    assert_int_equal(parse(spaces, LIMIT_VERSION_DATA + 1, &caps), -EINVAL);
}

static void test_major(void **state)
{
    const struct vfio_user_version one = {1, 0}, most = {UINT16_MAX, 0};
    struct version_caps caps;

    (void)state;
    assert_int_equal(version_parse(&one, sizeof(one), &caps), -EPROTONOSUPPORT);
    assert_int_equal(version_parse(&most, sizeof(most), &caps), -EPROTONOSUPPORT);
}

static void test_propose_parses_again(void **state)
{
    struct version_caps caps = version_defaults(), again;
    cleanup_free_ void *payload = NULL;
    cleanup_free_ void *payload_again = NULL;
    size_t len, len_again;

    (void)state;
    caps.minor = 0;
    caps.max_msg_fds = 8;
    caps.migration_max_bitmap_size = INT64_MAX;
    caps.write_multiple = caps.twin_socket = true;
    caps.has_json = caps.has_capabilities = caps.has_max_msg_fds = caps.has_max_data_xfer_size =
        caps.has_max_dma_maps = caps.has_pgsizes = caps.has_migration =
            caps.has_migration_max_bitmap_size = caps.has_write_multiple = caps.has_twin_socket =
                true;
    assert_int_equal(version_propose(&caps, &payload, &len), 0);
    assert_string_equal((char *)payload + FIXED,
                        "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576,"
                        "\"max_dma_maps\":65535,\"pgsizes\":4096,\"migration\":{\"pgsize\":4096,"
                        "\"max_bitmap_size\":9223372036854775807},\"twin_socket\":{\"supported\":"
                        "true},\"write_multiple\":true}}");
    assert_int_equal(version_parse(payload, len, &again), 0);
    assert_int_equal(again.payload_len, len);
    assert_int_equal(version_propose(&again, &payload_again, &len_again), 0);
    assert_int_equal(len_again, len);
    assert_memory_equal(payload_again, payload, len);
}

static void test_propose_nothing(void **state)
{
    struct version_caps caps = version_defaults();
    void *payload;
    size_t len;

    (void)state;
    assert_int_equal(version_propose(&caps, &payload, &len), 0);
    assert_int_equal(len, FIXED);
    free(payload);
    caps.has_json = true;
    assert_int_equal(version_propose(&caps, &payload, &len), 0);
    assert_int_equal(len, FIXED + 3);
    assert_string_equal((char *)payload + FIXED, "{}");
    free(payload);
}

/* A proposal that came from no message puts no bound on its reply. */
static void test_reply_without_bound(void **state)
{
    struct version_caps caps = version_defaults();
    cleanup_free_ void *reply = NULL;
    size_t len;

    (void)state;
    caps.has_json = caps.has_capabilities = caps.has_twin_socket = true;
    assert_int_equal(version_reply(&caps, &offer, &reply, &len, NULL), 0);
    assert_string_equal((char *)reply + FIXED,
                        "{\"capabilities\":{\"twin_socket\":{\"supported\":false}}}");
}

static void test_capabilities_text(void **state)
{
    cleanup_free_ char *text = version_capabilities_text("1.2.3~rc1");

    (void)state;
    assert_non_null(text);
    assert_string_equal(text,
                        "{\"type\":\"vfio-user\",\"version\":\"1.2.3~rc1\",\"protocol\":\"0.1\","
                        "\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
                        "\"max_dma_maps\":65535,\"vfio_userd\":{\"extensions\":1},"
                        "\"write_multiple\":true}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qemu),
        cmocka_unit_test(test_qemu_longest_reply),
        cmocka_unit_test(test_rust_vmm),
        cmocka_unit_test(test_spdk),
        cmocka_unit_test(test_alioth),
        cmocka_unit_test(test_libvfio_user),
        cmocka_unit_test(test_keys_are_those_proposed),
        cmocka_unit_test(test_minor_is_the_smaller),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_pgsizes),
        cmocka_unit_test(test_reply_is_shortened),
        cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_reply_keeps_what_matters),
        cmocka_unit_test(test_agreed),
        cmocka_unit_test(test_agreed_without_json),
        cmocka_unit_test(test_parsed_values),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_accepted_texts),
        cmocka_unit_test(test_duplicate_keys),
        cmocka_unit_test(test_refused_texts),
        cmocka_unit_test(test_refused_numbers),
        cmocka_unit_test(test_refused_types),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_major),
        cmocka_unit_test(test_propose_parses_again),
        cmocka_unit_test(test_propose_nothing),
        cmocka_unit_test(test_reply_without_bound),
        cmocka_unit_test(test_capabilities_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
