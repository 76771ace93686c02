/* The real server over the simulated kernel's edu device: an export and its worker. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct served {
    unsigned busy_poll_us;
    bool type1; /* else the interface that the server prefers */
    unsigned long stable_memory;
    size_t state; /* bytes of the device's state beyond its registers */
    /* The device writes its pages when it is told to (report.h): by this socket, whose other end
     * is the client's. */
    bool writes;
    int control, others_end;
};

/* For peer_start; arg: a struct served. */
int served_run(int sock, const void *arg);

/* The client's side: negotiates and switches the device's memory decode on. 0 or -errno. */
int served_begin_session(int sock);
