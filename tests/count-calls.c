/* SPDX-License-Identifier: BSD-2-Clause */
/* Counts what a running nbdkit asks of the allocator and writes as text, and
 * tells the plugin's share from nbdkit's: LD_PRELOAD for test-calls.sh.
 *
 *   malloc (), mmap (), vsnprintf (), ...  of everybody
 *     --> note --> a frame of the plugin on the stack?  ours : others
 *     --> the real one
 *
 * A call is the plugin's if the plugin is anywhere on the stack, so also what a
 * library does for it, and what nbdkit does for its messages.  (nbdkit_error ()
 * itself cannot be preloaded, for the plugin has it from the program; but it
 * prints, and so does nbdkit_debug () with -v.)
 *
 * The file in $FARPAGE_CALLS is the report: a word that the test sets to 1
 * while calls count, the number of rows, a pair of counts for each kind below,
 * and rows of text, one for each call of ours: its name, and where in the
 * plugin it was called.
 *
 * What the C library does for itself by names of its own (malloc's mmap, say)
 * is not seen, nor need it be: who asked for it is.
 */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHOWN __attribute__ ((visibility ("default")))

#define PLUGIN    "nbdkit-farpage-plugin.so"
#define ROWS      64u
#define ROW_BYTES 128u
#define FRAMES    32

enum kind {
  KIND_ALLOC, /* malloc, calloc, realloc, aligned */
  KIND_FREE,
  KIND_MAP,    /* mmap, munmap, mremap, brk */
  KIND_THREAD, /* pthread_create */
  KIND_TEXT,   /* formatting and writing */
  KINDS
};

struct report {
  atomic_uint on, nr_rows;
  struct {
    atomic_uint ours, others;
  } kind[KINDS];
  char row[ROWS][ROW_BYTES];
};

static struct report *report; /* [const] NULL: nobody wants it */
static _Atomic uintptr_t plugin_first, plugin_end;
static __thread bool inside; /* our own calls do not count */

/* The C library's own, for who comes before the constructor. */
extern void *__libc_malloc (size_t bytes);
extern void *__libc_calloc (size_t nr, size_t bytes);
extern void *__libc_realloc (void *p, size_t bytes);
extern void *__libc_memalign (size_t align, size_t bytes);
extern void __libc_free (void *p);

/* ---- whose call it is ---- */

static int
look_at_object (struct dl_phdr_info *info, size_t bytes, void *arg)
{
  uintptr_t end = 0;

  (void) bytes;
  (void) arg;
  if (strstr (info->dlpi_name, PLUGIN) == NULL)
    return 0;
  for (unsigned i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_LOAD)
      end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr +
            info->dlpi_phdr[i].p_memsz;
  atomic_store (&plugin_end, end);
  atomic_store (&plugin_first, info->dlpi_addr);
  return 1;
}

/* The offset in the plugin, or 0. */
static uintptr_t
in_plugin (void *frame)
{
  uintptr_t at = (uintptr_t) frame, first = atomic_load (&plugin_first);

  return at >= first && at < atomic_load (&plugin_end) ? at - first : 0;
}

static void
add_row (const char *name, void **frames, int nr)
{
  unsigned n = atomic_fetch_add (&report->nr_rows, 1);
  char *row = report->row[n % ROWS];
  int len;

  if (n >= ROWS)
    return;
  len = sprintf (row, "%s", name);
  for (int i = 0; i < nr && len < (int) ROW_BYTES - 24; i++)
    if (in_plugin (frames[i]) != 0)
      len +=
          sprintf (row + len, " %#lx", (unsigned long) in_plugin (frames[i]));
}

static void
note (enum kind kind, const char *name)
{
  int error = errno, nr;
  void *frames[FRAMES];
  bool ours = false;

  if (report == NULL || inside || atomic_load (&report->on) == 0)
    return;
  inside = true;
  if (atomic_load (&plugin_first) == 0)
    dl_iterate_phdr (look_at_object, NULL);
  nr = backtrace (frames, FRAMES);
  for (int i = 0; i < nr; i++)
    ours = ours || in_plugin (frames[i]) != 0;
  atomic_fetch_add (
      ours ? &report->kind[kind].ours : &report->kind[kind].others, 1);
  if (ours)
    add_row (name, frames, nr);
  inside = false;
  errno = error;
}

static void __attribute__ ((constructor)) begin (void)
{
  const char *path = getenv ("FARPAGE_CALLS");
  void *frames[1], *p;
  int fd;

  if (path == NULL)
    return;
  (void) backtrace (frames, 1); /* which allocates the first time */
  fd = open (path, O_RDWR | O_CLOEXEC);
  if (fd == -1 || ftruncate (fd, sizeof *report) == -1)
    abort ();
  p = mmap (NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED)
    abort ();
  close (fd);
  report = p;
}

static void *
real_of (void **real, const char *name)
{
  if (*real == NULL)
    *real = dlsym (RTLD_NEXT, name);
  return *real;
}

/* ---- memory ---- */

SHOWN void *
malloc (size_t bytes)
{
  note (KIND_ALLOC, "malloc");
  return __libc_malloc (bytes);
}

SHOWN void *
calloc (size_t nr, size_t bytes)
{
  note (KIND_ALLOC, "calloc");
  return __libc_calloc (nr, bytes);
}

