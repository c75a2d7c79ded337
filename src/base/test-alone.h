/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the thread sanitizer is not to follow a test. */

#ifndef FARPAGE_TEST_ALONE_H
#define FARPAGE_TEST_ALONE_H

/* Around a look at media that a store writes meanwhile, as a crash has it: the
 * thread sanitizer is not to see it.
 */
#ifdef __SANITIZE_THREAD__
extern void AnnotateIgnoreReadsBegin (const char *file, int line);
extern void AnnotateIgnoreReadsEnd (const char *file, int line);
#else
#define AnnotateIgnoreReadsBegin(file, line) ((void) 0)
#define AnnotateIgnoreReadsEnd(file, line)   ((void) 0)
#endif

/* Around what one thread does alone, and much of it, like copies of whole
 * media: the thread sanitizer, which takes ten times as long for it and has
 * nothing to find, does not follow.
 */
static inline void
test_alone_begin (void)
{
  AnnotateIgnoreReadsBegin (__FILE__, __LINE__); /* and writes */
}

static inline void
test_alone_end (void)
{
  AnnotateIgnoreReadsEnd (__FILE__, __LINE__);
}

#endif /* FARPAGE_TEST_ALONE_H */
