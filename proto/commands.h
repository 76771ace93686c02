/*
 * The command table: one row for each message, holding all that can be checked of a request
 * without knowing its meaning. A request that no row allows never reaches a handler.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who may send the command as a request. */
enum command_direction {
    COMMAND_TO_SERVER,
    COMMAND_TO_CLIENT,
};

/* What the connection must have reached. */
enum command_state {
    COMMAND_BEFORE_VERSION,
    COMMAND_IN_SESSION,
};

struct command {
    const char *name;
    uint16_t id;
    enum command_direction direction;
    enum command_state state;
    uint32_t min_payload; /* bytes of a request after the header */
    uint32_t max_payload;
    uint32_t max_fds;  /* descriptors that the request may carry and that mean something */
    bool spare_fds_ok; /* more of them are closed and ignored; otherwise EINVAL */
    bool no_reply_ok;  /* makes sense with NO_REPLY; a query does not */
    bool extension;    /* our own: there is no such command unless the extension was negotiated */
};

/* The row of a command id, or NULL if there is no such command. Any thread. */
const struct command *command_find(uint16_t id);

/* The command's name for a log line, "unknown command" if there is none. */
const char *command_name(uint16_t id);

/* The table's rows, for tests and tools. *n: their number. */
const struct command *command_table(size_t *n);
