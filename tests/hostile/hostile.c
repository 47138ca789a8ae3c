/* The entry, and what all attacks share. */
#include "hostile.h"

#include <time.h>

/* Bytes at the start of the talk image that hold parameters, and the place behind them where the test writes
 * the step that it has taken; see tests/src/hostile.rs. */
#define PARAMETERS 4096
/* Looks at that place, 2 ms apart, before the test counts as gone: two minutes and more. */
#define PATIENCE 60000

static const struct {
    const char *name;
    void (*run)(void);
} attacks[] = {
    {"names", attack_names},
    {"spellings", attack_spellings},
    {"descriptors", attack_descriptors},
    {"calls", attack_calls},
    {"processes", attack_processes},
    {"everybody", attack_everybody},
    {"sockets", attack_sockets},
    {"granted-sockets", attack_granted_sockets},
    {"windows", attack_windows},
    {"terminal", attack_terminal},
    {"rings", attack_with_rings},
    {"many-rings", attack_with_many_rings},
    {"interfaces", attack_interfaces},
    {"datagrams", attack_datagrams},
    {"races", attack_races},
    {"swaps", attack_swaps},
    {"floods", attack_with_floods},
    {"long-names", attack_with_long_names},
    {"threads", attack_with_threads},
    {"after-the-end", attack_after_the_end},
    {"make-calls", make_calls},
    {"puppet", attack_as_told},
    {"requests", attack_with_requests},
    {"shared", attack_from_a_shared_folder},
    {"modes", attack_modes},
};

void give_up(const char *what)
{
    printf("GAVE UP: %s: %s\n", what, strerrorname_np(errno));
    exit(3);
}

void report(const char *name, long result)
{
    const char *text = result >= 0 ? "ok" : strerrorname_np(errno);
    printf("%s %s\n", name, text ? text : "unknown-errno");
}

void report_descriptor(const char *name, long descriptor)
{
    report(name, descriptor);
    if (descriptor >= 0)
        close((int)descriptor);
}

void report_number(const char *name, long number)
{
    printf("%s %ld\n", name, number);
}

const char *absolute(const char *name)
{
    static char paths[4][4096];
    static int next;
    char *path = paths[next++ % 4];
    if (!getcwd(path, sizeof paths[0] - 256))
        give_up("getcwd");
    strcat(path, "/");
    return strcat(path, name);
}

static int talk(void)
{
    static int descriptor = -1;
    if (descriptor < 0)
        descriptor = (int)CALL(SYS_openat, AT_FDCWD, TALK, O_RDWR | O_CLOEXEC);
    if (descriptor < 0)
        give_up("open the talk image");
    return descriptor;
}

const char *parameter(const char *name)
{
    static char text[PARAMETERS + 1];
    static char value[PARAMETERS];
    size_t length = strlen(name);
    if (pread(talk(), text, PARAMETERS, 0) != PARAMETERS)
        give_up("read the talk image");
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (!strncmp(line, name, length) && line[length] == '=')
            return strcpy(value, line + length + 1);
    errno = ENOENT;
    give_up(name);
    return NULL;
}

long number_parameter(const char *name)
{
    return strtol(parameter(name), NULL, 10);
}

void wait_for(char step)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    char seen = 0;
    printf("waiting-for %c\n", step);
    for (int turns = 0; seen != step; turns++) {
        if (turns == PATIENCE)
            give_up("wait for the test");
        if (pread(talk(), &seen, 1, PARAMETERS) != 1)
            give_up("read the talk image");
        nanosleep(&pause, NULL);
    }
}

/* The value of QEMU's `-name`, which says what to do. */
static const char *wanted(int count, char **words)
{
    for (int i = 1; i + 1 < count; i++)
        if (!strcmp(words[i], "-name"))
            return words[i + 1];
    return "";
}

int main(int count, char **words)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count == 4 && !strcmp(words[1], "confined")) {
        make_confined_calls(words[2], words[3]);
        return 0;
    }
    if (count == 3 && (!strcmp(words[1], "lease") || !strcmp(words[1], "scanner"))) {
        (words[1][0] == 'l' ? hold_lease : scan_without_end)(words[2]);
        return 0;
    }
    if (count > 3 && !strcmp(words[1], "hold-tap"))
        hold_tap(words[2], words + 3);
    const char *name = wanted(count, words);
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++)
        if (!strcmp(attacks[i].name, name)) {
            attacks[i].run();
            puts("DONE");
            return 0;
        }
    give_up("no such attack");
}
