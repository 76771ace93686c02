/* The client library's messages about the device. */
#include "client-example/vfuc.h"

#include <errno.h>
#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/fake_server.h"

static void serve_info(struct fake *f, const struct request *req)
{
    const struct vfio_user_device_info device = {16, 3, 9, 5};
    const struct vfio_user_irq_info irq = {16, 7, 1, 32};

    if (req->hdr.command == VFIO_USER_DEVICE_GET_INFO)
        reply(f, req, &device, sizeof(device));
    else
        reply(f, req, &irq, sizeof(irq));
}

static void test_infos(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_info);
    struct vfio_user_device_info device;
    struct vfio_user_irq_info irq, asked;
    struct request req;

    (void)state;
    assert_int_equal(vfuc_device_info(c, &device), 0);
    assert_int_equal(device.flags, VFIO_USER_DEVICE_FLAGS_RESET | VFIO_USER_DEVICE_FLAGS_PCI);
    assert_int_equal(device.num_regions, 9);
    assert_int_equal(device.num_irqs, 5);
    assert_int_equal(vfuc_irq_info(c, 1, &irq), 0);
    assert_int_equal(irq.count, 32);
    req = request_seen(&f, 1);
    memcpy(&asked, req.payload, sizeof(asked));
    assert_int_equal(asked.argsz, 16);
    assert_int_equal(asked.index, 1);
    assert_int_equal(asked.count, 0);
    fake_stop(&f, c);
}

/* --- Regions --- */

static void test_region_access(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_region);
    const uint8_t value[4] = {1, 2, 3, 4};
    struct vfio_user_region_access access;
    struct request req;
    uint8_t got[32];

    (void)state;
    assert_int_equal(vfuc_region_read(c, 7, 0x10, got, sizeof(got)), 0);
    assert_counts_up(got, sizeof(got), 0x10);
    assert_int_equal(vfuc_region_write(c, 2, UINT64_C(1) << 33, value, sizeof(value)), 0);
    req = request_seen(&f, 1);
    memcpy(&access, req.payload, sizeof(access));
    assert_int_equal(req.hdr.command, VFIO_USER_REGION_WRITE);
    assert_int_equal(req.len, sizeof(access) + sizeof(value));
    assert_int_equal(access.region, 2);
    assert_true(access.offset == UINT64_C(1) << 33);
    assert_int_equal(access.count, 4);
    assert_memory_equal(req.payload + sizeof(access), value, sizeof(value));
    fake_stop(&f, c);
}

static void test_region_large_read_in_one_message(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_region);
    cleanup_free_ uint8_t *got = malloc(LIMIT_DATA_XFER);

    (void)state;
    assert_non_null(got);
    assert_int_equal(vfuc_region_read(c, 0, 3, got, LIMIT_DATA_XFER), 0);
    assert_counts_up(got, LIMIT_DATA_XFER, 3);
    assert_int_equal(vfuc_region_write(c, 0, 3, got, LIMIT_DATA_XFER), 0);
    fake_stop(&f, c);
}

static void test_region_split(void **state)
{
    struct fake f = {.capabilities = "{\"capabilities\":{\"max_data_xfer_size\":100}}"};
    struct vfuc *c = fake_open(&f, serve_region);
    static const struct {
        uint64_t offset;
        uint32_t count;
    } expected[] = {
        {5,   100},
        {105, 100},
        {205, 50 },
    };
    uint8_t bytes[250];

    (void)state;
    assert_int_equal(vfuc_region_read_all(c, 1, 5, bytes, sizeof(bytes)), 0);
    assert_counts_up(bytes, sizeof(bytes), 5);
    assert_int_equal(vfuc_region_write_all(c, 1, 5, bytes, sizeof(bytes)), 0);
    assert_int_equal(requests_seen(&f), 6);
    for (unsigned i = 0; i < 6; i++) {
        struct request req = request_seen(&f, i);
        struct vfio_user_region_access access;

        memcpy(&access, req.payload, sizeof(access));
        assert_int_equal(req.hdr.command, i < 3 ? VFIO_USER_REGION_READ : VFIO_USER_REGION_WRITE);
        assert_true(access.offset == expected[i % 3].offset);
        assert_int_equal(access.count, expected[i % 3].count);
        if (i >= 3)
            assert_counts_up(req.payload + sizeof(access), access.count, (uint8_t)access.offset);
    }
    fake_stop(&f, c);
}

