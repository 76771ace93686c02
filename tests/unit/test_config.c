#include "server/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/config_map.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/unit/log_capture.h"

enum {
    MAX_ARGS = 24,
    /* A UNIX socket's path with its NUL. */
    MAX_PATH = 108,
};

#define BDF "0000:01:00.0"

static struct config config;
static struct log_capture capture;

/* A command line without blanks within words. Its strings live until the next one. */
static int parse(const char *line)
{
    static char words[512];
    char *argv[MAX_ARGS + 1] = {(char *)(uintptr_t) "vfio-userd"}, *rest = words;
    int argc = 1;

    snprintf(words, sizeof(words), "%s", line);
    for (char *word; (word = strsep(&rest, " "));) {
        if (*word) {
            assert_true(argc < MAX_ARGS);
            argv[argc++] = word;
        }
    }
    return config_parse(&config, argc, argv);
}

static int parse_args(char **argv)
{
    int argc = 0;

    while (argv[argc])
        argc++;
    return config_parse(&config, argc, argv);
}

static int teardown(void **state)
{
    (void)state;
    log_capture_drop(&capture);
    return 0;
}

static void test_dirty_policy(void **state)
{
    (void)state;
    assert_int_equal(parse("--help"), 0);
    assert_false(config.guess_dirty);
    assert_int_equal(parse("--help --dirty-policy all-writable"), 0);
    assert_true(config.guess_dirty);
    assert_int_equal(parse("--help --dirty-policy all-writable --dirty-policy exact"), 0);
    assert_false(config.guess_dirty);
}

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse("--help"), 0);
    assert_int_equal(config.n_exports, 0);
    assert_int_equal(config.socket_mode, 0600);
    assert_int_equal(config.log_level, LOG_INFO);
    assert_int_equal(config.busy_poll_us, 0);
    assert_int_equal(config.removal_grace, 10);
}

static void test_doorbells(void **state)
{
    const struct doorbell *b = config.exports[1].doorbells;

    (void)state;
    assert_int_equal(parse("--device sim:a --fd 3 --doorbell 0:0x1000:4:0x1 --device sim:b --fd 4 "
                           "--doorbell 5:8:8:0xffffffffffffffff --doorbell 5:8:4:0"),
                     0);
    assert_int_equal(config.exports[0].n_doorbells, 1);
    assert_int_equal(config.exports[0].doorbells[0].region, 0);
    assert_int_equal(config.exports[0].doorbells[0].offset, 0x1000);
    assert_int_equal(config.exports[0].doorbells[0].width, 4);
    assert_int_equal(config.exports[0].doorbells[0].data, 1);
    assert_int_equal(config.exports[1].n_doorbells, 2);
    assert_true(b[0].region == 5 && b[0].offset == 8 && b[0].width == 8 && b[0].data == UINT64_MAX);
    assert_true(b[1].region == 5 && b[1].offset == 8 && b[1].width == 4 && b[1].data == 0);
}

static void test_most_doorbells(void **state)
{
    char values[CONFIG_MAX_DOORBELLS + 1][24];
    char *argv[2 * CONFIG_MAX_DOORBELLS + 8] = {(char *)(uintptr_t) "vfio-userd",
                                                (char *)(uintptr_t) "--device=sim:a",
                                                (char *)(uintptr_t) "--fd=3"};

    (void)state;
    for (int i = 0; i <= CONFIG_MAX_DOORBELLS; i++) {
        snprintf(values[i], sizeof(values[i]), "0:0:4:%d", i);
        argv[3 + 2 * i] = (char *)(uintptr_t) "--doorbell";
        argv[4 + 2 * i] = values[i];
    }
    log_capture_start(&capture);
    assert_int_equal(parse_args(argv), -EINVAL);
    assert_non_null(strstr(log_capture_end(&capture), "--doorbell 0:0:4:16: more than 16"));
    argv[3 + 2 * CONFIG_MAX_DOORBELLS] = NULL;
    assert_int_equal(parse_args(argv), 0);
    assert_int_equal(config.exports[0].n_doorbells, CONFIG_MAX_DOORBELLS);
}

