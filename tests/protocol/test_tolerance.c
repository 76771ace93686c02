/*
 * What a server must bear with or keep to because of one client or another: a test an item. Whole
 * sessions of these clients: test_sessions.c.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/socket.h>

#include "client-example/event.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/version.h"
#include "tests/protocol/raw.h"

enum {
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
};

static const uint8_t zeros[4096];

/* A session by the given proposal; the answer to it, and its parsed form. */
static int propose(const struct harness *h, uint16_t minor, const char *json, struct reply *r,
                   struct version_caps *caps)
{
    int sock = raw_connect(h);

    raw_send_version(sock, 0, minor, json);
    raw_expect_reply(sock, MSG(.command = VFIO_USER_VERSION), r);
    assert_int_equal(version_parse(r->payload, r->len, caps), 0);
    return sock;
}

/* "Reply minor = min(ours, theirs)" */
static void minor_is_the_smaller_one(void **state)
{
    static const uint16_t theirs[] = {0, 1, 2, 77};

    for (size_t i = 0; i < ARRAY_SIZE(theirs); i++) {
        struct version_caps caps;
        struct reply r;
        cleanup_close_ int sock = propose(*state, theirs[i], "{}", &r, &caps);

        assert_int_equal(caps.minor, MIN(theirs[i], (uint16_t)1));
        fd_close(&sock);
        harness_assert_serves(*state);
    }
}

/* "Offer only keys the client proposed" */
static void only_proposed_keys(void **state)
{
    static const char *const keys[] = {"\"max_msg_fds\":4", "\"max_data_xfer_size\":4096",
                                       "\"max_dma_maps\":100", "\"pgsizes\":4096",
                                       "\"write_multiple\":true"};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        struct version_caps caps;
        char json[128];
        struct reply r;

        snprintf(json, sizeof(json), "{\"capabilities\":{%s}}", keys[i]);
        {
            cleanup_close_ int sock = propose(*state, 1, json, &r, &caps);

            assert_int_equal(caps.has_max_msg_fds + caps.has_max_data_xfer_size +
                                 caps.has_max_dma_maps + caps.has_pgsizes +
                                 caps.has_write_multiple + caps.has_migration +
                                 caps.has_twin_socket,
                             1);
            assert_non_null(memmem(r.payload, r.len, keys[i], strcspn(keys[i], ":")));
        }
        harness_assert_serves(*state);
    }
}

/* "No JSON = defaults": 65,535 maps at most, and no write_multiple. */
static void no_json(void **state)
{
    struct version_caps caps;
    struct reply r;
    cleanup_close_ int sock = propose(*state, 1, NULL, &r, &caps);

    assert_int_equal(r.len, 4);
    raw_assert_in_step(sock);
    raw_refused(sock, MSG(MSG_WRITE_MULTI(1), .data = (const uint8_t[24]){0}, .data_len = 24),
                EINVAL);
}

/* "JSON asked = JSON answered, with NUL, short" */
static void json_is_answered(void **state)
{
    static const char *const texts[] = {
        "{}", "{\"capabilities\":{}}", "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}",
        "{\"capabilities\":{\"write_multiple\":true,\"max_msg_fds\":1,\"max_dma_maps\":65535}}"};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct version_caps caps;
        struct reply r;
        {
            cleanup_close_ int sock = propose(*state, 1, texts[i], &r, &caps);

            assert_true(caps.has_json);
            assert_int_equal(caps.has_capabilities, !!strstr(texts[i], "capabilities"));
            assert_int_equal(r.payload[r.len - 1], '\0');
        }
        harness_assert_serves(*state);
    }
}

/* "One sendmsg per reply": what is there of a reply is all of it, also behind many others. */
static void replies_are_whole(void **state)
{
    cleanup_close_ int sock = raw_session(*state);

    for (int i = 0; i < 500; i++) {
        struct reply r;

        raw_call(sock, MSG(MSG_REGION_READ(.region = 0, .count = 4096)), &r);
        raw_send(sock, MSG(MSG_GET_INFO(.argsz = 16)), NULL, 0);
        raw_send(sock, MSG(MSG_REGION_INFO(.argsz = 32)), NULL, 0);
        raw_expect_reply(sock, MSG(.command = VFIO_USER_DEVICE_GET_INFO), &r);
        raw_expect_reply(sock, MSG(.command = VFIO_USER_DEVICE_GET_REGION_INFO), &r);
    }
}

