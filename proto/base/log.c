#include "proto/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/arith.h"

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARNING] = "warning",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

static _Atomic int max_level = LOG_INFO;
static _Thread_local const char *thread_context;

void log_set_level(enum log_level level)
{
    max_level = level;
}

bool log_level_parse(const char *name, enum log_level *level)
{
    for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
        if (!strcmp(name, level_names[i])) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

void log_set_context(const char *context)
{
    thread_context = context;
}

bool log_enabled(enum log_level level)
{
    return (int)level <= max_level;
}

enum {
    LINE_ROOM = 1024,
    /* Of it, kept for the count of suppressed lines: a peer's long text must not push it out. */
    SUFFIX_ROOM = 40,
};

/* The bytes that printf's n put into room bytes; one of them is for the newline. */
static size_t fitted(int n, size_t room)
{
    return n < 0 ? 0 : MIN((size_t)n, room - 1);
}

/*
 * Text from a peer must not be able to start a line of its own or to move a terminal's cursor:
 * no control characters, neither the ASCII ones nor U+0080 to U+009F in UTF-8.
 */
static void blank_control_characters(char *text, size_t len)
{
    unsigned char before = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (before == 0xc2 && (c & 0xe0) == 0x80)
            text[i - 1] = text[i] = '?';
        else if (c < 0x20 || c == 0x7f)
            text[i] = '?';
        before = c;
    }
}

static void write_line(enum log_level level, const char *text, uint32_t suppressed)
{
    const char *context = thread_context;
    char line[LINE_ROOM];
    size_t room = sizeof(line) - SUFFIX_ROOM;
    size_t len;

    len = fitted(snprintf(line, room, "vfio-userd: %s: %s%s%s%s", level_names[level],
                          context ? "[" : "", context ? context : "", context ? "] " : "", text),
                 room);
    room = sizeof(line) - len;
    if (suppressed)
        len +=
            fitted(snprintf(line + len, room, " (and %" PRIu32 " more like it)", suppressed), room);
    blank_control_characters(line, len);
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0) {
        /* There is nowhere left to tell it. */
    }
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char text[LINE_ROOM];
    int saved = errno;
    va_list ap;

    if (!log_enabled(level))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    write_line(level, text, 0);
    errno = saved;
}

static uint64_t current_window(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec / LOG_PEER_WINDOW_S + 1;
}

void log_line_limited(struct log_site *site, enum log_level level, const char *fmt, ...)
{
    char text[LINE_ROOM];
    int saved = errno;
    uint64_t window;
    va_list ap;

    if (!log_enabled(level))
        return;
    window = current_window();
    if (atomic_exchange(&site->window, window) != window)
        site->count = 0;
    if (atomic_fetch_add(&site->count, 1) >= LOG_PEER_BURST) {
        atomic_fetch_add(&site->suppressed, 1);
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    write_line(level, text, atomic_exchange(&site->suppressed, 0));
    errno = saved;
}