/* Each device has its own, and what is said later holds. */
static void test_config_policy(void **state)
{
    (void)state;
    assert_int_equal(parse("--device sim:a --fd 3 --config-deny vendor --config-allow vpd,aer "
                           "--device sim:b --fd 4 --device sim:c --fd 5 --config-allow bist,vpd "
                           "--config-deny unassigned,vpd"),
                     0);
    assert_int_equal(config.exports[0].config_denied, CONFIG_VENDOR | CONFIG_BIST);
    assert_int_equal(config.exports[1].config_denied, CONFIG_VPD | CONFIG_AER | CONFIG_BIST);
    assert_int_equal(config.exports[2].config_denied, CONFIG_VPD | CONFIG_AER | CONFIG_UNASSIGNED);
}

static const struct {
    const char *line;
    enum config_action action;
} actions[] = {
    {"--device " BDF " --socket-path /s", CONFIG_SERVE             },
    {"--device sim:edu --fd 3",           CONFIG_SERVE             },
    {"--help",                            CONFIG_HELP              },
    {"--version",                         CONFIG_VERSION           },
    {"--print-capabilities",              CONFIG_PRINT_CAPABILITIES},
 /* With an action of its own nothing need be complete, but all must be sound. */
    {"--socket-path /s --version",        CONFIG_VERSION           },
    {"--help --log-level debug",          CONFIG_HELP              },
    {"--version --help",                  CONFIG_HELP              },
    {"--device=" BDF " --socket-path=/s", CONFIG_SERVE             },
    {"--socket-path /s --device " BDF,    CONFIG_SERVE             },
};

static void test_actions(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (parse(actions[i].line))
            fail_msg("refused: %s", actions[i].line);
        assert_int_equal(config.action, actions[i].action);
    }
}

static const struct {
    const char *line;
    const char *log; /* a part of it */
} refused[] = {
    {"",                                                                  "nothing to export"                              },
    {"--log-level info",                                                  "nothing to export"                              },
    {"--device " BDF,                                                     "--device " BDF " has no --socket-path"          },
    {"--socket-path /s",                                                  "number 1 has no --device"                       },
    {"--fd 3",                                                            "number 1 has no --device"                       },
    {"--device " BDF " --socket-path /s --fd 4",                          "number 2 has no --device"                       },
    {"--device sim:a --device sim:b --socket-path /s",                    "--device sim:b has no --socket-path"            },

    {"--doorbell 0:0:4:1 --device sim:a --fd 3",                          "--doorbell 0:0:4:1: it comes after"             },
    {"--device sim:a --fd 3 --doorbell 6:0:4:1",                          "--doorbell 6:0:4:1: not REGION:OFFSET"          },
    {"--device sim:a --fd 3 --doorbell 0:2:4:1",                          "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell 0:0:3:1",                          "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell 0:0:16:1",                         "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell 0:0:0:1",                          "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell 0:0:1:256",                        "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell 0:0:4",                            "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell 0:0:4:",                           "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell 0:0:4:1:",                         "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell 0:-4:4:1",                         "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell 0:0:4:0x10000000000000000",        "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell=",                                 "not REGION:OFFSET"                              },
    {"--device sim:a --fd 3 --doorbell 0:0x10:4:1 --doorbell 0:16:4:0x1",
     "--doorbell 0:16:4:0x1 is given twice"                                                                                },

    {"--config-deny vpd --device sim:a --fd 3",                           "--config-deny vpd: it comes after the --device" },
    {"--config-allow aer",                                                "--config-allow aer: it comes after the --device"},
    {"--device sim:a --fd 3 --config-deny rom",                           "--config-deny rom: not a list of vpd, vendor"   },
    {"--device sim:a --fd 3 --config-deny vpd,",                          "--config-deny vpd,: not a list"                 },
    {"--device sim:a --fd 3 --config-allow vpd,,aer",                     "--config-allow vpd,,aer: not a list"            },
    {"--device sim:a --fd 3 --config-allow=",                             "--config-allow : not a list"                    },

    {"--device 01:00.0 --socket-path /s",                                 "--device 01:00.0: neither a PCI address"        },
    {"--device edu --socket-path /s",                                     "--device edu: neither"                          },
    {"--device simulated --socket-path /s",                               "--device simulated: neither"                    },
    {"--device= --socket-path /s",                                        "--device : neither"                             },
    {"--device sim:edu --socket-path=",                                   "--socket-path: 0 bytes"                         },

    {"--device sim:edu --fd x",                                           "--fd x: not a number from 0 to 1048576"         },
    {"--device sim:edu --fd -1",                                          "--fd -1: not a number"                          },
    {"--device sim:edu --fd 1048577",                                     "--fd 1048577: not a number"                     },
    {"--device sim:edu --fd 3x",                                          "--fd 3x: not a number"                          },
    {"--device sim:edu --fd +3",                                          "--fd +3: not a number"                          },
    {"--device sim:edu --fd=",                                            "--fd : not a number"                            },
    {"--device sim:edu --fd 99999999999999999999",                        "not a number"                                   },
    {"--device sim:edu --fd -18446744073709551613",                       "not a number"                                   },
    {"--socket-mode 888",                                                 "--socket-mode 888: not an octal number"         },
    {"--socket-mode 1000",                                                "--socket-mode 1000: not an octal"               },
    {"--socket-mode rw",                                                  "not an octal number up to 777"                  },
    {"--busy-poll 1000001",                                               "--busy-poll 1000001: not a number"              },
    {"--removal-grace 3601",                                              "--removal-grace 3601: not a number"             },
    {"--busy-poll 1.5",                                                   "--busy-poll 1.5: not a number"                  },
    {"--iommu type2",                                                     "--iommu type2: not one of"                      },
    {"--dirty-policy some",                                               "--dirty-policy some: not one of"                },
    {"--iommu=",                                                          "--iommu : not one of"                           },
    {"--log-level loud",                                                  "--log-level loud: not one of"                   },
    {"--log-level=",                                                      "--log-level : not one of"                       },

    {"--device",                                                          "--device: its value is missing"                 },
    {"--version --log-level",                                             "--log-level: its value is missing"              },
    {"--nonsense",                                                        "--nonsense: no such option"                     },
    {"--so x",                                                            "--so: no such option"                           },
    {"--help=yes",                                                        "--help=yes: no such option"                     },
    {"-h",                                                                "-h: no such option"                             },
    {"--device sim:edu --socket-path /s more",                            "more: not an option"                            },
    {"--version -- --help",                                               "--help: not an option"                          },
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        const char *log, *newline;
        int ret;

        log_capture_start(&capture);
        ret = parse(refused[i].line);
        log = log_capture_end(&capture);
        newline = strchr(log, '\n');
        if (ret != -EINVAL)
            fail_msg("%d: %s", ret, refused[i].line);
        if (!newline || newline[1])
            fail_msg("not one line of log: %s: %s", refused[i].line, log);
        if (!strstr(log, refused[i].log))
            fail_msg("of %s it is said: %s", refused[i].line, log);
    }
}

