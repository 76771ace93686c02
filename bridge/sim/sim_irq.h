/*
 * Interrupts of a device: from the line or message that the model raises to the eventfd of the
 * client, as vfio-pci connects them. sim_irq.c raises and masks; sim_irq_set.c is SET_IRQS.
 *
 * With the device's lock held, unless stated.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sim_device;

struct sim_irq {
    /* The one of INTx, MSI, MSI-X that is on, an index; VFIO_PCI_NUM_IRQS: none. */
    uint32_t active;
    int *triggers; /* eventfds of the active index, -1: none */
    unsigned count;

    bool level;    /* the device asserts INTx */
    bool masked;   /* INTx does not reach the host */
    bool disabled; /* COMMAND.INTX_DIS as the client has it */
    int unmask;    /* eventfd that unmasks INTx */

    int err, req;    /* eventfds of these two indexes */
    bool req_missed; /* there was none when REQ was due, which the kernel says again later */
};

void sim_irq_init(struct sim_irq *irq);

/* Vectors of an index. */
unsigned sim_irq_count(const struct sim_device *dev, uint32_t index);

/* Vectors are allocated when they are given an eventfd; else all that a set has when it is made. */
bool sim_irq_is_dynamic(const struct sim_device *dev, uint32_t index);

/* VFIO_DEVICE_SET_IRQS. arg: of the caller. */
int sim_irq_set(struct sim_device *dev, void *arg);

/* The last descriptor of the device was closed. */
void sim_irq_close(struct sim_device *dev);

/* Takes the active index down. */
void sim_irq_disable(struct sim_device *dev);

void sim_irq_mask_intx(struct sim_device *dev);
void sim_irq_unmask_intx(struct sim_device *dev);
/* Signals the client if the line is asserted and not masked, which masks it. */
void sim_irq_deliver_intx(struct sim_device *dev);
/* Signals the client whether or not the line is asserted. */
void sim_irq_send_intx(struct sim_device *dev);

/* The client has changed COMMAND.INTX_DIS. */
void sim_irq_set_disabled(struct sim_device *dev, bool disabled);

/* The eventfd that unmasks INTx may have been signalled. Without the lock. */
void sim_irq_unmask_event(struct sim_device *dev);
