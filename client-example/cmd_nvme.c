/*
 * vfuc nvme: the same reads and writes of blocks twice, by a controller that is brought up and
 * shut down each time: once with its queues polled, once with MSI-X interrupts on eventfds.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/cmd.h"
#include "client-example/event.h"
#include "client-example/nvme.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

/* What is done with one block. Without text it is read and that is all. */
struct job {
    bool write;
    uint64_t lba;
    const char *text;
};

struct plan {
    bool interrupts;
    bool doorbells; /* some are to be rung by their eventfds */
    size_t count;
    struct job *jobs;
};

/* One time through the plan. */
struct pass {
    struct nvme *n;
    const char *name;
    struct nvme_namespace ns;
};

static int fail(const struct pass *p, int err, const char *what)
{
    uint16_t status = p->n ? nvme_status(p->n) : 0;

    if (err == -EIO && status)
        return cmd_fail(0, "%s: %s: the controller's status is type %u, code 0x%02x", p->name, what,
                        status >> 8, status & 0xff);
    return cmd_fail(err, "%s: %s", p->name, what);
}

static int fail_job(const struct pass *p, int err, const struct job *job, const char *what)
{
    char text[64];

    snprintf(text, sizeof(text), "%s LBA %" PRIu64, what, job->lba);
    return fail(p, err, text);
}

static int write_block(const struct pass *p, const struct job *job)
{
    uint8_t block[NVME_MAX_BLOCK] = {0}, back[NVME_MAX_BLOCK];
    int ret;

    memcpy(block, job->text, strlen(job->text));
    ret = nvme_write(p->n, job->lba, block, p->ns.block_size);
    if (ret)
        return fail_job(p, ret, job, "writing");
    ret = nvme_read(p->n, job->lba, back, p->ns.block_size);
    if (ret)
        return fail_job(p, ret, job, "reading back");
    if (memcmp(block, back, p->ns.block_size))
        return fail_job(p, 0, job, "what was read back differs from what was written:");
    return cmd_ok("%s: wrote \"%s\" to LBA %" PRIu64 ", read back the same block", p->name,
                  job->text, job->lba);
}

static int read_block(const struct pass *p, const struct job *job)
{
    uint8_t block[NVME_MAX_BLOCK];
    int ret = nvme_read(p->n, job->lba, block, p->ns.block_size);

    if (ret)
        return fail_job(p, ret, job, "reading");
    if (!job->text)
        return cmd_ok("%s: read LBA %" PRIu64, p->name, job->lba);
    if (memcmp(block, job->text, strlen(job->text)))
        return cmd_fail(0, "%s: LBA %" PRIu64 " does not begin with \"%s\"", p->name, job->lba,
                        job->text);
    return cmd_ok("%s: LBA %" PRIu64 " begins with \"%s\"", p->name, job->lba, job->text);
}

static int run_job(const struct pass *p, const struct job *job)
{
    if (job->lba >= p->ns.blocks)
        return cmd_fail(0, "%s: LBA %" PRIu64 " is beyond the namespace", p->name, job->lba);
    if (job->text && strlen(job->text) > p->ns.block_size)
        return cmd_fail(0, "%s: the text is longer than a block", p->name);
    return job->write ? write_block(p, job) : read_block(p, job);
}

static int identify(struct pass *p)
{
    struct nvme_identity id;
    int ret = nvme_identify(p->n, &id, &p->ns);

    if (ret)
        return fail(p, ret, "identifying");
    cmd_ok("%s: NVMe %u.%u, model \"%s\", serial \"%s\"", p->name, id.version_major,
           id.version_minor, id.model, id.serial);
    return cmd_ok("%s: namespace 1 has %" PRIu64 " blocks of %u bytes", p->name, p->ns.blocks,
                  p->ns.block_size);
}

static int use_controller(struct pass *p, const struct plan *plan)
{
    int ret;

    if (identify(p))
        return CMD_FAILED;
    ret = nvme_create_io_queues(p->n);
    if (ret)
        return fail(p, ret, "creating the I/O queues");
    cmd_ok("%s: one pair of I/O queues created", p->name);
    for (size_t i = 0; i < plan->count; i++) {
        if (run_job(p, &plan->jobs[i]))
            return CMD_FAILED;
    }
    ret = nvme_delete_io_queues(p->n);
    if (ret)
        return fail(p, ret, "deleting the I/O queues");
    ret = nvme_shutdown(p->n);
    if (ret)
        return fail(p, ret, "shutting the controller down");
    return cmd_ok("%s: I/O queues deleted, controller shut down and disabled", p->name);
}

static int check_rung(const struct pass *p)
{
    if (!nvme_rung(p->n))
        return cmd_fail(0, "%s: no doorbell was rung by an eventfd", p->name);
    return cmd_ok("%s: doorbells rung by their eventfds: %u, and the commands completed", p->name,
                  nvme_rung(p->n));
}

