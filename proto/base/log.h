/*
 * The log: one line an event, on stderr, at the place that knows the cause.
 *
 *     vfio-userd: warning: [0000:01:00.0] the text
 *
 * The bracket is the calling thread's context, if it has set one. A line is written by one
 * write(2), so lines of several threads do not mix.
 *
 * What a peer can cause at will goes through the log_peer_ macros: each call site has a budget
 * (LOG_PEER_BURST lines in LOG_PEER_WINDOW_S seconds); what is over it is counted, and the count
 * is told when the site speaks again. A peer can so neither fill a disk nor hide another's lines.
 *
 * Any thread, except where stated.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_ERROR,
    LOG_WARNING,
    LOG_INFO,
    LOG_DEBUG,
};

enum {
    LOG_PEER_BURST = 10,
    LOG_PEER_WINDOW_S = 10,
};

/* The budget of one call site; zero-initialized. */
struct log_site {
    _Atomic uint64_t window; /* number of the window that the count belongs to */
    _Atomic uint32_t count;
    _Atomic uint32_t suppressed;
};

/* Lines above the level are dropped. Before other threads start. */
void log_set_level(enum log_level level);

/* "error", "warning", "info", "debug" to a level; false if it is none of them. */
bool log_level_parse(const char *name, enum log_level *level);

/* Sets the context of the calling thread's lines; kept by reference until replaced; NULL: none. */
void log_set_context(const char *context);

bool log_enabled(enum log_level level);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void log_line_limited(struct log_site *site, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(...)   log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_enabled(LOG_DEBUG))                                                                \
            log_line(LOG_DEBUG, __VA_ARGS__);                                                      \
    } while (0)

#define log_peer_at_(level, ...)                                                                   \
    do {                                                                                           \
        static struct log_site site_;                                                              \
        if (log_enabled(level))                                                                    \
            log_line_limited(&site_, (level), __VA_ARGS__);                                        \
    } while (0)

#define log_peer_warning(...) log_peer_at_(LOG_WARNING, __VA_ARGS__)
#define log_peer_info(...)    log_peer_at_(LOG_INFO, __VA_ARGS__)

/* For a return statement: tells what the peer sent wrong; the value is -err. */
#define log_peer_refusal(err, ...)                                                                 \
    ({                                                                                             \
        log_peer_warning(__VA_ARGS__);                                                             \
        -(err);                                                                                    \
    })
