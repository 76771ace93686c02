/*
 * Turns: who may touch a device at the moment. Its worker takes a turn for each event that it
 * handles; a hot reset takes one of every device that it resets, whose workers wait meanwhile.
 *
 * Turns come in the order in which they were asked for, so that a busy worker does not keep a reset
 * from its own. Who wants several asks for all of them under a lock that everybody takes who does
 * so (the list of groups). A worker asks for its own device's too then, and gives the one that it
 * has back before it waits. So of two that want the same devices one is before the other at each of
 * them, and nobody waits in a circle.
 *
 * Any thread.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

struct turn {
    pthread_mutex_t lock;
    pthread_cond_t next;
    uint64_t asked; /* tickets */
    uint64_t now;   /* the ticket whose turn it is */
};

void turn_init(struct turn *turn);
/* When nobody can ask any more. Waits for those who have asked. */
void turn_destroy(struct turn *turn);

/* Returns a ticket, for turn_await; does not block. */
uint64_t turn_ask(struct turn *turn);
/* Waits for the ticket's turn, to be given back. */
void turn_await(struct turn *turn, uint64_t ticket);

/* Asks and waits. */
void turn_take(struct turn *turn);
void turn_give_back(struct turn *turn);
