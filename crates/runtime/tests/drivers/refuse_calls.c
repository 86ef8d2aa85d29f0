/* Runs a program without the calls that move bytes inside the kernel:
 * `refuse_calls COMMAND...`. sendfile and splice, and SO_ZEROCOPY on a socket, fail with EPERM,
 * as under a seccomp profile that doesn't know them. */

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (count))
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

int main(int count, char **arguments)
{
    struct sock_filter filter[] = {
        LOAD(nr),
        SKIP_UNLESS(__NR_sendfile, 1), REFUSE,
        SKIP_UNLESS(__NR_splice, 1), REFUSE,
        SKIP_UNLESS(__NR_setsockopt, 5),
        LOAD(args[1]), SKIP_UNLESS(SOL_SOCKET, 3),
        LOAD(args[2]), SKIP_UNLESS(SO_ZEROCOPY, 1), REFUSE,
        ALLOW,
    };
    struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };

    if (count < 2)
        return 64;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("seccomp");
        return 77;
    }
    execv(arguments[1], arguments + 1);
    perror(arguments[1]);
    return 1;
}
