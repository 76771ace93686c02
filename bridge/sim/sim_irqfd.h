/*
 * Eventfds by which a client speaks to the kernel: the kernel's wait queue callback is here a
 * thread of the machine that waits for all of them.
 */
#pragma once

struct sim;
struct sim_device;

int sim_irqfd_start(struct sim *sim);
void sim_irqfd_stop(struct sim *sim);

enum sim_irqfd_kind {
    SIM_IRQFD_UNMASK,   /* calls sim_irq_unmask_event() */
    SIM_IRQFD_DOORBELL, /* calls sim_ioeventfd_event() */
};

/* Each signal of fd is an event of that kind. With the device's lock held. */
int sim_irqfd_add(struct sim_device *dev, int fd, enum sim_irqfd_kind kind);
/* Before the descriptor is closed. An event may still come afterwards. */
void sim_irqfd_remove(struct sim_device *dev, int fd);
