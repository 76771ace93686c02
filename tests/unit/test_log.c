#include "proto/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/fd_leak.h"

/* What the code under test wrote to stderr since capture_start(). */
static struct {
    int file;
    int saved;
    char text[1 << 18];
} capture;

static void capture_start(void)
{
    capture.file = memfd_create("stderr", MFD_CLOEXEC);
    capture.saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(capture.file >= 0 && capture.saved >= 0);
    /* The kernel serialises the position of opened files, but not that of a memfd. */
    assert_int_equal(fcntl(capture.file, F_SETFL, O_APPEND), 0);
    assert_int_equal(dup2(capture.file, STDERR_FILENO), STDERR_FILENO);
}

static const char *capture_end(void)
{
    ssize_t n;

    assert_int_equal(dup2(capture.saved, STDERR_FILENO), STDERR_FILENO);
    n = pread(capture.file, capture.text, sizeof(capture.text) - 1, 0);
    assert_true(n >= 0);
    capture.text[n] = '\0';
    fd_close(&capture.file);
    fd_close(&capture.saved);
    return capture.text;
}

static size_t count_lines(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static int setup(void **state)
{
    log_set_level(LOG_INFO);
    log_set_context(NULL);
    return fd_leak_setup(state);
}

static void test_lines(void **state)
{
    (void)state;
    capture_start();
    log_error("one %d", 1);
    log_warning("two %s", "2");
    log_info("three");
    log_debug("four");
    assert_string_equal(capture_end(), "vfio-userd: error: one 1\n"
                                       "vfio-userd: warning: two 2\n"
                                       "vfio-userd: info: three\n");
}

static void test_levels(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    assert_true(log_enabled(LOG_ERROR));
    assert_false(log_enabled(LOG_WARNING));
    capture_start();
    log_warning("no");
    log_peer_warning("no");
    log_error("yes");
    log_set_level(LOG_DEBUG);
    log_debug("yes");
    assert_string_equal(capture_end(), "vfio-userd: error: yes\nvfio-userd: debug: yes\n");
}

static void test_level_parse(void **state)
{
    enum log_level level = LOG_INFO;

    (void)state;
    assert_true(log_level_parse("error", &level));
    assert_int_equal(level, LOG_ERROR);
    assert_true(log_level_parse("warning", &level));
    assert_int_equal(level, LOG_WARNING);
    assert_true(log_level_parse("info", &level));
    assert_int_equal(level, LOG_INFO);
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_false(log_level_parse("", &level));
    assert_false(log_level_parse("Error", &level));
    assert_false(log_level_parse("err", &level));
    assert_int_equal(level, LOG_DEBUG);
}

static void test_context(void **state)
{
    (void)state;
    capture_start();
    log_set_context("0000:01:00.0");
    log_info("a");
    log_set_context(NULL);
    log_info("b");
    assert_string_equal(capture_end(), "vfio-userd: info: [0000:01:00.0] a\nvfio-userd: info: b\n");
}

static void test_errno_is_kept(void **state)
{
    (void)state;
    capture_start();
    close(STDERR_FILENO); /* so that writing a line fails */
    errno = ENODEV;
    log_error("x");
    assert_int_equal(errno, ENODEV);
    log_peer_warning("x");
    assert_int_equal(errno, ENODEV);
    capture_end();
}

static void test_control_characters(void **state)
{
    (void)state;
    capture_start();
    log_info("a\nvfio-userd: error: forged\r\t\x1b[2J\x7f");
    log_info("c1: \xc2\x9b\x32J, not: \xc3\x84\xc3\x9f \xe2\x82\xac");
    assert_string_equal(capture_end(), "vfio-userd: info: a?vfio-userd: error: forged???[2J?\n"
                                       "vfio-userd: info: c1: ??2J, not: \xc3\x84\xc3\x9f "
                                       "\xe2\x82\xac\n");
}

static void test_long_text_is_cut(void **state)
{
    char text[5000];
    const char *got;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    capture_start();
    log_info("%s", text);
    log_set_context(text);
    log_info("hidden");
    log_set_context(NULL);
    got = capture_end();
    assert_int_equal(count_lines(got), 2);
    assert_true(strlen(got) <= 2 * 1024);
    assert_true(strchr(got, '\n') - got > 900);
    assert_null(strchr(got, '?'));
    assert_int_equal(got[strlen(got) - 1], '\n');
}

static void warn_from_one_site(struct log_site *site, unsigned times, const char *text)
{
    for (unsigned i = 0; i < times; i++)
        log_line_limited(site, LOG_WARNING, "%s", text);
}

/* Runs in one window of the clock, whatever the time: again if the window ended meanwhile. */
static const char *burst(struct log_site *site, unsigned times)
{
    uint64_t window;

    do {
        memset(site, 0, sizeof(*site));
        capture_start();
        warn_from_one_site(site, 1, "spoken");
        window = site->window;
        warn_from_one_site(site, times - 1, "spoken");
        capture_end();
    } while (site->window != window);
    return capture.text;
}

static void test_burst_is_limited(void **state)
{
    struct log_site site;

    (void)state;
    assert_int_equal(count_lines(burst(&site, LOG_PEER_BURST)), LOG_PEER_BURST);
    assert_int_equal(site.suppressed, 0);
    assert_int_equal(count_lines(burst(&site, LOG_PEER_BURST + 7)), LOG_PEER_BURST);
    assert_int_equal(site.suppressed, 7);
}

static void test_suppressed_are_counted(void **state)
{
    struct log_site site;

    (void)state;
    burst(&site, LOG_PEER_BURST + 7);
    site.window = 0; /* long ago */
    capture_start();
    warn_from_one_site(&site, 1, "again");
    assert_string_equal(capture_end(), "vfio-userd: warning: again (and 7 more like it)\n");
    assert_int_equal(site.suppressed, 0);
    assert_int_equal(site.count, 1);
}

static void test_long_text_leaves_the_count(void **state)
{
    struct log_site site = {.suppressed = UINT32_MAX};
    char text[5000];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    capture_start();
    warn_from_one_site(&site, 1, text);
    assert_non_null(strstr(capture_end(), " (and 4294967295 more like it)\n"));
}

static void test_disabled_site_counts_nothing(void **state)
{
    struct log_site site = {.count = 0};

    (void)state;
    log_set_level(LOG_ERROR);
    capture_start();
    warn_from_one_site(&site, 1000, "x");
    assert_string_equal(capture_end(), "");
    assert_int_equal(site.count, 0);
    assert_int_equal(site.suppressed, 0);
}

static int refuse(int value)
{
    return log_peer_refusal(ERANGE, "value %d", value);
}

static void test_refusal(void **state)
{
    (void)state;
    capture_start();
    assert_int_equal(refuse(7), -ERANGE);
    assert_string_equal(capture_end(), "vfio-userd: warning: value 7\n");
}

enum { WRITERS = 4, LINES = 200 };

static struct log_site shared_site;

static void *write_lines(void *context)
{
    log_set_context(context);
    for (int i = 0; i < LINES; i++) {
        log_info("line %d of a thread", i);
        log_line_limited(&shared_site, LOG_WARNING, "shared");
    }
    return NULL;
}

static void check_thread_lines(char *text)
{
    int next[WRITERS] = {0};
    int shared = 0;
    char *rest = text;

    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        unsigned thread;
        int i, end = 0;

        if (sscanf(line, "vfio-userd: info: [t%u] line %d of a thread%n", &thread, &i, &end) == 2) {
            assert_true(thread < WRITERS);
            assert_int_equal(line[end], '\0');
            assert_int_equal(i, next[thread]++);
        } else {
            assert_non_null(strstr(line, "] shared"));
            shared++;
        }
    }
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(next[i], LINES);
    assert_true(shared >= LOG_PEER_BURST);
}

static void test_threads_do_not_mix_lines(void **state)
{
    static char names[WRITERS][4] = {"t0", "t1", "t2", "t3"};
    pthread_t threads[WRITERS];

    (void)state;
    capture_start();
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    capture_end();
    check_thread_lines(capture.text);
}

#define log_test(f) cmocka_unit_test_setup_teardown(f, setup, fd_leak_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        log_test(test_lines),
        log_test(test_levels),
        log_test(test_level_parse),
        log_test(test_context),
        log_test(test_errno_is_kept),
        log_test(test_control_characters),
        log_test(test_long_text_is_cut),
        log_test(test_burst_is_limited),
        log_test(test_suppressed_are_counted),
        log_test(test_long_text_leaves_the_count),
        log_test(test_disabled_site_counts_nothing),
        log_test(test_refusal),
        log_test(test_threads_do_not_mix_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