static int run_pass(struct vfuc *c, const char *name, const int *events,
                    const struct vfuc_io_fds *bells, const struct plan *plan)
{
    struct pass p = {.name = name};
    int ret = nvme_open(&p.n, c, events);

    if (ret)
        return fail(&p, ret, "enabling the controller");
    cmd_ok("%s: controller enabled", name);
    if (plan->doorbells)
        nvme_use_doorbells(p.n, bells);
    ret = use_controller(&p, plan);
    if (!ret && plan->doorbells)
        ret = check_rung(&p);
    nvme_close(p.n);
    return ret;
}

static int run_with_events(struct vfuc *c, const int events[NVME_NUM_VECTORS],
                           const struct vfuc_io_fds *bells, const struct plan *plan)
{
    int ret = vfuc_set_irqs(c, VFIO_PCI_MSIX_IRQ_INDEX,
                            VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER, 0,
                            NVME_NUM_VECTORS, events, NULL);

    if (ret)
        return cmd_fail(ret, "MSI-X: setting the eventfds");
    if (run_pass(c, "MSI-X", events, bells, plan))
        return CMD_FAILED;
    ret = vfuc_irq_disable(c, VFIO_PCI_MSIX_IRQ_INDEX);
    return ret ? cmd_fail(ret, "MSI-X: disabling") : cmd_ok("MSI-X: disabled");
}

static int run_with_interrupts(struct vfuc *c, const struct vfuc_io_fds *bells,
                               const struct plan *plan)
{
    cleanup_close_ int admin = event_create();
    cleanup_close_ int io = event_create();
    struct vfio_user_irq_info info;
    int ret = vfuc_irq_info(c, VFIO_PCI_MSIX_IRQ_INDEX, &info);

    if (ret)
        return cmd_fail(ret, "asking for MSI-X");
    if (info.count < NVME_NUM_VECTORS)
        return cmd_skip("MSI-X: the device offers %u vectors", info.count);
    if (admin < 0 || io < 0)
        return cmd_error(admin < 0 ? admin : io, "creating an eventfd");
    return run_with_events(c, (const int[]){[NVME_ADMIN_VECTOR] = admin, [NVME_IO_VECTOR] = io},
                           bells, plan);
}

static int check_class(struct vfuc *c)
{
    uint32_t raw = 0; /* base class, subclass, programming interface, revision */
    int ret =
        vfuc_region_read(c, VFIO_PCI_CONFIG_REGION_INDEX, PCI_CLASS_REVISION, &raw, sizeof(raw));

    if (ret)
        return cmd_fail(ret, "reading the config space");
    if (le32toh(raw) >> 8 != 0x010802)
        return cmd_fail(0, "class %06x is no NVMe controller (010802)", le32toh(raw) >> 8);
    return CMD_OK;
}

static int run_plan(struct vfuc *c, const struct plan *plan)
{
    /* The polled controller has no one to take its INTx. */
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE;
    cleanup_(vfuc_io_fds_free) struct vfuc_io_fds bells = {0};
    int ret;

    if (check_class(c))
        return CMD_FAILED;
    ret = cmd_update_command(c, command, 0);
    if (ret)
        return cmd_fail(ret, "setting Mem+ BusMaster+ DisINTx+ in the COMMAND register");
    if (plan->doorbells)
        ret = vfuc_region_io_fds(c, VFIO_PCI_BAR0_REGION_INDEX, &bells);
    if (ret)
        return cmd_fail(ret, "asking for the doorbells");
    ret = run_pass(c, "polled", NULL, &bells, plan);
    if (!ret && plan->interrupts)
        ret = run_with_interrupts(c, &bells, plan);
    return ret;
}

/* "LBA:TEXT" */
static int parse_job(const char *text, struct job *job)
{
    const char *colon = strchr(text, ':');
    char number[32];

    if (!colon || colon - text >= (ptrdiff_t)sizeof(number))
        return -EINVAL;
    memcpy(number, text, (size_t)(colon - text));
    number[colon - text] = '\0';
    job->text = colon + 1;
    return cmd_parse_number(number, &job->lba);
}

static int parse_plan(int argc, char **argv, struct plan *plan)
{
    for (int i = 0; i < argc; i++) {
        struct job *job = &plan->jobs[plan->count];

        if (!strcmp(argv[i], "--no-irq")) {
            plan->interrupts = false;
            continue;
        }
        if (!strcmp(argv[i], "--doorbell")) {
            plan->doorbells = true;
            continue;
        }
        if (strcmp(argv[i], "--expect") && strcmp(argv[i], "--write"))
            return cmd_usage("nvme: \"%s\" is unknown", argv[i]);
        job->write = !strcmp(argv[i], "--write");
        if (i + 1 == argc || parse_job(argv[i + 1], job))
            return cmd_usage("nvme: %s takes LBA:TEXT", argv[i]);
        plan->count++;
        i++;
    }
    if (!plan->count)
        plan->jobs[plan->count++] = (struct job){0};
    return CMD_OK;
}

int cmd_nvme(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    cleanup_free_ struct job *jobs = calloc((size_t)argc + 1, sizeof(*jobs));
    struct plan plan = {.interrupts = true, .jobs = jobs};
    int ret;

    if (!jobs)
        return cmd_error(-ENOMEM, "nvme");
    ret = parse_plan(argc, argv, &plan);
    if (!ret)
        ret = cmd_connect(target, &c);
    return ret ? ret : run_plan(c, &plan);
}
