/* Holds a process to AVX2: cpuid does not tell it of AVX-512 and AMX, nor of AVX-VNNI unless HOLD_AVX_VNNI is set. For
 * engines that ask nothing but the processor. turns.py preloads it; the processor must be able to make cpuid fault. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define SET_CPUID 0x1012 /* ARCH_SET_CPUID */
#define CPUID_BYTES 2    /* 0f a2 */

/* AVX-512 and AMX in leaf 7 and its first subleaf. */
static const unsigned EBX_7 = 1u << 16 | 1u << 17 | 1u << 21 | 3u << 26 | 1u << 28 | 1u << 30 | 1u << 31;
static const unsigned ECX_7 = 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14;
static const unsigned EDX_7 = 1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25;
static const unsigned EAX_7_1 = 1u << 5 | 1u << 21, EDX_7_1 = 1u << 19;
/* AVX-VNNI, and its later kinds. */
static const unsigned VNNI_EAX_7_1 = 1u << 4 | 1u << 23, VNNI_EDX_7_1 = 1u << 4 | 1u << 5 | 1u << 10;

static int with_vnni;

static void answer(unsigned leaf, unsigned subleaf, unsigned r[4])
{
    syscall(SYS_arch_prctl, SET_CPUID, 1L);
    __cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]);
    syscall(SYS_arch_prctl, SET_CPUID, 0L);
    if (leaf == 7 && subleaf == 0) {
        r[1] &= ~EBX_7;
        r[2] &= ~ECX_7;
        r[3] &= ~EDX_7;
    } else if (leaf == 7 && subleaf == 1) {
        r[0] &= ~(EAX_7_1 | (with_vnni ? 0 : VNNI_EAX_7_1));
        r[3] &= ~(EDX_7_1 | (with_vnni ? 0 : VNNI_EDX_7_1));
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *at = (const unsigned char *)reg[REG_RIP];
    unsigned r[4];
    (void)info;
    if (at[0] != 0x0f || at[1] != 0xa2) {
        signal(number, SIG_DFL); /* a real fault comes again */
        return;
    }
    answer((unsigned)reg[REG_RAX], (unsigned)reg[REG_RCX], r);
    reg[REG_RAX] = r[0];
    reg[REG_RBX] = r[1];
    reg[REG_RCX] = r[2];
    reg[REG_RDX] = r[3];
    reg[REG_RIP] += CPUID_BYTES;
}

__attribute__((constructor)) static void hold(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    with_vnni = getenv("HOLD_AVX_VNNI") != NULL;
    unsetenv("LD_PRELOAD"); /* compilers have a handler of their own */
    if (sigaction(SIGSEGV, &action, NULL) == 0)
        syscall(SYS_arch_prctl, SET_CPUID, 0L);
}