/* "At most one fd on GET_REGION_INFO": a client that made room for one, and MMAP with one only. */
static void at_most_one_descriptor(void **state)
{
    cleanup_close_ int sock = raw_session(*state);

    for (uint32_t i = 0; i < VFIO_PCI_NUM_REGIONS; i++) {
        struct vfio_user_region_info info;
        struct reply r;

        raw_send(sock, MSG(MSG_REGION_INFO(.argsz = 4064, .index = i)), NULL, 0);
        raw_receive(sock, &r);
        memcpy(&info, r.payload, sizeof(info));
        assert_int_equal(r.nfds, !!(info.flags & VFIO_USER_REGION_INFO_MMAP));
    }
}

/* "Take the request's size from msg_size": argsz is the reply's matter. */
static void size_is_of_the_header(void **state)
{
    const struct request_case cases[] = {
        CASE("argsz of the reply's message", 0, MSG_GET_INFO(.argsz = 32)),
        CASE("argsz of a large buffer", 0, MSG_REGION_INFO(.argsz = 4064)),
        CASE("the buffer itself", 0, MSG_REGION_INFO(.argsz = 4064), .data = zeros,
             .data_len = 4064 - 32),
        CASE("argsz 0 of a map", 0, MSG_DMA_MAP(.argsz = 0, .flags = DMA_RW, .size = PAGE)),
        CASE("argsz 0 of an unmap", 0, MSG_DMA_UNMAP(.argsz = 0, .size = PAGE)),
        CASE("argsz of an array that is not sent", 0,
             MSG_SET_IRQS(.argsz = 24, .index = MSI, .count = 1, .flags = EVENTFD_TRIGGER)),
    };
    cleanup_close_ int sock = raw_session(*state);

    raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
}

/* "Accept argsz 16, 32 and 4064 in info requests" */
static void sizes_of_info_requests(void **state)
{
    const struct request_case cases[] = {
        CASE("GET_INFO 16", 0, MSG_GET_INFO(.argsz = 16)),
        CASE("GET_INFO 32", 0, MSG_GET_INFO(.argsz = 32)),
        CASE("GET_INFO 4064", 0, MSG_GET_INFO(.argsz = 4064)),
        CASE("REGION_INFO 32", 0, MSG_REGION_INFO(.argsz = 32)),
        CASE("REGION_INFO 4064", 0, MSG_REGION_INFO(.argsz = 4064)),
        CASE("IRQ_INFO 16", 0, MSG_IRQ_INFO(.argsz = 16)),
        CASE("IRQ_INFO 32", 0, MSG_IRQ_INFO(.argsz = 32)),
        CASE("IRQ_INFO 4064", 0, MSG_IRQ_INFO(.argsz = 4064)),
    };
    cleanup_close_ int sock = raw_session(*state);

    raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
}

/* "Accept repeated and zero message ids": SPDK's are all 0. */
static void message_ids(void **state)
{
    static const uint16_t ids[] = {0, 0, 0, 7, 7, 1, 65535, 65535, 0};
    cleanup_close_ int sock = raw_session(*state);

    for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
        raw_call(sock, MSG(MSG_GET_INFO(.argsz = 16), .id = ids[i]), NULL);
    /* Two under way with one id. */
    raw_send(sock, MSG(MSG_GET_INFO(.argsz = 16), .id = 3), NULL, 0);
    raw_send(sock, MSG(MSG_REGION_INFO(.argsz = 32), .id = 3), NULL, 0);
    raw_expect_reply(sock, MSG(.command = VFIO_USER_DEVICE_GET_INFO, .id = 3), &(struct reply){0});
    raw_expect_reply(sock, MSG(.command = VFIO_USER_DEVICE_GET_REGION_INFO, .id = 3),
                     &(struct reply){0});
}

/* "Accept at least 16 fds in a message whatever was advertised": rust-vmm says 1, and sends 16. */
static void sixteen_descriptors(void **state)
{
    struct version_caps caps;
    struct reply r;
    cleanup_close_ int sock =
        propose(*state, 1, "{\"capabilities\":{\"max_msg_fds\":1}}", &r, &caps);
    cleanup_close_ int event = event_create();
    const struct request_case cases[] = {
        CASE("an unmap with them", ENOENT, MSG_DMA_UNMAP(.size = PAGE)),
        CASE("vectors that are not there", EINVAL,
             MSG_SET_IRQS(.argsz = 20, .index = MSI, .count = 16, .flags = EVENTFD_TRIGGER)),
    };
    int fds[16];

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = event;
    raw_run_cases(sock, cases, ARRAY_SIZE(cases), fds, ARRAY_SIZE(fds));
}

