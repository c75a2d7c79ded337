/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests of the swap pager; see test-rig.h. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "test-rig.h"

static void
on_event (void *arg, enum farpage_event event)
{
  struct rig *r = arg;

  atomic_fetch_add (&r->events[event], 1);
}

static void
on_line (void *arg, int priority, const char *line)
{
  (void) arg;
  if (getenv ("FARPAGE_TEST_LOG") != NULL)
    fprintf (stderr, "<%d> %s\n", priority, line);
}

void
rig_options (struct rig *r, struct farpage_options *options)
{
  farpage_options_init (options);
  options->deadline_us = 20000000;
  options->event = on_event;
  options->log = on_line;
  options->arg = r;
}

static void
clear (struct rig *r)
{
  char toggle[sizeof r->toggle];

  memcpy (toggle, r->toggle, sizeof toggle);
  memset (r, 0, sizeof *r);
  memcpy (r->toggle, toggle, sizeof toggle);
}

void
rig_open (struct rig *r, const char *uri, const struct farpage_options *options)
{
  struct farpage_options o;
  int err;

  rig_options (r, &o);
  if (options != NULL) {
    o = *options;
    o.arg = r;
  }
  err = farpage_link_open (uri, &o, &r->link);
  if (err)
    fail_msg ("%s: %s", uri, strerror (err));
  err = farpage_swap_open (r->link, &r->swap);
  if (err)
    fail_msg ("swap on %s: %s", uri, strerror (err));
  r->mem = aligned_alloc (FARPAGE_PAGE, RIG_PAGES * FARPAGE_PAGE);
  memset (r->mem, 0xee, RIG_PAGES * FARPAGE_PAGE);
}

bool
rig_start (struct rig *r, enum server_kind kind, uint64_t size,
           const char *filter, const struct farpage_options *options)
{
  char uri[300];

  clear (r);
  if (!server_start (&r->server, kind, size, filter)) {
    print_message ("%s cannot run here\n", server_names[kind]);
    return false;
  }
  server_uri (&r->server, uri, sizeof uri);
  rig_open (r, uri, options);
  return true;
}

bool
rig_start_behind (struct rig *r, enum server_kind kind, uint64_t size)
{
  return rig_start_behind_as (r, kind, size, NULL);
}

bool
rig_start_behind_as (struct rig *r, enum server_kind kind, uint64_t size,
                     const struct farpage_options *options)
{
  char uri[300];

  clear (r);
  if (!relay_is_there () || !server_start (&r->server, kind, size, NULL)) {
    print_message ("%s or the relay cannot run here\n", server_names[kind]);
    return false;
  }
  relay_start (&r->relay, &r->server, false, "");
  r->relayed = true;
  relay_uri (&r->relay, kind == SERVER_FARPAGE ? "swap/test:64M" : "", uri,
             sizeof uri);
  rig_open (r, uri, options);
  return true;
}

void
rig_start_failing (struct rig *r, uint64_t size, const char *kind)
{
  char filter[500];

  snprintf (r->toggle, sizeof r->toggle, "%s/fail", net_dir ());
  unlink (r->toggle);
  snprintf (filter, sizeof filter,
            "error error-%s=EIO error-%s-rate=100%% error-%s-file=%s", kind,
            kind, kind, r->toggle);
  assert_true (rig_start (r, SERVER_MEMORY, size, filter, NULL));
}

void
rig_fail (struct rig *r, bool on)
{
  if (on)
    close (open (r->toggle, O_CREAT | O_WRONLY, 0600));
  else
    unlink (r->toggle);
}

struct checking {
  struct farpage_swap *swap;
  const char *wrong;
};

static void
check (void *arg)
{
  struct checking *c = arg;

  c->wrong = swap_check (c->swap);
}

void
rig_check (struct rig *r)
{
  struct checking c = { .swap = r->swap };

  assert_int_equal (loop_call (r->swap->loop, check, &c), 0);
  if (c.wrong != NULL)
    fail_msg ("swap_check: %s", c.wrong);
}

static void
set_step_pages (void *arg)
{
  struct farpage_swap *s = arg;

  s->step_pages = 8;
}

void
rig_small_steps (struct rig *r)
{
  assert_int_equal (loop_call (r->swap->loop, set_step_pages, r->swap), 0);
}

static void
stand_still (struct job *job)
{
  struct rig *r =
      (struct rig *) (void *) ((char *) job - offsetof (struct rig, hold.job));

  sem_post (&r->hold.begun);
  while (sem_wait (&r->hold.end) == -1)
    ;
  sem_destroy (&r->hold.end);
}

void
rig_hold (struct rig *r)
{
  sem_init (&r->hold.begun, 0, 0);
  sem_init (&r->hold.end, 0, 0);
  r->hold.job.fn = stand_still;
  loop_post (r->swap->loop, &r->hold.job);
  while (sem_wait (&r->hold.begun) == -1)
    ;
  sem_destroy (&r->hold.begun);
}

