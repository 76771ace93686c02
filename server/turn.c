#include "server/turn.h"

void turn_init(struct turn *turn)
{
    turn->asked = turn->now = 0;
    pthread_mutex_init(&turn->lock, NULL);
    pthread_cond_init(&turn->next, NULL);
}

void turn_destroy(struct turn *turn)
{
    turn_take(turn);
    turn_give_back(turn);
    pthread_cond_destroy(&turn->next);
    pthread_mutex_destroy(&turn->lock);
}

static void await(struct turn *turn, uint64_t ticket)
{
    while (turn->now != ticket)
        pthread_cond_wait(&turn->next, &turn->lock);
}

uint64_t turn_ask(struct turn *turn)
{
    uint64_t ticket;

    pthread_mutex_lock(&turn->lock);
    ticket = turn->asked++;
    pthread_mutex_unlock(&turn->lock);
    return ticket;
}

void turn_await(struct turn *turn, uint64_t ticket)
{
    pthread_mutex_lock(&turn->lock);
    await(turn, ticket);
    pthread_mutex_unlock(&turn->lock);
}

void turn_take(struct turn *turn)
{
    pthread_mutex_lock(&turn->lock);
    await(turn, turn->asked++);
    pthread_mutex_unlock(&turn->lock);
}

void turn_give_back(struct turn *turn)
{
    pthread_mutex_lock(&turn->lock);
    if (++turn->now != turn->asked)
        pthread_cond_broadcast(&turn->next);
    pthread_mutex_unlock(&turn->lock);
}