/* The access of the reply is not that of the request. */
static void serve_another_place(struct fake *f, const struct request *req)
{
    struct request changed = *req;

    changed.payload[0] ^= 1;
    serve_region(f, &changed);
}

/* All is right but that the last byte is missing. */
static void serve_less_data(struct fake *f, const struct request *req)
{
    uint8_t payload[64] = {0};

    memcpy(payload, req->payload, sizeof(struct vfio_user_region_access));
    reply(f, req, payload, sizeof(struct vfio_user_region_access) + 3);
}

static void test_region_read_cut(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_less_data);
    uint32_t value;

    (void)state;
    assert_int_equal(vfuc_region_read(c, 0, 0, &value, sizeof(value)), -EPROTO);
    fake_stop(&f, c);
}

static void test_region_reply_of_another_place(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_another_place);
    uint32_t value = 0;

    (void)state;
    assert_int_equal(vfuc_region_read(c, 0, 0, &value, sizeof(value)), -EPROTO);
    assert_int_equal(vfuc_region_write(c, 0, 0, &value, sizeof(value)), -EPROTO);
    fake_stop(&f, c);
}

static void serve_posted(struct fake *f, const struct request *req)
{
    if (!(req->hdr.flags & VFIO_USER_FLAG_NO_REPLY))
        serve_region(f, req);
}

static void test_region_write_posted(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_posted);
    uint32_t value = 1;

    (void)state;
    assert_int_equal(vfuc_region_write_posted(c, 0, 8, &value, sizeof(value)), 0);
    assert_int_equal(vfuc_region_read(c, 0, 4, &value, sizeof(value)), 0);
    assert_int_equal(requests_seen(&f), 2);
    assert_int_equal(request_seen(&f, 0).hdr.flags, VFIO_USER_FLAG_NO_REPLY);
    assert_int_equal(request_seen(&f, 1).hdr.flags, 0);
    fake_stop(&f, c);
}

/* Completes as many writes as the first entry's offset says. */
static void serve_multi(struct fake *f, const struct request *req)
{
    struct vfio_user_write_multi_entry first;

    memcpy(&first, req->payload + sizeof(struct vfio_user_region_write_multi), sizeof(first));
    reply(f, req, &first.offset, sizeof(first.offset));
}

static void test_region_write_multi(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_multi);
    struct vfio_user_write_multi_entry entries[3] = {
        {.offset = 2,  .count = 8},
        {.offset = 1 },
        {.offset = 9, .data = {7}          },
    };
    struct request req;
    uint64_t wr_cnt;

    (void)state;
    assert_int_equal(vfuc_region_write_multi(c, entries, 3), 2);
    req = request_seen(&f, 0);
    memcpy(&wr_cnt, req.payload, sizeof(wr_cnt));
    assert_int_equal(wr_cnt, 3);
    assert_int_equal(req.len, 8 + sizeof(entries));
    assert_memory_equal(req.payload + 8, entries, sizeof(entries));
    entries[0].offset = 4; /* more than there were */
    assert_int_equal(vfuc_region_write_multi(c, entries, 3), -EPROTO);
    assert_int_equal(vfuc_region_write_multi(c, entries, UINT64_MAX), -EINVAL);
    assert_int_equal(requests_seen(&f), 2);
    fake_stop(&f, c);
}

/* --- Region info --- */

/* A region of 1 MiB with one sparse area and the MSI-X capability. */
struct full_info {
    struct vfio_user_region_info info;
    struct vfio_user_cap_header sparse;
    uint32_t nr_areas, reserved;
    uint64_t offset, size;
    struct vfio_user_cap_header msix;
};