void
rig_let_go (struct rig *r)
{
  sem_post (&r->hold.end);
}

void
rig_stat (struct rig *r, struct farpage_stat *st)
{
  assert_int_equal (farpage_stat (r->link, st, sizeof *st), 0);
}

void
rig_close (struct rig *r)
{
  rig_check (r);
  assert_int_equal (farpage_swap_close (r->swap), 0);
  assert_int_equal (farpage_link_close (r->link), 0);
  free (r->mem);
}

void
rig_end (struct rig *r)
{
  rig_close (r);
  if (r->relayed)
    relay_stop (&r->relay);
  server_kill (&r->server);
  if (r->toggle[0] != '\0')
    unlink (r->toggle);
  r->toggle[0] = '\0';
}

/* ---- content ---- */

static uint64_t
word_of (uint64_t key, uint64_t page, uint64_t version, unsigned i)
{
  uint64_t x = (key << 56) ^ (page << 24) ^ version;

  x = (x ^ i * UINT64_C (0x9e3779b97f4a7c15)) * UINT64_C (0xbf58476d1ce4e5b9);
  return x ^ x >> 29;
}

void
rig_fill (void *to, uint64_t key, uint64_t page, uint64_t version)
{
  uint64_t *word = to;

  for (unsigned i = 0; i < FARPAGE_PAGE / sizeof *word; i++)
    word[i] = word_of (key, page, version, i);
}

bool
rig_is (const void *from, uint64_t key, uint64_t page, uint64_t version)
{
  const uint64_t *word = from;

  for (unsigned i = 0; i < FARPAGE_PAGE / sizeof *word; i++)
    if (word[i] != word_of (key, page, version, i))
      return false;
  return true;
}

void
rig_addrs (struct rig *r, void *addr[], unsigned i, unsigned n, unsigned stride)
{
  for (unsigned k = 0; k < n; k++)
    addr[k] = r->mem + (size_t) ((i + k * stride) % RIG_PAGES) * FARPAGE_PAGE;
}

struct farpage_object *
rig_make (struct rig *r, const char *name, uint64_t nr_pages)
{
  struct farpage_object *o = NULL;

  assert_int_equal (farpage_alloc (r->swap, name, 0, nr_pages * PAGE, &o), 0);
  assert_int_equal (farpage_pages (o), nr_pages);
  return o;
}

enum farpage_result
rig_put (struct rig *r, struct farpage_object *o, uint64_t key, uint64_t first,
         unsigned n, uint64_t version)
{
  enum farpage_result results[RIG_PAGES];
  void *addr[RIG_PAGES] = { NULL };

  rig_addrs (r, addr, 0, n, 1);
  for (unsigned i = 0; i < n; i++)
    rig_fill (addr[i], key, first + i, version);
  assert_int_equal (farpage_putpages (o, first, n, addr, results), 0);
  for (unsigned i = 1; i < n; i++)
    assert_int_equal (results[i], results[0]);
  return results[0];
}

enum farpage_result
rig_get (struct rig *r, struct farpage_object *o, uint64_t page)
{
  void *at = r->mem + (RIG_PAGES - 1) * PAGE;
  enum farpage_result result;

  memset (at, 0xcc, PAGE);
  assert_int_equal (farpage_getpages (o, page, 1, 0, &at, &result), 0);
  return result;
}

void
rig_assert_has (struct rig *r, struct farpage_object *o, uint64_t page,
                uint64_t key, uint64_t as, uint64_t version)
{
  assert_int_equal (rig_get (r, o, page), FARPAGE_OK);
  assert_true (rig_is (r->mem + (RIG_PAGES - 1) * PAGE, key, as, version));
}

/* ---- waiting ---- */

void
wait_init (struct wait *w, uint64_t first, unsigned count)
{
  pthread_mutex_init (&w->mutex, NULL);
  pthread_cond_init (&w->cond, NULL);
  w->first = first;
  w->count = w->left = count;
  for (unsigned i = 0; i < count; i++)
    w->result[i] = FARPAGE_PEND;
}

void
wait_page (void *arg, uint64_t page, enum farpage_result result)
{
  struct wait *w = arg;

  pthread_mutex_lock (&w->mutex);
  w->result[page - w->first] = result;
  w->us[page - w->first] = net_now_us ();
  w->left--;
  pthread_cond_signal (&w->cond);
  pthread_mutex_unlock (&w->mutex);
}

void
wait_all (struct wait *w)
{
  pthread_mutex_lock (&w->mutex);
  while (w->left > 0)
    pthread_cond_wait (&w->cond, &w->mutex);
  pthread_mutex_unlock (&w->mutex);
  pthread_cond_destroy (&w->cond);
  pthread_mutex_destroy (&w->mutex);
}
