/* Stands in the emulator's place and times its own system calls. What to time is in BENCH_PROBE: `opens` (with the
 * name to open in BENCH_NAME) or `calls`; each line printed is a name and nanoseconds, median and 99th percentile. Or
 * `rate`: BENCH_THREADS threads open media/0.iso to media/(BENCH_FILES - 1).iso in turn; printed are opens a second,
 * median and lowest of the windows. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { OPENS = 20000, BATCHES = 2000, BATCH = 500, WINDOWS = 10, WINDOW_US = 100000 };

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void report(const char *name, double *times, size_t count) {
    qsort(times, count, sizeof *times, ascending);
    printf("%s %.1f %.1f\n", name, times[count / 2], times[count - count / 100 - 1]);
}

static void time_opens(const char *name) {
    static double times[OPENS];
    for (int i = 0; i < OPENS; i++) {
        long long start = now();
        int file = open(name, O_RDONLY | O_CLOEXEC);
        times[i] = (double)(now() - start);
        if (file < 0) {
            perror(name);
            exit(1);
        }
        close(file);
    }
    report("open", times, OPENS);
}

static void time_calls(void) {
    static double getppids[BATCHES], ioctls[BATCHES];
    for (int i = 0; i < BATCHES; i++) {
        long long start = now();
        for (int j = 0; j < BATCH; j++) syscall(SYS_getppid);
        long long between = now();
        for (int j = 0; j < BATCH; j++) ioctl(-1, 0);
        getppids[i] = (double)(between - start) / BATCH;
        ioctls[i] = (double)(now() - between) / BATCH;
    }
    report("getppid", getppids, BATCHES);
    report("ioctl", ioctls, BATCHES);
}

static atomic_long opened;
static long files;

static void *open_in_turn(void *number) {
    char name[32];
    for (long file = (long)number;; file++) {
        snprintf(name, sizeof name, "media/%ld.iso", file % files);
        int descriptor = open(name, O_RDONLY | O_CLOEXEC);
        if (descriptor < 0) {
            perror(name);
            exit(1);
        }
        close(descriptor);
        atomic_fetch_add(&opened, 1);
    }
    return NULL;
}

static void measure_rate(long threads) {
    double rates[WINDOWS];
    for (long thread = 0; thread < threads; thread++) {
        pthread_t started;
        /* Each begins elsewhere, so that they do not run behind one another. */
        if (pthread_create(&started, NULL, open_in_turn, (void *)(files / threads * thread))) exit(1);
    }
    /* The first window warms up. */
    for (int window = -1; window < WINDOWS; window++) {
        long before = atomic_load(&opened);
        long long start = now();
        usleep(WINDOW_US);
        double rate = (double)(atomic_load(&opened) - before) * 1e9 / (double)(now() - start);
        if (window >= 0) rates[window] = rate;
    }
    qsort(rates, WINDOWS, sizeof *rates, ascending);
    printf("rate %.1f %.1f\n", rates[WINDOWS / 2], rates[0]);
}

static long number(const char *variable) {
    const char *text = getenv(variable);
    long value = text ? atol(text) : 0;
    if (value < 1) exit(2);
    return value;
}

int main(void) {
    const char *what = getenv("BENCH_PROBE");
    if (what && !strcmp(what, "opens")) time_opens(getenv("BENCH_NAME"));
    else if (what && !strcmp(what, "calls")) time_calls();
    else if (what && !strcmp(what, "rate")) {
        files = number("BENCH_FILES");
        measure_rate(number("BENCH_THREADS"));
    } else return 2;
    return 0;
}