static const struct full_info full_info = {
    .info = {.argsz = sizeof(full_info), .flags = 15, .cap_offset = 32, .size = 1 << 20},
    .sparse = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP,           .version = 1,                      .next = 64},
    .nr_areas = 1,
    .offset = 0x1000,
    .size = 0x2000,
    .msix = {.id = VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,    .version = 1},
};

static void serve_region_info(struct fake *f, const struct request *req)
{
    struct vfio_user_region_info asked;
    int fd = eventfd(0, EFD_CLOEXEC);

    memcpy(&asked, req->payload, sizeof(asked));
    reply_with_fds(f, req, &full_info, MIN(asked.argsz, (uint32_t)sizeof(full_info)), &fd, 1);
    fd_close(&fd);
}

static void test_region_info_with_capabilities(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_region_info);
    cleanup_free_ struct vfio_user_region_info *info = NULL;
    struct vfio_user_cap_header cap;
    uint32_t offset = 0;
    int fd;
    uint64_t area[2];

    (void)state;
    assert_int_equal(vfuc_region_info(c, 3, &info, &fd), 0);
    assert_int_equal(requests_seen(&f), 2);
    assert_int_equal(info->argsz, sizeof(full_info));
    assert_memory_equal(info, &full_info, sizeof(full_info));
    assert_int_equal(vfuc_region_cap_next(info, &offset, &cap), 1);
    assert_int_equal(cap.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    assert_int_equal(vfuc_region_cap_data(info, offset + 16, area, sizeof(area)), 0);
    assert_int_equal(area[0], 0x1000);
    assert_int_equal(area[1], 0x2000);
    assert_int_equal(vfuc_region_cap_next(info, &offset, &cap), 1);
    assert_int_equal(cap.id, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
    assert_int_equal(vfuc_region_cap_data(info, offset + 8, area, 1), -EPROTO);
    assert_int_equal(vfuc_region_cap_next(info, &offset, &cap), 0);
    fake_stop(&f, c);
    assert_true(inode_of(fd) != 0); /* the second one; the first is closed */
    fd_close(&fd);
}

static void serve_plain_info(struct fake *f, const struct request *req)
{
    struct vfio_user_region_info info;

    memcpy(&info, req->payload, sizeof(info));
    info.size = 256;
    info.flags = VFIO_USER_REGION_INFO_READ;
    reply(f, req, &info, sizeof(info));
}

static void test_region_info_plain(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_plain_info);
    cleanup_free_ struct vfio_user_region_info *info = NULL;
    struct vfio_user_cap_header cap;
    uint32_t offset = 0;
    int fd = 0;

    (void)state;
    assert_int_equal(vfuc_region_info(c, 7, &info, &fd), 0);
    assert_int_equal(fd, -1);
    assert_int_equal(info->index, 7);
    assert_int_equal(info->size, 256);
    assert_int_equal(vfuc_region_cap_next(info, &offset, &cap), 0);
    assert_int_equal(requests_seen(&f), 1);
    fake_stop(&f, c);
}

static void answer_info_of(struct fake *f, const struct request *req, uint32_t argsz, size_t len)
{
    uint8_t payload[128] = {0};
    int fd = eventfd(0, EFD_CLOEXEC);

    memcpy(payload, &argsz, sizeof(argsz));
    reply_with_fds(f, req, payload, len, &fd, 1);
    fd_close(&fd);
}

static void answer_info_too_large(struct fake *f, const struct request *req)
{
    answer_info_of(f, req, LIMIT_INFO_REPLY + 1, 32);
}

static void answer_info_too_small(struct fake *f, const struct request *req)
{
    answer_info_of(f, req, 31, 32);
}

static void answer_info_cut(struct fake *f, const struct request *req)
{
    answer_info_of(f, req, 32, 31);
}

/* Promises 64 bytes and gives 32, also when 64 are asked for. */
static void answer_info_withheld(struct fake *f, const struct request *req)
{
    answer_info_of(f, req, 64, 32);
}

