/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap pager on a network that stands still: what is told after 20 s, and
 * again, and what the deadline ends.
 *
 * Nobody waits here: a test makes what is under way older (age ()).  The link
 * and the pager look at their clocks once a second.  When the results are
 * there the pages are taken out of this process, so that whoever touches them
 * later ends it; under valgrind, too.
 */

#include <config.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "link-impl.h"
#include "test-rig.h"

#define WAIT_MS 20000u

/* ---- messages ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char said[16384]; /* [mutex] */

static void
on_line (void *arg, int priority, const char *line)
{
  size_t len;

  (void) arg;
  (void) priority;
  pthread_mutex_lock (&mutex);
  len = strlen (said);
  snprintf (said + len, sizeof said - len, "%s\n", line);
  pthread_mutex_unlock (&mutex);
}

static unsigned
nr_said (const char *part)
{
  unsigned nr = 0;

  pthread_mutex_lock (&mutex);
  for (const char *p = said; (p = strstr (p, part)) != NULL; p++)
    nr++;
  pthread_mutex_unlock (&mutex);
  return nr;
}

static void
wait_said (const char *part)
{
  for (unsigned ms = 0; ms < WAIT_MS && nr_said (part) == 0; ms += 10)
    net_sleep_ms (10);
  if (nr_said (part) == 0) {
    fprintf (stderr, "%s", said);
    fail_msg ("nobody said: %s", part);
  }
}

static void
forget (void)
{
  pthread_mutex_lock (&mutex);
  said[0] = '\0';
  pthread_mutex_unlock (&mutex);
}

/* ---- time ---- */

struct ageing {
  struct rig *rig;
  uint64_t us;
};

static void
age_list (struct request_list *list, uint64_t us)
{
  for (struct request *req = list->first; req != NULL; req = req->next) {
    req->since_us -= us;
    req->told_us -= us;
  }
}

static void
do_age (void *arg)
{
  struct ageing *a = arg;
  struct link *l = atomic_load (&a->rig->link->link);

  for (unsigned q = 0; q < QUEUES; q++)
    age_list (&l->queue[q], a->us);
  age_list (&l->sent, a->us);
  age_list (&l->replied, a->us);
  for (struct waiter *w = a->rig->swap->waiters; w != NULL; w = w->next) {
    w->since_us -= a->us;
    w->told_us -= a->us;
  }
}

/* All that is under way or waits was there so much longer. */
static void
age (struct rig *r, unsigned s)
{
  struct ageing a = { r, UINT64_C (1000000) * s };

  assert_int_equal (loop_call (r->swap->loop, do_age, &a), 0);
}

static void
do_look (void *arg)
{
  struct ageing *a = arg;

  a->us = a->rig->swap->waiters != NULL;
}

/* Until somebody waits for paging. */
static void
wait_waiter (struct rig *r)
{
  struct ageing a = { r, 0 };

  for (unsigned ms = 0; ms < WAIT_MS && a.us == 0; ms += 5) {
    net_sleep_ms (5);
    assert_int_equal (loop_call (r->swap->loop, do_look, &a), 0);
  }
  assert_int_equal (a.us, 1);
}

/* ---- the network ---- */

static void
start (struct rig *r)
{
  struct farpage_options options;
  char uri[300];

  if (!relay_is_there ())
    skip ();
  forget ();
  assert_true (server_start (&r->server, SERVER_MEMORY, 64 * MIB, NULL));
  relay_start (&r->relay, &r->server, true, "");
  r->relayed = true;
  relay_uri (&r->relay, "", uri, sizeof uri);
  rig_options (r, &options);
  options.deadline_us = 0; /* that is, the usual one */
  options.log = on_line;
  rig_open (r, uri, &options);
}

