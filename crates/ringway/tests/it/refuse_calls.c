/* Runs a command some of whose system calls fail with EPERM, as under a container's seccomp profile:
   `refuse_calls CALLS COMMAND...`, where CALLS are words with commas between them: none, io_uring, sendfile,
   splice, zerocopy and incoming_cpu (setting the options of a socket that MSG_ZEROCOPY needs, and that
   names a listener's CPU), cachestat, preadv2, accept4, openat2, timerfd_create.
   Without anything: tries whether a ring can be made. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (count))
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#define REFUSE_OPTION(option)                                                                            \
    LOAD(nr), SKIP_UNLESS(SYS_setsockopt, 5), LOAD(args[1]), SKIP_UNLESS(SOL_SOCKET, 3), LOAD(args[2]),  \
        SKIP_UNLESS(option, 1), REFUSE
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* The same numbers everywhere, and newer than many a header. */
#define CACHESTAT 451
#define OPENAT2 437

static struct sock_filter filter[64];
static unsigned short length;

static void add(const struct sock_filter *steps, size_t bytes) {
    memcpy(filter + length, steps, bytes);
    length += bytes / sizeof *steps;
}

/* Calls that are refused whatever they are given. */
static const struct {
    const char *word;
    unsigned number;
} calls[] = {
    {"io_uring", SYS_io_uring_setup}, {"sendfile", SYS_sendfile}, {"splice", SYS_splice},
    {"cachestat", CACHESTAT},         {"preadv2", SYS_preadv2},   {"accept4", SYS_accept4},
    {"openat2", OPENAT2},             {"timerfd_create", SYS_timerfd_create},
};

static int refuse(const char *word) {
    /* Each begins with what is loaded last: the number of the call. */
    const struct sock_filter zerocopy[] = {REFUSE_OPTION(SO_ZEROCOPY)};
    const struct sock_filter incoming_cpu[] = {REFUSE_OPTION(SO_INCOMING_CPU)};
    for (size_t index = 0; index < sizeof calls / sizeof *calls; index++) {
        const struct sock_filter call[] = {LOAD(nr), SKIP_UNLESS(calls[index].number, 1), REFUSE};
        if (!strcmp(word, calls[index].word)) {
            add(call, sizeof call);
            return 1;
        }
    }
    if (!strcmp(word, "none"))
        return 1;
    if (!strcmp(word, "zerocopy"))
        add(zerocopy, sizeof zerocopy);
    else if (!strcmp(word, "incoming_cpu"))
        add(incoming_cpu, sizeof incoming_cpu);
    else
        return 0;
    return 1;
}

int main(int count, char **arguments) {
    if (count < 3) {
        struct io_uring_params parameters;
        memset(&parameters, 0, sizeof parameters);
        if (syscall(SYS_io_uring_setup, 8, &parameters) >= 0)
            return 0;
        fprintf(stderr, "%s\n", strerror(errno));
        return 1;
    }
    for (char *word = strtok(arguments[1], ","); word; word = strtok(NULL, ",")) {
        if (length > 40 || !refuse(word)) {
            fprintf(stderr, "%s: no such call, or too many\n", word);
            return 64;
        }
    }
    const struct sock_filter allow = ALLOW;
    add(&allow, sizeof allow);
    struct sock_fprog program = {length, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("seccomp");
        return 2;
    }
    execvp(arguments[2], arguments + 2);
    perror(arguments[2]);
    return 2;
}