/* Asks for more each time. */
static void answer_info_growing(struct fake *f, const struct request *req)
{
    uint32_t argsz;

    memcpy(&argsz, req->payload, sizeof(argsz));
    answer_info_of(f, req, argsz + 32, MIN(argsz, 128U));
}

static void test_region_info_broken(void **state)
{
    static const answer_fn answers[] = {
        answer_info_too_large, answer_info_too_small, answer_info_cut,
        answer_info_withheld,  answer_info_growing,
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        struct fake f = {0};
        struct vfuc *c = fake_open(&f, answers[i]);
        struct vfio_user_region_info *info;
        int fd;

        assert_int_equal(vfuc_region_info(c, 0, &info, &fd), -EPROTO);
        assert_null(info);
        assert_int_equal(fd, -1);
        /* A size that is not believed is not asked for. */
        if (answers[i] == answer_info_too_large)
            assert_int_equal(requests_seen(&f), 1);
        fake_stop(&f, c);
    }
}

static void test_region_capability_chain_broken(void **state)
{
    static const struct {
        uint32_t first;  /* cap_offset */
        uint32_t second; /* next of the first */
        unsigned good;   /* capabilities before the break */
    } cases[] = {
        {31,                    0,                 0}, /* in the fixed part */
        {sizeof(full_info) - 7, 0,                 0}, /* cut */
        {UINT32_MAX,            0,                 0},
        {32,                    32,                1}, /* on itself */
        {40,                    32,                1}, /* back */
        {32,                    sizeof(full_info), 1},
        {32,                    UINT32_MAX,        1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct full_info full = full_info;
        struct vfio_user_cap_header cap = {.next = cases[i].second};
        unsigned good = 0;
        uint32_t offset = 0;
        int ret;

        full.info.cap_offset = cases[i].first;
        if (cases[i].good)
            memcpy((uint8_t *)&full + cases[i].first, &cap, sizeof(cap));
        while ((ret = vfuc_region_cap_next(&full.info, &offset, &cap)) == 1)
            good++;
        assert_int_equal(ret, -EPROTO);
        assert_int_equal(good, cases[i].good);
    }
}

/* --- DMA and interrupts --- */

/* Takes a map if the descriptor is the file whose inode its offset names. */
static void serve_dma(struct fake *f, const struct request *req)
{
    struct vfio_user_dma_map map;

    if (req->hdr.command == VFIO_USER_DMA_UNMAP) {
        echo(f, req);
        return;
    }
    memcpy(&map, req->payload, sizeof(map));
    if (req->fds.count != (map.offset ? 1 : 0) ||
        (map.offset && inode_of(req->fds.fd[0]) != map.offset))
        refuse(f, req);
    else
        done(f, req);
}

static void test_dma(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_dma);
    cleanup_close_ int fd = memfd_create("test", MFD_CLOEXEC);
    struct vfio_user_dma_map map;
    struct vfio_user_dma_unmap unmap;
    struct request req;

    (void)state;
    assert_int_equal(vfuc_dma_map(c, 0x1000, 0x2000, 3, fd, inode_of(fd)), 0);
    assert_true(inode_of(fd) != 0); /* still open here */
    assert_int_equal(vfuc_dma_map(c, 0x8000, 0x1000, VFIO_USER_DMA_MAP_READ, -1, 0), 0);
    assert_int_equal(vfuc_dma_map(c, 0x9000, 0x1000, 3, fd, 1), -ENOSPC);
    assert_int_equal(vfuc_dma_unmap(c, 0x1000, 0x2000), 0);
    assert_int_equal(vfuc_dma_unmap_all(c), 0);

    req = request_seen(&f, 0);
    memcpy(&map, req.payload, sizeof(map));
    assert_int_equal(map.argsz, 32);
    assert_int_equal(map.flags, 3);
    assert_int_equal(map.address, 0x1000);
    assert_int_equal(map.size, 0x2000);
    req = request_seen(&f, 3);
    memcpy(&unmap, req.payload, sizeof(unmap));
    assert_int_equal(unmap.argsz, 24);
    assert_int_equal(unmap.flags, 0);
    assert_int_equal(unmap.address, 0x1000);
    assert_int_equal(unmap.size, 0x2000);
    req = request_seen(&f, 4);
    memcpy(&unmap, req.payload, sizeof(unmap));
    assert_int_equal(unmap.flags, VFIO_USER_DMA_UNMAP_ALL);
    assert_int_equal(unmap.address, 0);
    assert_int_equal(unmap.size, 0);
    fake_stop(&f, c);
}

