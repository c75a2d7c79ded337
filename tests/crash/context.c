/* SPDX-License-Identifier: BSD-2-Clause */
/* Coroutines; see context.h.  sim.c is the only caller.
 *
 * On x86-64 a switch is by hand: the six registers that a call preserves go
 * onto the stack, and the stack pointer is exchanged.  swapcontext () would
 * make two system calls each time for a signal mask that never differs; other
 * machines have it all the same.
 *
 * A new stack looks as if its coroutine had just switched away at the start of
 * entry ():
 *
 *   sp -> | r15 | r14 | r13 | r12 | rbx | rbp | entry | 0 |
 */

#include <config.h>

#include "context.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define GUARD_BYTES 4096u

void *
context_stack_new (size_t bytes)
{
  char *p = mmap (NULL, bytes + GUARD_BYTES, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

  if (p == MAP_FAILED)
    return NULL;
  mprotect (p, GUARD_BYTES, PROT_NONE);
  return p + GUARD_BYTES;
}

void
context_stack_free (void *stack, size_t bytes)
{
  if (stack != NULL)
    munmap ((char *) stack - GUARD_BYTES, bytes + GUARD_BYTES);
}

#ifdef __x86_64__

extern void crash_context_step (void **save_sp, void *load_sp);

__asm__(".text\n"
        ".globl crash_context_step\n"
        ".hidden crash_context_step\n"
        ".type crash_context_step, @function\n"
        "crash_context_step:\n"
        "  pushq %rbp\n"
        "  pushq %rbx\n"
        "  pushq %r12\n"
        "  pushq %r13\n"
        "  pushq %r14\n"
        "  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n"
        "  popq %r14\n"
        "  popq %r13\n"
        "  popq %r12\n"
        "  popq %rbx\n"
        "  popq %rbp\n"
        "  ret\n"
        ".size crash_context_step, .-crash_context_step\n");

static void
make (struct context *c, void (*entry) (void))
{
  uintptr_t top = (uintptr_t) c->stack + c->stack_bytes;
  void **sp = (void **) (top & ~(uintptr_t) 15) - 8;

  memset (sp, 0, 8 * sizeof *sp);
  sp[6] = (void *) (uintptr_t) entry;
  c->sp = sp;
}

static void
step (struct context *from, struct context *to)
{
  crash_context_step (&from->sp, to->sp);
}

#else

static void
make (struct context *c, void (*entry) (void))
{
  getcontext (&c->uc);
  c->uc.uc_stack.ss_sp = c->stack;
  c->uc.uc_stack.ss_size = c->stack_bytes;
  c->uc.uc_link = NULL;
  makecontext (&c->uc, entry, 0);
}

static void
step (struct context *from, struct context *to)
{
  swapcontext (&from->uc, &to->uc);
}

#endif

void
context_make (struct context *c, void *stack, size_t stack_bytes,
              void (*entry) (void))
{
#ifdef __SANITIZE_ADDRESS__
  /* The one before it never returned, so its frames are marked still. */
  __asan_unpoison_memory_region (stack, stack_bytes);
#endif
  *c = (struct context){ .stack = stack, .stack_bytes = stack_bytes };
  make (c, entry);
}

#ifdef __SANITIZE_ADDRESS__

/* Where the thread's own stack is, told by the first switch away from it. */
static const void *own_stack;
static size_t own_bytes;

void
context_switch (struct context *from, struct context *to)
{
  const void *old;
  size_t old_bytes;

  __sanitizer_start_switch_fiber (
      &from->fake, to->stack != NULL ? to->stack : own_stack,
      to->stack != NULL ? to->stack_bytes : own_bytes);
  step (from, to);
  __sanitizer_finish_switch_fiber (from->fake, &old, &old_bytes);
}

void
context_entered (void)
{
  const void *old;
  size_t old_bytes;

  __sanitizer_finish_switch_fiber (NULL, &old, &old_bytes);
  if (own_stack == NULL) {
    own_stack = old;
    own_bytes = old_bytes;
  }
}

#else

void
context_switch (struct context *from, struct context *to)
{
  step (from, to);
}

void
context_entered (void)
{
}

#endif
