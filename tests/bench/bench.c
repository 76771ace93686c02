/*
 * bench: what the server adds to the latency of a message, as the ratio to a floor: a bare exchange
 * of messages of the same sizes over the same kind of socket.
 *
 * In the mode "block" everybody sleeps while there is nothing to receive. Client and server share a
 * processor: to wake another one that is idle takes several times as long as all else together, and
 * never twice the same time. In the mode "poll" each has one of its own: the client spins until a
 * reply comes; the other end spins for a moment, then sleeps, so that it leaves the processor when
 * its turn is over.
 *
 * The cases mig_data_* are of throughput, and their floor is a pipe; report_1t is the time of all
 * of a large dirty log, and its floor a copy of as many bytes.
 *
 * The cases map_N and unmap_N have no floor: they tell whether the last of N mappings takes longer
 * than the first, and run only if they are asked for; so do the cases of --remap.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/log.h"
#include "tests/bench/growth.h"
#include "tests/bench/measure.h"
#include "tests/bench/remap.h"
#include "tests/bench/report.h"
#include "tests/bench/stream.h"

enum {
    SERVER_BUSY_POLL_US = 50,
    FLOOR_SPINS = 200,        /* about as long */
    CLIENT_SPINS = 100000000, /* longer than any reply takes */
};

static const struct measure_mode modes[] = {
    {"block", 0,                   0,           0,            false},
    {"poll",  SERVER_BUSY_POLL_US, FLOOR_SPINS, CLIENT_SPINS, true },
};

static const double default_seconds = 3;

/* What --check holds against the limit. */
static const char checked_case[] = "region_read_4";
static const double checked_ratio = 1.25;

struct options {
    const char *only_case, *only_mode;
    double seconds;
    bool growth, remap, check;
};

static void usage(FILE *out)
{
    fprintf(
        out,
        "usage: bench [--case NAME | --growth | --remap] [--mode block|poll] [--seconds S] "
        "[--check]\n\n"
        "Prints a JSON object a line: the median time of a message in microseconds, that of\n"
        "its floor, a bare exchange of the same sizes, and their ratio. Of migration data, in\n"
        "messages of 1 MiB, the floor is a bare pipe that moves as many bytes.\n\n"
        "  --case NAME    only this case, one of those below\n"
        "  --growth       the cases of growth instead, in the mode block if no other is given:\n"
        "                 the medians of all N mappings, of the first and of the last tenth\n"
        "  --remap        1 GiB that is mapped again and again instead, without and with\n"
        "                 --stable-memory, in the mode block if no other is given\n"
        "  --mode MODE    only this mode: block (everybody sleeps), poll (busy polling)\n"
        "  --seconds S    for each case and mode (default %g)\n"
        "  --check        exit with 1 if %s is above %g of its floor\n\n"
        "Cases:",
        default_seconds, checked_case, checked_ratio);
    for (unsigned i = 0; i < WORKLOADS; i++)
        fprintf(out, " %s", workload_name(i));
    for (unsigned i = 0; i < STREAMS; i++)
        fprintf(out, " %s", stream_name(i));
    fprintf(out, " %s", report_name);
    fputs("\nCases of growth:", out);
    for (unsigned i = 0; i < GROWTHS; i++)
        fprintf(out, " map_%u unmap_%u", growth_entries(i), growth_entries(i));
    fputc('\n', out);
}

/* "map_N" or "unmap_N" */
static bool is_growth_case(const char *name, const char *operation, unsigned entries)
{
    char own[32];

    snprintf(own, sizeof(own), "%s_%u", operation, entries);
    return !strcmp(name, own);
}

static bool is_any_growth_case(const char *name)
{
    for (unsigned i = 0; i < GROWTHS; i++) {
        if (is_growth_case(name, "map", growth_entries(i)) ||
            is_growth_case(name, "unmap", growth_entries(i)))
            return true;
    }
    return false;
}

static bool is_case(const char *name)
{
    for (unsigned i = 0; i < WORKLOADS; i++) {
        if (!strcmp(workload_name(i), name))
            return true;
    }
    for (unsigned i = 0; i < STREAMS; i++) {
        if (!strcmp(stream_name(i), name))
            return true;
    }
    return !strcmp(report_name, name) || is_any_growth_case(name);
}

static bool is_mode(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (!strcmp(modes[i].name, name))
            return true;
    }
    return false;
}

static bool is_seconds(const char *text, double *seconds)
{
    char *end;

    *seconds = strtod(text, &end);
    return end != text && !*end && *seconds > 0 && *seconds <= 3600;
}