SHOWN void *
realloc (void *p, size_t bytes)
{
  note (KIND_ALLOC, "realloc");
  return __libc_realloc (p, bytes);
}

SHOWN void *
aligned_alloc (size_t align, size_t bytes)
{
  note (KIND_ALLOC, "aligned_alloc");
  return __libc_memalign (align, bytes);
}

SHOWN int
posix_memalign (void **to, size_t align, size_t bytes)
{
  note (KIND_ALLOC, "posix_memalign");
  *to = __libc_memalign (align, bytes);
  return *to != NULL ? 0 : ENOMEM;
}

SHOWN void
free (void *p)
{
  if (p != NULL)
    note (KIND_FREE, "free");
  __libc_free (p);
}

SHOWN void *
mmap (void *at, size_t bytes, int prot, int flags, int fd, off_t off)
{
  static void *real;
  void *(*fn) (void *, size_t, int, int, int, off_t);

  note (KIND_MAP, "mmap");
  *(void **) &fn = real_of (&real, "mmap");
  return fn (at, bytes, prot, flags, fd, off);
}

extern void *mmap64 (void *at, size_t bytes, int prot, int flags, int fd,
                     off_t off) __attribute__ ((alias ("mmap"))) SHOWN;

SHOWN int
munmap (void *p, size_t bytes)
{
  static void *real;
  int (*fn) (void *, size_t);

  note (KIND_MAP, "munmap");
  *(void **) &fn = real_of (&real, "munmap");
  return fn (p, bytes);
}

SHOWN void *
sbrk (intptr_t more)
{
  static void *real;
  void *(*fn) (intptr_t);

  note (KIND_MAP, "sbrk");
  *(void **) &fn = real_of (&real, "sbrk");
  return fn (more);
}

SHOWN int
pthread_create (pthread_t *to, const pthread_attr_t *attr,
                void *(*start) (void *), void *arg)
{
  static void *real;
  int (*fn) (pthread_t *, const pthread_attr_t *, void *(*) (void *), void *);

  note (KIND_THREAD, "pthread_create");
  *(void **) &fn = real_of (&real, "pthread_create");
  return fn (to, attr, start, arg);
}

/* ---- text: what log_write () begins with, and what a message of nbdkit's
 * cannot do without
 */

typedef int vsnprintf_fn (char *, size_t, const char *, va_list);
typedef int vfprintf_fn (FILE *, const char *, va_list);
typedef int vasprintf_fn (char **, const char *, va_list);

static int
to_string (char *to, size_t bytes, const char *fmt, va_list args)
{
  static void *real;
  vsnprintf_fn *fn;

  *(void **) &fn = real_of (&real, "vsnprintf");
  return fn (to, bytes, fmt, args);
}

static int
to_file (FILE *to, const char *fmt, va_list args)
{
  static void *real;
  vfprintf_fn *fn;

  *(void **) &fn = real_of (&real, "vfprintf");
  return fn (to, fmt, args);
}

SHOWN int
vsnprintf (char *to, size_t bytes, const char *fmt, va_list args)
{
  note (KIND_TEXT, "vsnprintf");
  return to_string (to, bytes, fmt, args);
}

SHOWN int
snprintf (char *to, size_t bytes, const char *fmt, ...)
{
  va_list args;
  int n;

  note (KIND_TEXT, "snprintf");
  va_start (args, fmt);
  n = to_string (to, bytes, fmt, args);
  va_end (args);
  return n;
}

SHOWN int
vfprintf (FILE *to, const char *fmt, va_list args)
{
  note (KIND_TEXT, "vfprintf");
  return to_file (to, fmt, args);
}

SHOWN int
fprintf (FILE *to, const char *fmt, ...)
{
  va_list args;
  int n;

  note (KIND_TEXT, "fprintf");
  va_start (args, fmt);
  n = to_file (to, fmt, args);
  va_end (args);
  return n;
}

/* nbdkit's, which is built with these. */
extern int __vfprintf_chk (FILE *to, int flag, const char *fmt, va_list args);
extern int __vasprintf_chk (char **to, int flag, const char *fmt, va_list args);

SHOWN int
__vfprintf_chk (FILE *to, int flag, const char *fmt, va_list args)
{
  (void) flag;
  note (KIND_TEXT, "__vfprintf_chk");
  return to_file (to, fmt, args);
}

SHOWN int
__vasprintf_chk (char **to, int flag, const char *fmt, va_list args)
{
  static void *real;
  vasprintf_fn *fn;

  (void) flag;
  note (KIND_TEXT, "__vasprintf_chk");
  *(void **) &fn = real_of (&real, "vasprintf");
  return fn (to, fmt, args);
}

SHOWN int
fputs (const char *text, FILE *to)
{
  static void *real;
  int (*fn) (const char *, FILE *);

  note (KIND_TEXT, "fputs");
  *(void **) &fn = real_of (&real, "fputs");
  return fn (text, to);
}

SHOWN ssize_t
write (int fd, const void *from, size_t bytes)
{
  static void *real;
  ssize_t (*fn) (int, const void *, size_t);

  if (fd == STDERR_FILENO || fd == STDOUT_FILENO)
    note (KIND_TEXT, "write");
  *(void **) &fn = real_of (&real, "write");
  return fn (fd, from, bytes);
}