/* "Accept and close fds on DMA_UNMAP" */
static void descriptor_of_an_unmap(void **state)
{
    const struct raw_message map = {MSG_DMA_MAP(.flags = DMA_RW, .size = PAGE)};
    const struct raw_message unmap = {MSG_DMA_UNMAP(.size = PAGE)};
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int fd = raw_memfd(PAGE);
    int open_before = fd_count_open();

    for (int i = 0; i < 10; i++) {
        raw_send(sock, &map, &fd, 1);
        raw_expect_reply(sock, &map, &(struct reply){0});
        raw_send(sock, &unmap, &fd, 1);
        raw_expect_reply(sock, &unmap, &(struct reply){0});
    }
    harness_await_fds(open_before);
}

/* "SET_IRQS with EVENTFD and 0 fds = -1 for each of count" */
static void eventfds_taken_away(void **state)
{
    const struct raw_message set = {
        MSG_SET_IRQS(.argsz = 20, .index = MSI, .count = 1, .flags = EVENTFD_TRIGGER)};
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int event = event_create();

    raw_call(sock, &set, NULL); /* also first of all: QEMU turns MSI-X on like this */
    raw_send(sock, &set, &event, 1);
    raw_expect_reply(sock, &set, &(struct reply){0});
    assert_int_equal(harness_device(h).msi_eventfds, 1);
    raw_call(sock, &set, NULL);
    assert_int_equal(harness_device(h).msi_eventfds, 0);
}

/* "Accept the index-array payload": Alioth's, with only the valid descriptors attached. */
static void index_array(void **state)
{
    const int32_t first = 0;
    const struct raw_message set = {
        MSG_SET_IRQS(.argsz = 24, .index = MSI, .count = 1, .flags = EVENTFD_TRIGGER),
        .data = &first,
        .data_len = sizeof(first),
    };
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int event = event_create();

    raw_send(sock, &set, &event, 1);
    raw_expect_reply(sock, &set, &(struct reply){0});
    assert_int_equal(harness_device(h).msi_eventfds, 1);
}

/* "Never reply to NO_REPLY, whatever its outcome": success, refusal, nonsense. */
static void no_reply(void **state)
{
    const struct raw_message messages[] = {
        {MSG_DMA_MAP(.flags = DMA_RW, .size = PAGE)},
        {MSG_DMA_MAP(.flags = DMA_RW,                           .size = PAGE)},
        {MSG_DMA_UNMAP(.size = PAGE)},
        {MSG_DMA_UNMAP(.size = PAGE)},
        {MSG_REGION_WRITE(0x3c, 7, 1), .data = zeros, .data_len = 1},
        {MSG_REGION_WRITE(0x3c,       77, 1), .data = zeros, .data_len = 1},
        {MSG_REGION_READ(0,                         7, 4)},
        {MSG_GET_INFO(.argsz = 16)             },
        {MSG_RESET()      },
        {MSG_SET_IRQS(.index = MSI,                         .flags = 0x21)},
        {MSG_SET_IRQS(.index = 99,              .flags = 0x21)},
        {MSG_FEATURE(.argsz = 8,           .flags = VFIO_USER_DEVICE_FEATURE_PROBE | 1)},
        {MSG_(VFIO_USER_VERSION,                         vfio_user_version, 0, 1)},
        {.command = 200  },
    };
    cleanup_close_ int sock = raw_session(*state);

    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        struct raw_message m = messages[i];

        m.flags = VFIO_USER_FLAG_NO_REPLY;
        raw_send(sock, &m, NULL, 0);
        raw_assert_in_step(sock);
    }
}

/* "Never send a request the client did not negotiate": after DMA by the device to memory that
 * only the client could reach, nothing has come but the replies. */
static void no_requests(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    uint32_t word = 0;
    char byte;

    raw_call(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .size = PAGE)), NULL);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 0, &word, sizeof(word), true), -EFAULT);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 0, &word, sizeof(word), false),
                     -EFAULT);
    raw_assert_in_step(sock);
    assert_int_equal(recv(sock, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

static const struct CMUnitTest tests[] = {
    harness_test(minor_is_the_smaller_one),
    harness_test(only_proposed_keys),
    harness_test(no_json),
    harness_test(json_is_answered),
    harness_test(replies_are_whole),
    harness_test(at_most_one_descriptor),
    harness_test(size_is_of_the_header),
    harness_test(sizes_of_info_requests),
    harness_test(message_ids),
    harness_test(sixteen_descriptors),
    harness_test(descriptor_of_an_unmap),
    harness_test(eventfds_taken_away),
    harness_test(index_array),
    harness_test(no_reply),
    harness_test(no_requests),
};

HARNESS_MAIN(tests)
