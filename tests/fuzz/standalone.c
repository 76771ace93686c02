/*
 * Drives a fuzz target without libFuzzer: every file of a folder as it is, then FUZZ_RUNS
 * (default 20000) inputs made of them by random mutations. The same FUZZ_SEED (default 1) makes
 * the same inputs, so a failure can be had again; it is printed first.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/fuzz/fuzz.h"

enum {
    INPUT_ROOM = 1 << 14,
    SEEDS_MAX = 256,
    MUTATIONS_MAX = 8,
};

struct input {
    size_t len;
    uint8_t bytes[INPUT_ROOM];
};

static struct {
    struct input *inputs[SEEDS_MAX];
    size_t count;
} seeds;

static uint64_t random_state;

/* xorshift64: its state must not be 0. */
static uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* From 0 to limit - 1. */
static size_t random_below(size_t limit)
{
    return (size_t)(random_u64() % limit);
}

static void flip_bit(struct input *in)
{
    if (in->len)
        in->bytes[random_below(in->len)] ^= (uint8_t)(1u << random_below(8));
}

static void set_byte(struct input *in)
{
    if (in->len)
        in->bytes[random_below(in->len)] = (uint8_t)random_u64();
}

/* Numbers at which sizes and sums go wrong, 1 to 8 bytes wide. */
static void set_number(struct input *in)
{
    static const uint64_t edges[] = {
        0,          1,          2,          0x7f,           0x80,
        0xff,       0x100,      0xfff,      0x1000,         0x7fff,
        0x8000,     0xffff,     0x10000,    0x100000,       0x7ffffff,
        0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32,     1ull << 52,
        1ull << 63, INT64_MAX,  UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 0xfff,
    };
    uint64_t value = edges[random_below(ARRAY_SIZE(edges))] + random_below(3) - 1;
    size_t width = (size_t)1 << random_below(4);

    if (in->len >= width)
        memcpy(in->bytes + random_below(in->len - width + 1), &value, width);
}

static void cut_tail(struct input *in)
{
    in->len = random_below(in->len + 1);
}

static void cut_middle(struct input *in)
{
    size_t at = random_below(in->len + 1), n = random_below(in->len - at + 1);

    memmove(in->bytes + at, in->bytes + at + n, in->len - at - n);
    in->len -= n;
}

static void insert(struct input *in, const uint8_t *bytes, size_t len)
{
    size_t at = random_below(in->len + 1);

    len = MIN(len, sizeof(in->bytes) - in->len);
    memmove(in->bytes + at + len, in->bytes + at, in->len - at);
    memcpy(in->bytes + at, bytes, len);
    in->len += len;
}

static void insert_noise(struct input *in)
{
    uint8_t noise[64];

    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (uint8_t)random_u64();
    insert(in, noise, random_below(sizeof(noise)));
}

static void insert_part_of_a_seed(struct input *in)
{
    const struct input *other = seeds.inputs[random_below(seeds.count)];
    size_t at = random_below(other->len + 1);

    insert(in, other->bytes + at, random_below(other->len - at + 1));
}

static void (*const mutations[])(struct input *in) = {
    flip_bit, set_byte,   set_number,   set_number,
    cut_tail, cut_middle, insert_noise, insert_part_of_a_seed,
};

/* The target gets a block of exactly its size, so that the sanitizers see a read past the end. */
static void run(const struct input *in)
{
    cleanup_free_ uint8_t *exact = malloc(in->len ? in->len : 1);

    REQUIRE(exact);
    memcpy(exact, in->bytes, in->len);
    LLVMFuzzerTestOneInput(exact, in->len);
}

static void run_mutations(uint64_t runs)
{
    static struct input in;

    for (uint64_t i = 0; i < runs; i++) {
        in = *seeds.inputs[random_below(seeds.count)];
        for (size_t n = 1 + random_below(MUTATIONS_MAX); n; n--)
            mutations[random_below(ARRAY_SIZE(mutations))](&in);
        run(&in);
    }
}

static int is_seed(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static void load_seed(const char *dir, const char *name)
{
    struct input *in = calloc(1, sizeof(*in));
    cleanup_close_ int fd = -1;
    char path[4096];
    ssize_t n;

    REQUIRE(in && seeds.count < SEEDS_MAX);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = read(fd, in->bytes, sizeof(in->bytes));
    if (n < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(EXIT_FAILURE);
    }
    in->len = (size_t)n;
    seeds.inputs[seeds.count++] = in;
}

static void load_seeds(const char *dir)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_seed, alphasort); /* sorted: the same on every machine */

    if (n <= 0) {
        fprintf(stderr, "%s: no seeds\n", dir);
        exit(EXIT_FAILURE);
    }
    for (int i = 0; i < n; i++) {
        load_seed(dir, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    char *end;
    uint64_t value;

    if (!text)
        return otherwise;
    value = strtoull(text, &end, 0);
    if (end == text || *end) {
        fprintf(stderr, "%s: not a number: %s\n", variable, text);
        exit(EXIT_FAILURE);
    }
    return value;
}

int main(int argc, char **argv)
{
    uint64_t runs = number_from("FUZZ_RUNS", 20000);

    random_state = number_from("FUZZ_SEED", 1);
    if (argc != 2 || !random_state) {
        fprintf(stderr, "usage: [FUZZ_RUNS=N] [FUZZ_SEED=N, not 0] %s FOLDER\n", argv[0]);
        return EXIT_FAILURE;
    }
    LLVMFuzzerInitialize(&argc, &argv);
    load_seeds(argv[1]);
    printf("FUZZ_SEED=%llu FUZZ_RUNS=%llu, %zu files\n", (unsigned long long)random_state,
           (unsigned long long)runs, seeds.count);
    fflush(stdout);
    for (size_t i = 0; i < seeds.count; i++)
        run(seeds.inputs[i]);
    run_mutations(runs);
    while (seeds.count)
        free(seeds.inputs[--seeds.count]);
    return EXIT_SUCCESS;
}
