/*
 * VF tokens: their form, and the way of one to the kernel by either interface. The kernel is the
 * simulated one, with a physical function and a virtual one of it.
 */
#include "bridge/vf_token.h"

#include "bridge/device.h"
#include "proto/base/arith.h"
#include "tests/unit/log_capture.h"
#include "tests/unit/own_address_space.h"
#include "tests/unit/sim_fixture.h"

#define TOKEN "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3"
#define OTHER "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f4"

static struct log_capture capture;

static void form(void **state)
{
    static const char *const bad[] = {
        "",
        TOKEN "0",
        " " TOKEN,
        "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f",
        "bd8d9d2b-5a5f-4f5a-a211f-591514ba1f3",
        "bd8d9d2bx5a5f-4f5a-a211-f591514ba1f3",
        "gd8d9d2b-5a5f-4f5a-a211-f591514ba1f3",
        "{d8d9d2b-5a5f-4f5a-a211-f591514ba1f}",
    };

    (void)state;
    assert_true(vf_token_is_valid(TOKEN));
    assert_true(vf_token_is_valid("BD8D9D2B-5A5F-4F5A-A211-F591514BA1F3"));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (vf_token_is_valid(bad[i]))
            fail_msg("taken for a UUID: '%s'", bad[i]);
    }
}

static void bytes(void **state)
{
    static const uint8_t expected[] = {0xbd, 0x8d, 0x9d, 0x2b, 0x5a, 0x5f, 0x4f, 0x5a,
                                       0xa2, 0x11, 0xf5, 0x91, 0x51, 0x4b, 0xa1, 0xf3};
    uint8_t got[VF_TOKEN_BYTES];

    (void)state;
    vf_token_bytes(TOKEN, got);
    assert_memory_equal(got, expected, sizeof(got));
    vf_token_bytes("BD8D9D2B-5A5F-4F5A-A211-F591514BA1F3", got);
    assert_memory_equal(got, expected, sizeof(got));
}

/* A function that is open, and what it is open in. */
struct opened {
    struct address_space *as;
    struct device *dev;
};

static char vf[16];

static int setup(void **state)
{
    struct fixture *fx;

    fx_setup(state);
    fx = *state;
    assert_int_equal(sim_add_device(fx->sim, "edu", vf, sizeof(vf)), 0);
    assert_int_equal(sim_set_virtual_function(fx->sim, vf, fx->bdf), 0);
    return 0;
}

static int teardown(void **state)
{
    log_capture_drop(&capture);
    return fx_teardown(state);
}

static int open_function(struct fixture *fx, const char *bdf, enum iommu_kind kind,
                         const char *token, struct opened *o)
{
    struct sysfs_device where;
    int ret;

    *o = (struct opened){0};
    assert_int_equal(sysfs_find_device(fx->host, bdf, &where), 0);
    assert_string_equal(where.vf_token, "");
    snprintf(where.vf_token, sizeof(where.vf_token), "%s", token);
    assert_int_equal(own_address_space(fx->host, kind, &o->as), 0);
    ret = device_open(&o->dev, fx->host, o->as, &where);
    if (ret)
        address_space_destroy(o->as);
    return ret;
}

static void close_function(struct opened *o)
{
    device_close(o->dev);
    address_space_destroy(o->as);
}

static void assert_refused(struct fixture *fx, const char *bdf, enum iommu_kind kind,
                           const char *token, int err, const char *text)
{
    struct opened none;
    const char *log;
    int ret;

    log_capture_start(&capture);
    ret = open_function(fx, bdf, kind, token, &none);
    log = log_capture_end(&capture);
    assert_int_equal(ret, err);
    if (!strstr(log, text) || strchr(log, '\n') != log + strlen(log) - 1)
        fail_msg("not the one line with '%s': %s", text, log);
}