static struct vfio_user_irq_set irq_set_seen(struct fake *f, unsigned i, unsigned nfds)
{
    struct request req = request_seen(f, i);
    struct vfio_user_irq_set set;

    memcpy(&set, req.payload, sizeof(set));
    assert_int_equal(req.hdr.command, VFIO_USER_DEVICE_SET_IRQS);
    assert_int_equal(req.fds.count, nfds);
    assert_int_equal(set.argsz, req.len);
    return set;
}

static void test_set_irqs_in_chunks(void **state)
{
    const uint32_t flags = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER;
    struct fake f = {.capabilities = "{\"capabilities\":{\"max_msg_fds\":3}}"};
    struct vfuc *c = fake_open(&f, done);
    cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC);
    const int fds[7] = {fd, fd, fd, fd, fd, fd, fd};

    (void)state;
    assert_int_equal(vfuc_set_irqs(c, 2, flags, 10, 7, fds, NULL), 0);
    assert_int_equal(requests_seen(&f), 3);
    for (unsigned i = 0; i < 3; i++) {
        struct vfio_user_irq_set set = irq_set_seen(&f, i, i < 2 ? 3 : 1);

        assert_int_equal(set.index, 2);
        assert_int_equal(set.flags, flags);
        assert_int_equal(set.start, 10 + 3 * i);
        assert_int_equal(set.count, i < 2 ? 3 : 1);
    }
    fake_stop(&f, c);
}

static void test_set_irqs_without_fds(void **state)
{
    const uint32_t flags = VFIO_USER_IRQ_SET_DATA_BOOL | VFIO_USER_IRQ_SET_ACTION_MASK;
    static const uint8_t bools[5] = {1, 0, 1, 1, 0};
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, done);
    struct vfio_user_irq_set set;

    (void)state;
    assert_int_equal(vfuc_set_irqs(c, 1, flags, 0, 5, NULL, bools), 0);
    assert_int_equal(
        vfuc_set_irqs(c, 1, VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER, 2, 9,
                      NULL, NULL),
        0);
    assert_int_equal(vfuc_irq_disable(c, 1), 0);
    set = irq_set_seen(&f, 0, 0);
    assert_int_equal(set.argsz, 25);
    assert_int_equal(set.count, 5);
    assert_memory_equal(request_seen(&f, 0).payload + sizeof(set), bools, sizeof(bools));
    set = irq_set_seen(&f, 1, 0); /* de-assigned in one message */
    assert_int_equal(set.start, 2);
    assert_int_equal(set.count, 9);
    set = irq_set_seen(&f, 2, 0);
    assert_int_equal(set.flags, VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_TRIGGER);
    assert_int_equal(set.count, 0);
    fake_stop(&f, c);
}

static void refuse_from_third(struct fake *f, const struct request *req)
{
    if (requests_seen(f) < 3)
        done(f, req);
    else
        refuse(f, req);
}

static void test_set_irqs_stops_at_an_error(void **state)
{
    struct fake f = {0}; /* max_msg_fds is 1 */
    struct vfuc *c = fake_open(&f, refuse_from_third);
    cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC);
    const int fds[5] = {fd, fd, fd, fd, fd};

    (void)state;
    assert_int_equal(
        vfuc_set_irqs(c, 2, VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER, 0, 5,
                      fds, NULL),
        -ENOSPC);
    assert_int_equal(requests_seen(&f), 3);
    fake_stop(&f, c);
}

/* --- Doorbells --- */