static void parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longopts[] = {
        {"case",    required_argument, NULL, 'c'},
        {"growth",  no_argument,       NULL, 'g'},
        {"remap",   no_argument,       NULL, 'r'},
        {"mode",    required_argument, NULL, 'm'},
        {"seconds", required_argument, NULL, 's'},
        {"check",   no_argument,       NULL, 'k'},
        {"help",    no_argument,       NULL, 'h'},
        {NULL,      0,                 NULL, 0  },
    };
    bool ok = true;
    int c;

    while (ok && (c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
        if (c == 'c')
            ok = is_case(o->only_case = optarg);
        else if (c == 'g')
            o->growth = true;
        else if (c == 'r')
            o->remap = true;
        else if (c == 'm')
            ok = is_mode(o->only_mode = optarg);
        else if (c == 's')
            ok = is_seconds(optarg, &o->seconds);
        else if (c == 'k')
            o->check = true;
        else
            ok = false;
        if (c == 'h') {
            usage(stdout);
            exit(EXIT_SUCCESS);
        }
    }
    if (!ok || optind < argc || o->growth + o->remap + !!o->only_case > 1) {
        usage(stderr);
        exit(2);
    }
    o->growth |= o->only_case && is_any_growth_case(o->only_case);
}

static double print_ratio(const char *name, const char *mode, const struct measure_result *result)
{
    printf("{\"case\":\"%s\",\"mode\":\"%s\",\"floor_p50_us\":%.3f,\"p50_us\":%.3f,"
           "\"ratio\":%.3f}\n",
           name, mode, result->floor_us, result->served_us, result->served_us / result->floor_us);
    fflush(stdout);
    return result->served_us / result->floor_us;
}

/* Workloads, then streams, then the report. */
static const char *case_name(unsigned i)
{
    if (i < WORKLOADS)
        return workload_name(i);
    return i < WORKLOADS + STREAMS ? stream_name(i - WORKLOADS) : report_name;
}

/* A case in a mode. Returns its ratio to the floor, 0 on an error. */
static double run_case(unsigned i, const struct measure_mode *mode, double seconds)
{
    struct measure_result result;
    struct workload w;
    int ret;

    if (i == WORKLOADS + STREAMS) {
        ret = report_measure(mode, seconds, &result);
        return ret ? 0 : print_ratio(report_name, mode->name, &result);
    }
    if (i >= WORKLOADS) {
        ret = stream_measure(i - WORKLOADS, mode, seconds, &result);
        return ret ? 0 : print_ratio(stream_name(i - WORKLOADS), mode->name, &result);
    }
    if (!workload_make(i, &w))
        return 0;
    ret = measure(&w, mode, seconds, &result);
    workload_free(&w);
    return ret ? 0 : print_ratio(w.name, mode->name, &result);
}

static void print_growth(const struct options *o, const char *operation, unsigned entries,
                         const char *mode, const struct growth_times *t)
{
    if (o->only_case && !is_growth_case(o->only_case, operation, entries))
        return;
    printf("{\"case\":\"%s_%u\",\"mode\":\"%s\",\"entries\":%u,\"p50_us\":%.3f,"
           "\"first_us\":%.3f,\"last_us\":%.3f,\"last_over_first\":%.3f}\n",
           operation, entries, mode, entries, t->all_us, t->first_us, t->last_us,
           t->last_us / t->first_us);
    fflush(stdout);
}

/* Maps and unmaps come together: one can't be measured without the other. */
static int run_growth(const struct options *o)
{
    for (unsigned i = 0; i < GROWTHS; i++) {
        unsigned entries = growth_entries(i);

        if (o->only_case && !is_growth_case(o->only_case, "map", entries) &&
            !is_growth_case(o->only_case, "unmap", entries))
            continue;
        for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
            struct growth_result result;

            if (strcmp(o->only_mode ? o->only_mode : modes[0].name, modes[m].name))
                continue;
            if (growth_measure(i, &modes[m], &result))
                return EXIT_FAILURE;
            print_growth(o, "map", entries, modes[m].name, &result.map);
            print_growth(o, "unmap", entries, modes[m].name, &result.unmap);
        }
    }
    return EXIT_SUCCESS;
}

static int run_remap(const struct options *o)
{
    for (unsigned i = 0; i < REMAPS; i++) {
        for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
            struct remap_result result;

            if (strcmp(o->only_mode ? o->only_mode : modes[0].name, modes[m].name))
                continue;
            if (remap_measure(i, &modes[m], &result))
                return EXIT_FAILURE;
            printf("{\"case\":\"%s\",\"mode\":\"%s\",\"map_p50_us\":%.3f,"
                   "\"unmap_p50_us\":%.3f}\n",
                   remap_name(i), modes[m].name, result.map_us, result.unmap_us);
            fflush(stdout);
        }
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct options o = {.seconds = default_seconds};
    int status = EXIT_SUCCESS;

    parse_options(argc, argv, &o);
    log_set_level(LOG_WARNING);
    if (o.growth)
        return run_growth(&o);
    if (o.remap)
        return run_remap(&o);
    for (unsigned i = 0; i <= WORKLOADS + STREAMS; i++) {
        const char *name = case_name(i);

        for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
            double ratio;

            if ((o.only_case && strcmp(o.only_case, name)) ||
                (o.only_mode && strcmp(o.only_mode, modes[m].name)))
                continue;
            ratio = run_case(i, &modes[m], o.seconds);
            if (ratio <= 0)
                return EXIT_FAILURE;
            if (o.check && !strcmp(name, checked_case) && ratio > checked_ratio)
                status = EXIT_FAILURE;
        }
    }
    return status;
}
