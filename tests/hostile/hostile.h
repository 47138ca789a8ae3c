/* A program that is started in the emulator's place, inside the finished sandbox, and tries what an emulator
 * that a guest has taken over would try. It uses nothing but system calls, so that no library of it stands
 * between an attempt and the kernel, and prints one line an attempt: a name and what came of it. What has to
 * come of it stands in the tests (tests/tests/hostile_*.rs), which start it. */
#ifndef HOSTILE_H
#define HOSTILE_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the command line grants, beneath the working folder: for reading and writing, for reading, and as the
 * backing file of the first. */
#define GRANTED "granted.qcow2"
#define READ_ONLY "readonly.raw"
#define BACKING "backing.raw"
/* Granted for reading and writing: the test's way to talk to this program, see `parameter` and `wait_for`. */
#define TALK "talk.raw"
/* What lies beside them, belongs to the same user, and is granted to nobody. */
#define VICTIM "victim.qcow2"

/* One system call as it is, without a library's idea of it. */
#define CALL(...) syscall(__VA_ARGS__)

/* Prints a line: what `name` came to. A result that is not negative prints as `ok`, otherwise errno's name. */
void report(const char *name, long result);
/* The same for a call that makes a descriptor, which is closed again. */
void report_descriptor(const char *name, long descriptor);
/* Prints a line with a number. */
void report_number(const char *name, long number);

/* `name` in the working folder, as an absolute path. */
const char *absolute(const char *name);

/* The text behind `name=` in the talk image, up to the end of the line. Ends the program when there is none. */
const char *parameter(const char *name);
long number_parameter(const char *name);

/* Waits until the test has written `step` into the talk image: a step of a test that both sides must take. */
void wait_for(char step);

/* Ends the program: the test could not be carried out, which is no result. */
void give_up(const char *what);

/* The attacks, by the name that `-name` gives. */
void attack_names(void);
void attack_spellings(void);
void attack_descriptors(void);
void attack_calls(void);
void attack_processes(void);
void attack_everybody(void);
void attack_sockets(void);
void attack_granted_sockets(void);
void attack_windows(void);
void attack_terminal(void);
void attack_with_rings(void);
void attack_with_many_rings(void);
void attack_interfaces(void);
void attack_datagrams(void);
void attack_races(void);
void attack_swaps(void);
void attack_with_floods(void);
void attack_with_long_names(void);
void attack_with_threads(void);
void attack_after_the_end(void);
void attack_as_told(void);
void attack_with_requests(void);
void attack_from_a_shared_folder(void);
void attack_modes(void);
void hold_lease(const char *path);
void scan_without_end(const char *path);
void hold_tap(const char *name, char **words);
void make_calls(void);
void make_confined_calls(const char *program, const char *calls);

#endif