struct io_fds_reply {
    struct vfio_user_region_io_fds head;
    struct vfio_user_sub_region_io_fd sub;
    uint64_t later; /* that a newer server has more of */
};

static const struct io_fds_reply one_bell = {
    .head = {.argsz = sizeof(one_bell), .index = 2, .count = 1    },
    .sub = { .offset = 0x1000,                .size = 4, .flags = 1, .datamatch = 7},
};
static struct io_fds_reply io_fds_answer;
static size_t io_fds_len;

static void serve_io_fds(struct fake *f, const struct request *req)
{
    cleanup_close_ int fd = eventfd(3, EFD_CLOEXEC);

    reply_with_fds(f, req, &io_fds_answer, io_fds_len, &fd, 1);
}

static void test_io_fds(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_io_fds);
    struct vfuc_io_fds io;
    uint64_t count;

    (void)state;
    io_fds_answer = one_bell;
    io_fds_len = sizeof(one_bell);
    assert_int_equal(vfuc_region_io_fds(c, 2, &io), 0);
    assert_int_equal(io.count, 1);
    assert_int_equal(io.subs[0].offset, 0x1000);
    assert_int_equal(io.subs[0].datamatch, 7);
    assert_int_equal(read(io.fds.fd[0], &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 3);
    vfuc_io_fds_free(&io);

    io_fds_answer.head.count = 0;
    io_fds_answer.head.argsz = io_fds_len = sizeof(io_fds_answer.head);
    assert_int_equal(vfuc_region_io_fds(c, 2, &io), 0);
    assert_int_equal(io.count, 0);
    vfuc_io_fds_free(&io);
    fake_stop(&f, c);
}

static void test_io_fds_broken(void **state)
{
    static const struct {
        uint32_t argsz, count, fd_index;
        size_t len;
    } cases[] = {
        {sizeof(one_bell),      1,          1,          sizeof(one_bell)         },
        {sizeof(one_bell),      1,          UINT32_MAX, sizeof(one_bell)         },
        {sizeof(one_bell),      2,          0,          sizeof(one_bell)         },
        {sizeof(one_bell),      UINT32_MAX, 0,          sizeof(one_bell)         },
        {sizeof(one_bell) + 1,  1,          0,          sizeof(one_bell)         },
        {UINT32_MAX,            1,          0,          sizeof(one_bell)         },
        {sizeof(one_bell.head), 1,          0,          sizeof(one_bell)         },
        {0,                     0,          0,          sizeof(one_bell)         },
        {sizeof(one_bell.head), 0,          0,          sizeof(one_bell.head) - 1},
    };
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, serve_io_fds);
    struct vfuc_io_fds io;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        io_fds_answer = one_bell;
        io_fds_answer.head.argsz = cases[i].argsz;
        io_fds_answer.head.count = cases[i].count;
        io_fds_answer.sub.fd_index = cases[i].fd_index;
        io_fds_len = cases[i].len;
        assert_int_equal(vfuc_region_io_fds(c, 2, &io), -EPROTO);
        vfuc_io_fds_free(&io);
    }
    fake_stop(&f, c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fd_leak_test(test_infos),
        fd_leak_test(test_region_access),
        fd_leak_test(test_region_large_read_in_one_message),
        fd_leak_test(test_region_split),
        fd_leak_test(test_region_read_cut),
        fd_leak_test(test_region_reply_of_another_place),
        fd_leak_test(test_region_write_posted),
        fd_leak_test(test_region_write_multi),
        fd_leak_test(test_region_info_with_capabilities),
        fd_leak_test(test_region_info_plain),
        fd_leak_test(test_region_info_broken),
        fd_leak_test(test_region_capability_chain_broken),
        fd_leak_test(test_dma),
        fd_leak_test(test_set_irqs_in_chunks),
        fd_leak_test(test_set_irqs_without_fds),
        fd_leak_test(test_set_irqs_stops_at_an_error),
        fd_leak_test(test_io_fds),
        fd_leak_test(test_io_fds_broken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
