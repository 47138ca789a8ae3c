/* Stands in the emulator's place and times its own system calls. What to time is in BENCH_PROBE: `opens` (with the
 * name to open in BENCH_NAME) or `calls`. Prints one line: a name and nanoseconds, median and 99th percentile. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { OPENS = 20000, BATCHES = 2000, BATCH = 500 };

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

int main(void) {
    const char *what = getenv("BENCH_PROBE");
    if (what && !strcmp(what, "opens")) time_opens(getenv("BENCH_NAME"));
    else if (what && !strcmp(what, "calls")) time_calls();
    else return 2;
    return 0;
}
