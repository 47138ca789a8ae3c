/* The name changes between the moment when it is checked and the moment when it is used. Whatever comes back,
 * it must be a file that was granted, with no more access than was granted. */
#include "hostile.h"

#include <pthread.h>
#include <stdatomic.h>

/* One race: a name that changes to and fro, and opens of it meanwhile. */
static struct {
    char name[4096];
    const char *one, *other;
    atomic_bool over;
} race;

static void *change_the_name(void *unused)
{
    size_t length = strlen(race.one) + 1;
    while (!race.over) {
        memcpy(race.name, race.other, length);
        atomic_thread_fence(memory_order_seq_cst);
        memcpy(race.name, race.one, length);
        atomic_thread_fence(memory_order_seq_cst);
    }
    return unused;
}

/* Both names get the length of the longer one, by a slash more where nothing changes by it. */
static char *padded(const char *name, size_t length)
{
    static char names[2][4096];
    static int next;
    char *path = names[next++ % 2];
    size_t missing = length - strlen(name);
    const char *last = strrchr(name, '/') + 1;
    memcpy(path, name, (size_t)(last - name));
    memset(path + (last - name), '/', missing);
    strcpy(path + (last - name) + missing, last);
    return path;
}

/* A file to compare with, as the sandbox shows it. */
static struct stat status_of(const char *name)
{
    struct stat status;
    if (stat(name, &status))
        give_up(name);
    return status;
}

static int is(int fd, const struct stat *wanted)
{
    struct stat status;
    return !fstat(fd, &status) && status.st_dev == wanted->st_dev && status.st_ino == wanted->st_ino;
}

/* Opens with `flags` while the name changes between `right` and `wrong`; only the former may come back. */
static void run(const char *title, const char *right, const char *wrong, int flags, long rounds)
{
    long opened = 0, refused = 0, foreign = 0;
    size_t length = strlen(right) > strlen(wrong) ? strlen(right) : strlen(wrong);
    struct stat wanted = status_of(right);
    pthread_t changer;
    char text[128];

    race.one = padded(right, length);
    race.other = padded(wrong, length);
    race.over = 0;
    strcpy(race.name, race.one);
    if (pthread_create(&changer, NULL, change_the_name, NULL))
        give_up("start a thread");
    for (long i = 0; i < rounds; i++) {
        int fd = (int)CALL(SYS_openat, AT_FDCWD, race.name, flags);
        if (fd < 0) {
            refused++;
            continue;
        }
        opened++;
        foreign += !is(fd, &wanted);
        close(fd);
    }
    race.over = 1;
    pthread_join(changer, NULL);
    snprintf(text, sizeof text, "%s-opened", title);
    report_number(text, opened);
    snprintf(text, sizeof text, "%s-refused", title);
    report_number(text, refused);
    snprintf(text, sizeof text, "%s-foreign", title);
    report_number(text, foreign);
}

void attack_races(void)
{
    char granted[4096], victim[4096];
    long rounds = number_parameter("rounds"), fewer = rounds / 10;
    strcpy(granted, absolute(GRANTED));
    strcpy(victim, absolute(VICTIM));
    run("victim", granted, victim, O_RDONLY, rounds);
    /* The agent lets the kernel look names up that the sandbox's tree answers: the kernel reads them again. */
    run("native", "/dev/null", victim, O_RDWR, fewer);
    strcpy(granted, absolute(READ_ONLY));
    run("native-image", "/dev/null", granted, O_RDWR, fewer);
    strcpy(victim, absolute(BACKING));
    strcpy(granted, absolute(GRANTED));
    run("backing", granted, victim, O_RDWR, fewer);
}

/* Somebody changes names on the host: links, renames. Opens go on meanwhile; the test says when to stop. */
void attack_swaps(void)
{
    struct stat wanted = status_of(READ_ONLY);
    long opened = 0, foreign = 0, rounds = number_parameter("rounds");
    wait_for('a');
    for (long i = 0; i < rounds; i++) {
        int fd = (int)CALL(SYS_openat, AT_FDCWD, READ_ONLY, O_RDONLY);
        if (fd >= 0) {
            opened++;
            foreign += !is(fd, &wanted);
            close(fd);
        }
        if (i == rounds / 2)
            wait_for('b');
    }
    report_number("opened", opened);
    report_number("foreign", foreign);
}
