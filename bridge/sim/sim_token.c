#include "bridge/sim/sim_token.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "bridge/sim/sim_device.h"

enum {
    UUID_LEN = 36,
};

static const char option[] = "vf_token=";

/* A VF's counts only where vfio-pci has the PF too. */
static struct sim_device *trusted_pf(const struct sim_device *dev)
{
    struct sim_device *pf = dev->token.pf;

    return pf && sim_device_has_driver(pf, "vfio-pci") ? pf : NULL;
}

static int check(const struct sim_token *token, const uint8_t *uuid)
{
    return uuid && !memcmp(uuid, token->uuid, SIM_TOKEN_BYTES) ? 0 : -EACCES;
}

int sim_token_match(struct sim_device *dev, const uint8_t *uuid)
{
    const struct sim_device *pf = trusted_pf(dev);

    if (pf)
        return check(&pf->token, uuid);
    if (!dev->token.is_pf)
        return uuid ? -EINVAL : 0;
    if (dev->token.users)
        return check(&dev->token, uuid);
    if (uuid)
        memcpy(dev->token.uuid, uuid, SIM_TOKEN_BYTES);
    return 0;
}

static uint8_t digit(char c)
{
    return (uint8_t)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
}

static int parse_uuid(const char *text, uint8_t uuid[SIM_TOKEN_BYTES])
{
    size_t n = 0;

    if (strlen(text) < UUID_LEN)
        return -EINVAL;
    for (size_t i = 0; i < UUID_LEN;) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text[i++] != '-')
                return -EINVAL;
            continue;
        }
        if (!isxdigit((unsigned char)text[i]) || !isxdigit((unsigned char)text[i + 1]))
            return -EINVAL;
        uuid[n++] = (uint8_t)(digit(text[i]) << 4 | digit(text[i + 1]));
        i += 2;
    }
    return 0;
}

int sim_token_match_options(struct sim_device *dev, const char *options)
{
    uint8_t uuid[SIM_TOKEN_BYTES];
    bool given = false;

    while (*(options += strspn(options, " "))) {
        if (given || strncmp(options, option, sizeof(option) - 1) ||
            parse_uuid(options + sizeof(option) - 1, uuid))
            return -EINVAL;
        given = true;
        options += sizeof(option) - 1 + UUID_LEN;
    }
    return sim_token_match(dev, given ? uuid : NULL);
}

void sim_token_opened(struct sim_device *dev)
{
    struct sim_device *pf = trusted_pf(dev);

    if (pf)
        pf->token.users++;
}

void sim_token_closed(struct sim_device *dev)
{
    struct sim_device *pf = trusted_pf(dev);

    if (pf)
        pf->token.users--;
}
