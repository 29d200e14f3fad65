/*
 * Lets User-Mode Linux 6.1 run on processors whose extended state is larger than it knows (AMX: Sapphire Rapids and later).
 *
 * It reads and writes 2696 bytes of state. The host's kernel gives what fits when it is asked for less than everything, but takes only the
 * whole (arch/x86/kernel/fpu/regset.c, xstateregs_set: -EFAULT). So what is written is filled up to the whole with components in their
 * initial state. Nothing in a node uses those: AMX is off in a process that has not asked the host for it.
 *
 * Loaded by LD_PRELOAD, where this is needed only.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

#define WHOLE 65536      /* more than any processor has */
#define BITMAP 512       /* offset of XSTATE_BV, the components that are not in their initial state */
#define AMX (3ull << 17) /* XTILECFG and XTILEDATA */

static long (*next)(int request, pid_t pid, void *address, void *data);

__attribute__((constructor)) static void find_next(void) { *(void **)&next = dlsym(RTLD_NEXT, "ptrace"); }

long ptrace(enum __ptrace_request request, ...) {
    __builtin_va_list arguments;
    __builtin_va_start(arguments, request);
    pid_t pid = __builtin_va_arg(arguments, pid_t);
    void *address = __builtin_va_arg(arguments, void *);
    void *data = __builtin_va_arg(arguments, void *);
    __builtin_va_end(arguments);

    if (request != PTRACE_SETREGSET || (uintptr_t)address != NT_X86_XSTATE)
        return next(request, pid, address, data);

    static unsigned char state[WHOLE]; /* UML has one thread that runs processes */
    static size_t size;
    struct iovec *given = data;
    if (size == 0) {
        struct iovec whole = {.iov_base = state, .iov_len = WHOLE};
        if (next(PTRACE_GETREGSET, pid, address, &whole) < 0)
            return -1;
        size = whole.iov_len;
        memset(state, 0, WHOLE);
    }
    if (given->iov_len >= size)
        return next(request, pid, address, data);
    memcpy(state, given->iov_base, given->iov_len);
    uint64_t components;
    memcpy(&components, state + BITMAP, sizeof components);
    components &= ~AMX;
    memcpy(state + BITMAP, &components, sizeof components);
    struct iovec filled = {.iov_base = state, .iov_len = size};
    return next(request, pid, address, &filled);
}