static void *
map_pages (unsigned nr)
{
  void *at = mmap (NULL, nr * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  assert_true (at != MAP_FAILED);
  return at;
}

static void
addr_of (void *addr[], uint8_t *at, unsigned nr)
{
  for (unsigned i = 0; i < nr; i++)
    addr[i] = at + i * PAGE;
}

/* Until so many requests of each of these pools were sent. */
static void
wait_sent (struct rig *r, unsigned reads, unsigned writes)
{
  struct farpage_stat st;

  for (unsigned ms = 0; ms < WAIT_MS; ms += 5) {
    rig_stat (r, &st);
    if (st.pool[POOL_DEMAND].requests + st.pool[POOL_AHEAD].requests >= reads &&
        st.pool[POOL_WSYNC].requests + st.pool[POOL_WASYNC].requests >= writes)
      return;
    net_sleep_ms (5);
  }
  fail_msg ("requests are not sent");
}

/* ---- the deadline ---- */

#define GOT   16u  /* pages that are asked for: the wanted one goes alone */
#define SHORT 4u   /* or all in one request */
#define PUT   512u /* more than a socket takes */

/* A get and a put under way, in memory of their own. */
struct stuck {
  struct wait get, put;
  unsigned nr_got;
  uint8_t *got, *put_from;
};

static void
begin_stuck (struct stuck *s, struct farpage_object *o, unsigned nr_got)
{
  void *addr[PUT];

  s->nr_got = nr_got;
  s->got = map_pages (GOT);
  s->put_from = map_pages (PUT);
  memset (s->put_from, 7, PUT * PAGE);
  wait_init (&s->get, 0, nr_got);
  addr_of (addr, s->got, GOT);
  assert_int_equal (
      farpage_aio_getpages (o, 0, nr_got, 3, addr, 0, wait_page, &s->get), 0);
  wait_init (&s->put, 100, PUT);
  addr_of (addr, s->put_from, PUT);
  assert_int_equal (
      farpage_aio_putpages (o, 100, PUT, addr, 0, wait_page, &s->put), 0);
}

/* Within WAIT_MS: those that were not sent have their deadline, too, and none
 * gets another one.  sure: nothing moved, so the get was not answered.
 */
static void
end_stuck (struct stuck *s, bool sure)
{
  unsigned ms = 0;

  for (bool done = false; !done && ms < WAIT_MS; ms += 10) {
    net_sleep_ms (10);
    pthread_mutex_lock (&s->get.mutex);
    pthread_mutex_lock (&s->put.mutex);
    done = s->get.left == 0 && s->put.left == 0;
    pthread_mutex_unlock (&s->put.mutex);
    pthread_mutex_unlock (&s->get.mutex);
  }
  if (ms >= WAIT_MS)
    fail_msg ("after its deadline something is under way: %u gets, %u puts",
              s->get.left, s->put.left);
  wait_all (&s->get);
  wait_all (&s->put);
  munmap (s->got, GOT * PAGE);
  munmap (s->put_from, PUT * PAGE);
  for (unsigned i = 0; i < s->nr_got; i++)
    assert_true (s->get.result[i] == (i == 3 ? FARPAGE_ERROR : FARPAGE_AGAIN) ||
                 (!sure && s->get.result[i] == FARPAGE_OK));
  for (unsigned i = 0; i < PUT; i++)
    assert_int_equal (s->put.result[i], FARPAGE_ERROR);
}

/* frozen: nothing moves; else so slowly that answers are cut in their middle,
 * and then nothing moves.
 */
static void
deadline (bool frozen)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  static struct stuck s;
  struct farpage_stat st;

  start (&r);
  o = rig_make (&r, NULL, 1024);
  assert_int_equal (rig_put (&r, o, 1, 0, GOT, 1), FARPAGE_OK);
  assert_int_equal (rig_put (&r, o, 1, 100, 4, 1), FARPAGE_OK);
  relay_tell (&r.relay, frozen ? "freeze a" : "set a rate=50000");
  begin_stuck (&s, o, frozen ? SHORT : GOT);
  if (frozen)
    wait_sent (&r, 1, 1);
  else
    net_sleep_ms (60);
  relay_tell (&r.relay, "freeze a");
  age (&r, 290);
  net_sleep_ms (1300);
  assert_int_equal (nr_said ("takes too long"), 0);
  age (&r, 10);
  end_stuck (&s, frozen);
  assert_true (nr_said ("a request takes too long") > 0);
  rig_check (&r);
  rig_stat (&r, &st);
  /* What was sent may still land; what waited is free. */
  assert_true (st.blocks_limbo >= 16);
  assert_true (st.blocks_limbo <= 16 * st.pool[POOL_WASYNC].requests_peak);
  assert_int_equal (st.blocks_retired, 0);
  assert_int_equal (st.blocks_used, GOT + 4);
  relay_tell (&r.relay, "set a rate=0");
  relay_tell (&r.relay, "heal a"); /* late answers, to nobody */
  for (unsigned i = 0; i < GOT; i++)
    rig_assert_has (&r, o, i, 1, i, 1);
  rig_assert_has (&r, o, 103, 1, 103, 1); /* as before the put */
  assert_int_equal (rig_get (&r, o, 104), FARPAGE_FAIL);
  assert_int_equal (rig_put (&r, o, 1, 100, 64, 2), FARPAGE_OK);
  rig_assert_has (&r, o, 163, 1, 163, 2);
  assert_int_equal (atomic_load (&r.events[FARPAGE_LOST]), 0);
  assert_int_equal (farpage_dealloc (o), 0);
  rig_end (&r);
}