static void assert_export(size_t i, const char *device, const char *path, int fd)
{
    const struct export_config *e = &config.exports[i];

    assert_string_equal(e->device, device);
    assert_int_equal(e->fd, fd);
    if (path)
        assert_string_equal(e->socket_path, path);
    else
        assert_null(e->socket_path);
}

/* Each fills the first export that lacks it, whatever the order. */
static void test_pairs(void **state)
{
    (void)state;
    assert_int_equal(parse("--device sim:a --socket-path /a --fd 7 --device sim:b --device sim:c "
                           "--socket-path /c"),
                     0);
    assert_int_equal(config.n_exports, 3);
    assert_export(0, "sim:a", "/a", -1);
    assert_export(1, "sim:b", NULL, 7);
    assert_export(2, "sim:c", "/c", -1);

    assert_int_equal(parse("--socket-path /a --socket-path /b --device sim:a --device sim:b"), 0);
    assert_int_equal(config.n_exports, 2);
    assert_export(0, "sim:a", "/a", -1);
    assert_export(1, "sim:b", "/b", -1);

    assert_int_equal(parse("--fd 0 --device sim:a"), 0);
    assert_export(0, "sim:a", NULL, 0);
}

static void test_values(void **state)
{
    (void)state;
    assert_int_equal(parse("--version --socket-mode 0 --busy-poll 1000000 --log-level error"), 0);
    assert_int_equal(config.socket_mode, 0);
    assert_int_equal(config.busy_poll_us, 1000000);
    assert_int_equal(config.log_level, LOG_ERROR);
    assert_int_equal(parse("--version --socket-mode 0777 --busy-poll 0 --log-level debug"), 0);
    assert_int_equal(config.socket_mode, 0777);
    assert_int_equal(config.busy_poll_us, 0);
    assert_int_equal(config.log_level, LOG_DEBUG);
    assert_int_equal(config.iommu, CONFIG_IOMMU_AUTO);
    assert_int_equal(parse("--version --removal-grace 0"), 0);
    assert_int_equal(config.removal_grace, 0);
    assert_int_equal(parse("--version --removal-grace 3600"), 0);
    assert_int_equal(config.removal_grace, 3600);
    assert_int_equal(parse("--version --iommu type1"), 0);
    assert_int_equal(config.iommu, CONFIG_IOMMU_TYPE1);
    assert_int_equal(parse("--version --iommu iommufd"), 0);
    assert_int_equal(config.iommu, CONFIG_IOMMU_IOMMUFD);
    assert_int_equal(parse("--version --iommu spapr"), 0);
    assert_int_equal(config.iommu, CONFIG_IOMMU_SPAPR);
    assert_int_equal(parse("--version --iommu iommufd --iommu auto"), 0);
    assert_int_equal(config.iommu, CONFIG_IOMMU_AUTO);
    /* The last one counts. */
    assert_int_equal(parse("--version --socket-mode 600 --socket-mode 660"), 0);
    assert_int_equal(config.socket_mode, 0660);
}

