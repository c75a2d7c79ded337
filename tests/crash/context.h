/* SPDX-License-Identifier: BSD-2-Clause */
/* Coroutines: stacks, and the step from one to another. */

#ifndef FARPAGE_CRASH_CONTEXT_H
#define FARPAGE_CRASH_CONTEXT_H

#include <stddef.h>

#ifndef __x86_64__
#include <ucontext.h>
#endif

struct context {
#ifdef __x86_64__
  void *sp; /* of one that does not run */
#else
  ucontext_t uc;
#endif
  void *stack; /* NULL: the thread's own */
  size_t stack_bytes;
  void *fake; /* the address sanitizer's */
};

/* With guard page; NULL: no memory. */
extern void *context_stack_new (size_t bytes);
extern void context_stack_free (void *stack, size_t bytes);

/* c begins with entry () when it is first switched to; entry never returns. */
extern void context_make (struct context *c, void *stack, size_t stack_bytes,
                          void (*entry) (void));

/* Go on with `to`; returns when somebody switches to `from`. */
extern void context_switch (struct context *from, struct context *to);
/* The first thing entry () does. */
extern void context_entered (void);

#endif /* FARPAGE_CRASH_CONTEXT_H */
