/*
 * A client that may do everything wrong: messages of any bytes and descriptors, in any pieces.
 * Sockets block, and give up after HARNESS_SECONDS: functions fail the running test (cmocka).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/fdset.h"
#include "proto/wire.h"
#include "proto/wire_extension.h"
#include "tests/protocol/harness.h"

/* What is sent. The macros below fill in the first three; data follows the payload. */
struct raw_message {
    uint16_t command;
    const void *payload;
    size_t len;
    uint32_t flags; /* of the header; 0: a request */
    const void *data;
    size_t data_len;
    uint16_t id;
};

#define MSG_(cmd, type, ...)                                                                       \
    .command = (cmd), .payload = &(const struct type){__VA_ARGS__}, .len = sizeof(struct type)

#define MSG_DMA_MAP(...)   MSG_(VFIO_USER_DMA_MAP, vfio_user_dma_map, __VA_ARGS__)
#define MSG_DMA_UNMAP(...) MSG_(VFIO_USER_DMA_UNMAP, vfio_user_dma_unmap, __VA_ARGS__)
#define MSG_GET_INFO(...)  MSG_(VFIO_USER_DEVICE_GET_INFO, vfio_user_device_info, __VA_ARGS__)
#define MSG_REGION_INFO(...)                                                                       \
    MSG_(VFIO_USER_DEVICE_GET_REGION_INFO, vfio_user_region_info, __VA_ARGS__)
#define MSG_IO_FDS(...)                                                                            \
    MSG_(VFIO_USER_DEVICE_GET_REGION_IO_FDS, vfio_user_region_io_fds, __VA_ARGS__)
#define MSG_IRQ_INFO(...)     MSG_(VFIO_USER_DEVICE_GET_IRQ_INFO, vfio_user_irq_info, __VA_ARGS__)
#define MSG_SET_IRQS(...)     MSG_(VFIO_USER_DEVICE_SET_IRQS, vfio_user_irq_set, __VA_ARGS__)
#define MSG_REGION_READ(...)  MSG_(VFIO_USER_REGION_READ, vfio_user_region_access, __VA_ARGS__)
#define MSG_REGION_WRITE(...) MSG_(VFIO_USER_REGION_WRITE, vfio_user_region_access, __VA_ARGS__)
#define MSG_WRITE_MULTI(...)                                                                       \
    MSG_(VFIO_USER_REGION_WRITE_MULTI, vfio_user_region_write_multi, __VA_ARGS__)
#define MSG_FEATURE(...)   MSG_(VFIO_USER_DEVICE_FEATURE, vfio_user_device_feature, __VA_ARGS__)
#define MSG_MIG_READ(...)  MSG_(VFIO_USER_MIG_DATA_READ, vfio_user_mig_data, __VA_ARGS__)
#define MSG_MIG_WRITE(...) MSG_(VFIO_USER_MIG_DATA_WRITE, vfio_user_mig_data, __VA_ARGS__)
#define MSG_DMA_READ(...)  MSG_(VFIO_USER_DMA_READ, vfio_user_dma_access, __VA_ARGS__)
#define MSG_DMA_WRITE(...) MSG_(VFIO_USER_DMA_WRITE, vfio_user_dma_access, __VA_ARGS__)
#define MSG_RESET()        .command = VFIO_USER_DEVICE_RESET

/* As a struct raw_message of its own. */
#define MSG(...) (&(const struct raw_message){__VA_ARGS__})

struct reply {
    struct vfio_user_header hdr;
    uint8_t payload[8192];
    size_t len;
    unsigned nfds; /* closed on arrival: no reply of this server has any */
};

/* A connected socket, the caller's. */
int raw_connect(const struct harness *h);

/* The same with a session, of a proposal that has every capability of the specification's. */
int raw_session(const struct harness *h);

/* The same with the extension too. */
int raw_extended_session(const struct harness *h);

/* A session of that version data (NULL: none). *r: the answer. */
int raw_session_with(const struct harness *h, const char *proposal, struct reply *r);

/* VERSION with text and its NUL after it; NULL: without version data. */
void raw_send_version(int sock, uint16_t major, uint16_t minor, const char *text);

/* The message's bytes. Returns their number, at most size. */
size_t raw_encode(const struct raw_message *m, void *buf, size_t size);

/* Sends bytes by one sendmsg, with the descriptors, which stay the caller's. */
void raw_send_bytes(int sock, const void *bytes, size_t len, const int *fds, unsigned nfds);
void raw_send(int sock, const struct raw_message *m, const int *fds, unsigned nfds);

/*
 * Receives a reply, which must be one, be there as a whole when its first byte is, and have the
 * size that its header tells.
 */
void raw_receive(int sock, struct reply *r);

/* The next message is this one's success, or its error reply: the header alone with that errno. */
void raw_expect_reply(int sock, const struct raw_message *m, struct reply *r);
void raw_expect_error(int sock, const struct raw_message *m, int err);

/* Sends and receives. raw_call: a success; *r may be NULL. */
void raw_call(int sock, const struct raw_message *m, struct reply *r);
void raw_refused(int sock, const struct raw_message *m, int err);

/* The server ends the stream after what was received so far. */
void raw_expect_end(int sock);

/* Asserts that nothing is under way to the client and the session is alive: a query is answered
 * next. */
void raw_assert_in_step(int sock);

/* A row of a table of requests. */
struct request_case {
    const char *name;
    struct raw_message msg;
    int err; /* that answers it; 0: a success */
};

/* CASE(what it is, errno, the message) */
#define CASE(name, err, ...)                                                                       \
    {                                                                                              \
        (name), {__VA_ARGS__}, (err)                                                               \
    }

/*
 * Sends each request, with the descriptors, and compares the answer; asserts that the session
 * lives on and that the server keeps no descriptor of any.
 */
void raw_run_cases(int sock, const struct request_case *cases, size_t n, const int *fds,
                   unsigned nfds);

enum {
    PAGE = 4096,
    DMA_RW = VFIO_USER_DMA_MAP_READ | VFIO_USER_DMA_MAP_WRITE,
};

/* A memory file of that size. The caller's. */
int raw_memfd(size_t size);