static void test_longest_path(void **state)
{
    char path[MAX_PATH + 1] = "/";
    char *argv[] = {(char *)(uintptr_t) "vfio-userd", (char *)(uintptr_t) "--device=sim:edu",
                    (char *)(uintptr_t) "--socket-path", path, NULL};

    (void)state;
    memset(path + 1, 'a', MAX_PATH - 2);
    assert_int_equal(parse_args(argv), 0);
    assert_string_equal(config.exports[0].socket_path, path);
    path[MAX_PATH - 1] = 'a';
    assert_int_equal(parse_args(argv), -EINVAL);
}

static void test_number_with_blanks(void **state)
{
    static const char *const values[] = {"--fd= 3", "--fd=3 ", "--fd=\t3",
                                         "--fd= -18446744073709551613"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        char *argv[] = {(char *)(uintptr_t) "vfio-userd", (char *)(uintptr_t) "--device=sim:edu",
                        (char *)(uintptr_t)values[i], NULL};

        assert_int_equal(parse_args(argv), -EINVAL);
    }
}

/* As many exports as there may be, and one more. */
static void test_most_exports(void **state)
{
    char *argv[2 * CONFIG_MAX_EXPORTS + 3] = {(char *)(uintptr_t) "vfio-userd"};
    int argc = 1;

    (void)state;
    for (int i = 0; i < CONFIG_MAX_EXPORTS; i++) {
        argv[argc++] = (char *)(uintptr_t) "--device=sim:edu";
        argv[argc++] = (char *)(uintptr_t) "--socket-path=/s";
    }
    assert_int_equal(config_parse(&config, argc, argv), 0);
    assert_int_equal(config.n_exports, CONFIG_MAX_EXPORTS);
    argv[argc++] = (char *)(uintptr_t) "--device=sim:edu";
    assert_int_equal(config_parse(&config, argc, argv), -EINVAL);
    argv[argc - 1] = (char *)(uintptr_t) "--fd=3";
    assert_int_equal(config_parse(&config, argc, argv), -EINVAL);
    argv[argc - 1] = (char *)(uintptr_t) "--socket-path=/s";
    assert_int_equal(config_parse(&config, argc, argv), -EINVAL);
}

/* Every option of the table is in the help, and the program knows what its help says. */
static void test_help(void **state)
{
    static const char *const options[] = {"device",       "socket-path", "fd",
                                          "socket-mode",  "busy-poll",   "iommu",
                                          "dirty-policy", "log-level",   "print-capabilities",
                                          "version",      "help"};
    cleanup_free_ char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    config_print_help(out);
    assert_int_equal(fclose(out), 0);
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        char line[64];

        snprintf(line, sizeof(line), "\n  --%s", options[i]);
        assert_non_null(strstr(text, line));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_dirty_policy),
        cmocka_unit_test(test_actions),
        cmocka_unit_test_teardown(test_refused, teardown),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_longest_path),
        cmocka_unit_test(test_number_with_blanks),
        cmocka_unit_test(test_most_exports),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_config_policy),
        cmocka_unit_test(test_doorbells),
        cmocka_unit_test_teardown(test_most_doorbells, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