static void shared_by_functions(void **state)
{
    static const enum iommu_kind kinds[] = {IOMMU_TYPE1, IOMMU_IOMMUFD};
    struct fixture *fx = *state;
    struct opened pf, opened;

    /* Each interface has its own form of the token, which has to come out the same. */
    for (size_t i = 0; i < 4; i++) {
        enum iommu_kind kind = kinds[i & 1];

        assert_int_equal(open_function(fx, fx->bdf, kinds[i >> 1], TOKEN, &pf), 0);
        assert_refused(fx, vf, kind, "", -EACCES, "without the VF token");
        assert_refused(fx, vf, kind, OTHER, -EACCES, "--vf-token is not the token");
        assert_int_equal(open_function(fx, vf, kind, TOKEN, &opened), 0);
        assert_int_equal(device_reopen(opened.dev), 0);
        close_function(&pf);

        /* While a VF is in use the PF's user has to know it too. */
        assert_refused(fx, fx->bdf, kind, "", -EACCES, "without the VF token");
        assert_refused(fx, fx->bdf, kind, OTHER, -EACCES, "--vf-token is not the token");
        assert_int_equal(open_function(fx, fx->bdf, kind, TOKEN, &pf), 0);
        close_function(&pf);
        close_function(&opened);
    }
    /* And sets it anew afterwards. */
    assert_int_equal(open_function(fx, fx->bdf, IOMMU_TYPE1, OTHER, &pf), 0);
    assert_int_equal(open_function(fx, vf, IOMMU_IOMMUFD, OTHER, &opened), 0);
    close_function(&opened);
    close_function(&pf);
}

static void not_wanted(void **state)
{
    struct fixture *fx = *state;
    struct opened opened;
    char plain[16];

    assert_int_equal(sim_add_device(fx->sim, "edu", plain, sizeof(plain)), 0);
    assert_refused(fx, plain, IOMMU_TYPE1, TOKEN, -EINVAL, "it takes no VF token");
    assert_refused(fx, plain, IOMMU_IOMMUFD, TOKEN, -EINVAL, "it takes no VF token");
    /* Where the PF has its native driver nobody asks. */
    assert_int_equal(sim_set_driver(fx->sim, fx->bdf, "igb"), 0);
    assert_refused(fx, vf, IOMMU_TYPE1, TOKEN, -EINVAL, "it takes no VF token");
    assert_int_equal(open_function(fx, vf, IOMMU_IOMMUFD, "", &opened), 0);
    close_function(&opened);
}

static void not_known_to_the_kernel(void **state)
{
    struct fixture *fx = *state;
    struct opened opened;

    sim_set_iommufd(fx->sim, SIM_IOMMUFD_MAP);
    assert_refused(fx, fx->bdf, IOMMU_IOMMUFD, TOKEN, -EINVAL, "--iommu type1 does");
    assert_int_equal(open_function(fx, fx->bdf, IOMMU_IOMMUFD, "", &opened), 0);
    close_function(&opened);
}

/* What the bridge does not send. */
static void options(void **state)
{
    static const char *const bad[] = {
        " vf_token",
        " vf_token=",
        " vf_token=" TOKEN "x",
        " vf_token=bd8d9d2b",
        " other=" TOKEN,
        " vf_token=" TOKEN " vf_token=" TOKEN,
        " vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1fx",
        " vf_token=bd8d9d2b.5a5f-4f5a-a211-f591514ba1f3",
    };
    struct fixture *fx = *state;
    char name[128];

    fx_open_group(fx, VFIO_TYPE1v2_IOMMU);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(name, sizeof(name), "%s%s", fx->bdf, bad[i]);
        assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_GET_DEVICE_FD, name), -EINVAL);
    }
    snprintf(name, sizeof(name), "%s  vf_token=%s ", fx->bdf, TOKEN);
    fx->device = fx_ioctl(fx, fx->group, VFIO_GROUP_GET_DEVICE_FD, name);
    assert_true(fx->device >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(form),
        cmocka_unit_test(bytes),
        cmocka_unit_test_setup_teardown(shared_by_functions, setup, teardown),
        cmocka_unit_test_setup_teardown(not_wanted, setup, teardown),
        cmocka_unit_test_setup_teardown(not_known_to_the_kernel, setup, teardown),
        cmocka_unit_test_setup_teardown(options, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
