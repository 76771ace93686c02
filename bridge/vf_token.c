#include "bridge/vf_token.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "proto/base/log.h"

static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

bool vf_token_is_valid(const char *text)
{
    if (strlen(text) != sizeof(form) - 1)
        return false;
    for (size_t i = 0; form[i]; i++) {
        if (form[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != form[i])
            return false;
    }
    return true;
}

static unsigned digit(char c)
{
    return (unsigned)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
}

void vf_token_bytes(const char *text, uint8_t bytes[VF_TOKEN_BYTES])
{
    for (size_t i = 0; i < VF_TOKEN_BYTES; text += 2) {
        text += *text == '-';
        bytes[i++] = (uint8_t)(digit(text[0]) << 4 | digit(text[1]));
    }
}

bool vf_token_explain(const struct sysfs_device *dev, int ret, const char *also)
{
    if (ret == -EACCES && dev->vf_token[0])
        log_error("the kernel refuses %s: --vf-token is not the token of its physical function",
                  dev->name);
    else if (ret == -EACCES)
        log_error("the kernel refuses %s without the VF token of its physical function, which is "
                  "vfio-pci's too, or which has virtual functions in use: --vf-token",
                  dev->name);
    else if (ret == -EINVAL && dev->vf_token[0])
        log_error("the kernel refuses %s: it takes no VF token (it is no function of an SR-IOV "
                  "device whose physical function is vfio-pci's), or %s",
                  dev->name, also);
    else
        return false;
    return true;
}
