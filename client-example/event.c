#include "client-example/event.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int event_create(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

int event_wait(int fd, int timeout_ms)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    uint64_t count;
    int n;

    do {
        n = poll(&pfd, 1, timeout_ms);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if (n == 0)
        return 0;
    return read(fd, &count, sizeof(count)) == sizeof(count) ? 1 : -errno;
}

int event_signal(int fd)
{
    const uint64_t one = 1;

    return write(fd, &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
}

int64_t event_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void event_pause(void)
{
    const struct timespec millisecond = {.tv_nsec = 1000000};

    nanosleep(&millisecond, NULL);
}