static void
test_deadline (void **state)
{
  (void) state;
  deadline (true);
}

static void
test_deadline_half (void **state)
{
  (void) state;
  deadline (false);
}

/* ---- what is told ---- */

static void *
deallocs (void *arg)
{
  assert_int_equal (farpage_dealloc (arg), 0);
  return NULL;
}

/* Not before 20 s; then once in 20 s, of requests and of who waits for them. */
static void
test_told (void **state)
{
  struct rig r = { .link = NULL };
  struct farpage_object *o;
  struct farpage_stat st;
  static struct stuck s;
  pthread_t thread;

  (void) state;
  start (&r);
  o = rig_make (&r, NULL, 1024);
  assert_int_equal (rig_put (&r, o, 1, 0, GOT, 1), FARPAGE_OK);
  relay_tell (&r.relay, "freeze a");
  begin_stuck (&s, o, GOT);
  pthread_create (&thread, NULL, deallocs, o);
  wait_sent (&r, 1, 1);
  wait_waiter (&r);
  age (&r, 10);
  net_sleep_ms (1300);
  rig_stat (&r, &st);
  assert_int_equal (st.reports, 0);
  assert_int_equal (nr_said (", for "), 0);
  age (&r, 10);
  wait_said ("read of 4096 bytes at ");
  wait_said ("is on connection 0, for 2");
  wait_said ("write of 65536 bytes at ");
  wait_said (" waits, for 2"); /* one that found no room yet */
  wait_said ("has waited for paging for 2");
  net_sleep_ms (1300); /* not each second */
  assert_int_equal (nr_said ("is on connection 0, for 2"), 1);
  age (&r, 20);
  wait_said ("is on connection 0, for 4");
  wait_said ("has waited for paging for 4");
  assert_int_equal (nr_said ("is on connection 0, for 4"), 1);
  relay_tell (&r.relay, "heal a");
  wait_all (&s.get);
  wait_all (&s.put);
  pthread_join (thread, NULL);
  assert_int_equal (s.get.result[3], FARPAGE_OK);
  assert_int_equal (s.put.result[PUT - 1], FARPAGE_OK);
  munmap (s.got, GOT * PAGE);
  munmap (s.put_from, PUT * PAGE);
  rig_end (&r);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_deadline),
    cmocka_unit_test (test_deadline_half),
    cmocka_unit_test (test_told),
  };

  return NET_RUN (tests);
}
