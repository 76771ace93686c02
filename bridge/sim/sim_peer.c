#include "bridge/sim/sim_peer.h"

#include <errno.h>
#include <string.h>

#include "bridge/sim/sim_bar.h"
#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_dmabuf.h"

/* With the lock of the device held, as the next one. */
static int check(const struct sim_peer *peer)
{
    if (peer->dmabuf && peer->dmabuf->revocations != peer->revocations)
        return -EFAULT;
    return sim_pci_memory_enabled(peer->dev) ? 0 : -EIO;
}

static int copy(const struct sim_peer *peer, uint64_t offset, void *buf, size_t len, bool write)
{
    int ret = check(peer);

    if (!ret)
        sim_bar_transfer(peer->dev, peer->bar, peer->start + offset, buf, len, write);
    else if (!write)
        memset(buf, 0, len);
    return ret;
}

int sim_peer_copy(const struct sim_peer *peer, uint64_t offset, void *buf, size_t len, bool write)
{
    int ret;

    if (pthread_mutex_trylock(&peer->dev->lock))
        return -EAGAIN;
    ret = copy(peer, offset, buf, len, write);
    pthread_mutex_unlock(&peer->dev->lock);
    return ret;
}
