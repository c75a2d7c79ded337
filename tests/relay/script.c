/* SPDX-License-Identifier: BSD-2-Clause */
/* What standard input says, and what standard output answers.
 *
 * Called by relay.c and the loop; calls link.c, conn.c, pipe.c.
 *
 *   line ─▶ words ─▶ command ─▶ "ok ..." or "error ..."
 *
 * I1  One answer for each line that is not blank, in their order, written when
 *     what it says holds.
 * I2  A command that is wrong changes nothing.
 */

#include <config.h>

#include "script.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX    32
#define DELAY_US_MAX UINT64_C (3600000000)
#define RATE_MAX     UINT64_C (1000000000000)

const char script_help[] =
    "  listen LINK AT TARGET [KEY=VALUE]...\n"
    "                       forward who connects AT to TARGET, both\n"
    "                       tcp:HOST:PORT or unix:PATH; port 0 is chosen:\n"
    "                       \"ok LINK tcp:127.0.0.1:39123\"\n"
    "  set LINK KEY=VALUE...  for bytes that are read from now on:\n"
    "    delay=US             of each byte, microseconds (0)\n"
    "    jitter=US            0 to this much is added to it (0)\n"
    "    rate=BYTES           a second; 0: no limit (0)\n"
    "    each=0|1             the rate is for each connection, not for all (0)\n"
    "    seed=N               of the jitter of new connections (0)\n"
    "                       All but seed also as delay-up, delay-down, ...\n"
    "  freeze LINK [up|down] [conn=N]  no byte moves, nobody is accepted\n"
    "  thaw LINK [up|down] [conn=N]    all goes on from there\n"
    "  cut LINK [conn=N] [how=reset|close]\n"
    "                       end it, or all of them; bytes in flight are lost\n"
    "  cut LINK up|down at=N|after=N [conn=N] [how=reset|close]\n"
    "                       end it when so many bytes have left, since its\n"
    "                       start or from now; at= is for connections to come,\n"
    "                       too\n"
    "  refuse LINK          who connects is refused\n"
    "  heal LINK            thaw, accept, forget cuts to come\n"
    "  stat [LINK]          one line of JSON: \"ok [{...}]\"\n"
    "  sleep US             obey the next line after that\n";

/* What a command line says, besides its first words. */
struct options {
  bool way[NR_WAYS];
  struct conn *conn;
  uint64_t at, after; /* CUT_NEVER: not given */
  enum cut_how how;
};

__attribute__ ((format (printf, 1, 2))) static bool
wrong (const char *format, ...)
{
  va_list args;

  fputs ("error ", stdout);
  va_start (args, format);
  vprintf (format, args);
  va_end (args);
  putchar ('\n');
  fflush (stdout);
  return false;
}

static bool
right (void)
{
  puts ("ok");
  fflush (stdout);
  return true;
}

/* A decimal number up to max. */
static bool
number (const char *text, uint64_t max, uint64_t *n)
{
  uint64_t value = 0;

  if (*text == '\0')
    return false;
  for (; *text != '\0'; text++) {
    unsigned digit = (unsigned char) *text - '0';

    if (digit > 9 || digit > max || value > (max - digit) / 10)
      return false;
    value = value * 10 + digit;
  }
  *n = value;
  return true;
}

/* KEY=VALUE, KEY-up=VALUE or KEY-down=VALUE: which ways.  NULL: not it. */
static const char *
value_of (const char *word, const char *key, bool way[NR_WAYS])
{
  static const char *const tails[] = { "=", "-up=", "-down=" };
  size_t len = strlen (key);

  if (strncmp (word, key, len) != 0)
    return NULL;
  word += len;
  for (unsigned i = 0; i < 3; i++) {
    if (strncmp (word, tails[i], strlen (tails[i])) != 0)
      continue;
    way[UP] = i != 2;
    way[DOWN] = i != 1;
    return word + strlen (tails[i]);
  }
  return NULL;
}

/* ---- set ---- */

/* One KEY=VALUE, tried on a copy of what a link has. */
static bool
set_one (const char *word, struct travel travel[NR_WAYS], uint64_t *seed)
{
  static const char *const keys[] = { "delay", "jitter", "rate", "each" };
  static const uint64_t max[] = { DELAY_US_MAX, DELAY_US_MAX, RATE_MAX, 1 };
  uint64_t n;

  for (unsigned k = 0; k < 4; k++) {
    bool way[NR_WAYS];
    const char *value = value_of (word, keys[k], way);

    if (value == NULL)
      continue;
    if (!number (value, max[k], &n))
      return false;
    for (enum way w = UP; w < NR_WAYS; w++) {
      if (!way[w])
        continue;
      if (k == 0)
        travel[w].delay_ns = (int64_t) n * 1000;
      else if (k == 1)
        travel[w].jitter_ns = (int64_t) n * 1000;
      else if (k == 2)
        travel[w].rate.bytes_per_s = n;
      else
        travel[w].each = n;
    }
    return true;
  }
  if (strncmp (word, "seed=", 5) != 0 || !number (word + 5, UINT64_MAX, &n))
    return false;
  *seed = n;
  return true;
}

/* All of words, up to a NULL, or nothing: then the bad word, else NULL. */
static const char *
set_all (struct link *link, char **words)
{
  struct travel travel[NR_WAYS] = { link->travel[UP], link->travel[DOWN] };
  uint64_t seed = link->seed;

  for (; *words != NULL; words++)
    if (!set_one (*words, travel, &seed))
      return *words;
  link->seed = seed;
  for (enum way w = UP; w < NR_WAYS; w++) {
    struct travel *t = &link->travel[w];

    t->delay_ns = travel[w].delay_ns;
    t->jitter_ns = travel[w].jitter_ns;
    if (t->rate.bytes_per_s != travel[w].rate.bytes_per_s ||
        t->each != travel[w].each)
      link_set_rate (link, w, travel[w].rate.bytes_per_s, travel[w].each);
  }
  return NULL;
}

static bool
cmd_set (struct script *s, struct link *link, char **words)
{
  const char *bad = set_all (link, words);

  (void) s;
  return bad == NULL ? right () : wrong ("%s: what is that?", bad);
}

static bool
cmd_listen (struct script *s, char **words)
{
  struct addr at, target;
  struct link *link;
  char text[ADDR_TEXT_MAX];
  const char *bad;
  int err;

  if (words[0] == NULL || words[1] == NULL || words[2] == NULL)
    return wrong ("listen LINK AT TARGET");
  if (strlen (words[0]) >= LINK_NAME_MAX ||
      strpbrk (words[0], "\"\\") != NULL ||
      link_find (s->relay, words[0]) != NULL)
    return wrong ("%s: no good name, or there is one", words[0]);
  if (addr_parse (words[1], &at) != 0)
    return wrong ("%s: no address", words[1]);
  if (addr_parse (words[2], &target) != 0)
    return wrong ("%s: no address", words[2]);
  err = link_open (s->relay, words[0], &at, &target, &link);
  if (err != 0)
    return wrong ("%s: %s", words[1], strerror (err));
  bad = set_all (link, words + 3);
  if (bad != NULL) {
    s->relay->nr_links--;
    link_close (link);
    return wrong ("%s: what is that?", bad);
  }
  addr_print (&link->at, text);
  printf ("ok %s %s\n", link->name, text);
  fflush (stdout);
  return true;
}

/* ---- freeze, thaw, cut, refuse, heal ---- */

static bool
parse_option (struct link *link, const char *word, struct options *o)
{
  uint64_t n;

  if (strcmp (word, "up") == 0 || strcmp (word, "down") == 0) {
    o->way[*word == 'u' ? UP : DOWN] = true;
  } else if (strncmp (word, "conn=", 5) == 0) {
    o->conn = number (word + 5, UINT64_MAX, &n) ? link_conn (link, n) : NULL;
    return o->conn != NULL;
  } else if (strncmp (word, "at=", 3) == 0) {
    return number (word + 3, CUT_NEVER - 1, &o->at);
  } else if (strncmp (word, "after=", 6) == 0) {
    return number (word + 6, INT64_MAX, &o->after);
  } else if (strcmp (word, "how=reset") == 0) {
    o->how = CUT_RESET;
  } else if (strcmp (word, "how=close") == 0) {
    o->how = CUT_CLOSE;
  } else {
    return false;
  }
  return true;
}

static bool
parse_options (struct link *link, char **words, struct options *o)
{
  *o = (struct options){ .at = CUT_NEVER, .after = CUT_NEVER };
  for (; *words != NULL; words++)
    if (!parse_option (link, *words, o))
      return wrong ("%s: what is that?", *words);
  return true;
}

static bool
freeze_or_thaw (struct link *link, char **words, bool freeze)
{
  struct options o;
  bool both;

  if (!parse_options (link, words, &o))
    return false;
  if (o.at != CUT_NEVER || o.after != CUT_NEVER)
    return wrong ("at= and after= are for cut");
  if (o.conn != NULL && o.conn->state != CONN_OPEN)
    return wrong ("this connection has no target yet");
  both = !o.way[UP] && !o.way[DOWN];
  for (enum way w = UP; w < NR_WAYS; w++) {
    if (!both && !o.way[w])
      continue;
    if (o.conn == NULL)
      freeze ? link_freeze (link, w) : link_thaw (link, w);
    else if (freeze)
      pipe_freeze (&o.conn->pipe[w], now_ns ());
    else if (link->travel[w].frozen_ns == 0)
      pipe_thaw (&o.conn->pipe[w], now_ns ());
  }
  return right ();
}

static bool
cmd_freeze (struct script *s, struct link *link, char **words)
{
  (void) s;
  return freeze_or_thaw (link, words, true);
}

static bool
cmd_thaw (struct script *s, struct link *link, char **words)
{
  (void) s;
  return freeze_or_thaw (link, words, false);
}

static bool
cut_now (struct link *link, const struct options *o)
{
  if (o->way[UP] || o->way[DOWN])
    return wrong ("one way alone is cut with at= or after=");
  if (o->conn != NULL) {
    conn_cut (o->conn, o->how);
    return right ();
  }
  for (struct conn *c = link->conns, *next; c != NULL; c = next) {
    next = c->next;
    conn_cut (c, o->how);
  }
  return right ();
}

/* One connection's cut to come. */
static bool
cut_later (struct conn *c, enum way way, const struct options *o)
{
  uint64_t at = o->at;

  if (c->state != CONN_OPEN)
    return false;
  if (o->after != CUT_NEVER)
    at = c->pipe[way].out_bytes + o->after;
  return pipe_cut_at (&c->pipe[way], at, o->how) == 0;
}

static bool
cmd_cut (struct script *s, struct link *link, char **words)
{
  struct options o;
  enum way way;

  (void) s;
  if (!parse_options (link, words, &o))
    return false;
  if (o.at == CUT_NEVER && o.after == CUT_NEVER)
    return cut_now (link, &o);
  if (o.way[UP] == o.way[DOWN] || (o.at != CUT_NEVER && o.after != CUT_NEVER))
    return wrong ("up or down, at= or after=: one of each");
  way = o.way[UP] ? UP : DOWN;
  if (o.conn != NULL)
    return cut_later (o.conn, way, &o)
               ? right ()
               : wrong ("not open, or more bytes than that have left");
  if (o.at != CUT_NEVER) {
    link->travel[way].cut_at = o.at;
    link->travel[way].cut_how = o.how;
  }
  for (struct conn *c = link->conns, *next; c != NULL; c = next) {
    next = c->next;
    cut_later (c, way, &o);
  }
  return right ();
}

static bool
cmd_refuse (struct script *s, struct link *link, char **words)
{
  (void) s;
  if (*words != NULL)
    return wrong ("%s: what is that?", *words);
  link_refuse (link);
  return right ();
}

static bool
cmd_heal (struct script *s, struct link *link, char **words)
{
  int err;

  (void) s;
  if (*words != NULL)
    return wrong ("%s: what is that?", *words);
  err = link_heal (link);
  return err == 0 ? right () : wrong ("listen: %s", strerror (err));
}

/* ---- stat ---- */

static void
print_bytes (uint64_t in, uint64_t out, const char *way)
{
  printf ("\"%s_in_bytes\":%llu,\"%s_out_bytes\":%llu", way,
          (unsigned long long) in, way, (unsigned long long) out);
}

static void
print_conn (const struct conn *c)
{
  static const char *const states[] = { "connecting", "open", "resetting",
                                        "closing", "over" };

  printf ("{\"id\":%llu,\"state\":\"%s\",", (unsigned long long) c->id,
          states[c->state]);
  for (enum way w = UP; w < NR_WAYS; w++) {
    const char *name = w == UP ? "up" : "down";

    print_bytes (c->pipe[w].in_bytes, c->pipe[w].out_bytes, name);
    printf (",\"%s_flight_bytes\":%llu%s", name,
            (unsigned long long) c->pipe[w].queue.bytes, w == UP ? "," : "}");
  }
}

static void
print_link (const struct link *link)
{
  const struct alarms *as = &link->relay->alarms;
  struct queue_memory m = queue_memory ();

  printf ("{\"name\":\"%s\",\"accepted\":%llu,\"failed\":%llu,\"open\":%llu,",
          link->name, (unsigned long long) link->nr_accepted,
          (unsigned long long) link->nr_failed,
          (unsigned long long) link->nr_conns);
  for (enum way w = UP; w < NR_WAYS; w++) {
    print_bytes (link->travel[w].in_bytes, link->travel[w].out_bytes,
                 w == UP ? "up" : "down");
    putchar (',');
  }
  printf ("\"memory_bytes\":%llu,\"kept_bytes\":%llu,",
          (unsigned long long) m.used_bytes, (unsigned long long) m.kept_bytes);
  printf ("\"late_mean_us\":%.1f,\"late_max_us\":%.1f,\"conns\":[",
          as->nr_rung == 0 ? 0. : as->late_sum_ns / 1e3 / as->nr_rung,
          as->late_max_ns / 1e3);
  for (const struct conn *c = link->conns; c != NULL; c = c->next) {
    print_conn (c);
    if (c->next != NULL)
      putchar (',');
  }
  fputs ("]}", stdout);
}

/* How late alarms rang is told since the last time it was. */
static bool
cmd_stat (struct script *s, char **words)
{
  struct relay *r = s->relay;
  struct link *link = words[0] == NULL ? NULL : link_find (r, words[0]);

  if (words[0] != NULL && (link == NULL || words[1] != NULL))
    return wrong ("%s: no such link", words[0]);
  fputs ("ok [", stdout);
  if (link != NULL)
    print_link (link);
  for (unsigned i = 0; i < r->nr_links && link == NULL; i++) {
    print_link (r->links[i]);
    if (i + 1 < r->nr_links)
      putchar (',');
  }
  puts ("]");
  fflush (stdout);
  r->alarms.nr_rung = 0;
  r->alarms.late_sum_ns = 0;
  r->alarms.late_max_ns = 0;
  return true;
}

static bool
cmd_sleep (struct script *s, char **words)
{
  uint64_t us;

  if (words[0] == NULL || words[1] != NULL ||
      !number (words[0], DELAY_US_MAX, &us))
    return wrong ("sleep US");
  ev_io_stop (s->relay->loop, &s->io);
  ev_timer_set (&s->pause, us / 1e6, 0.);
  ev_timer_start (s->relay->loop, &s->pause);
  return true;
}

/* ---- lines ---- */

static const struct {
  const char *name;
  bool (*obey) (struct script *s, struct link *link, char **words);
} commands[] = {
  { "set", cmd_set }, { "freeze", cmd_freeze }, { "thaw", cmd_thaw },
  { "cut", cmd_cut }, { "refuse", cmd_refuse }, { "heal", cmd_heal },
};

bool
script_obey (struct script *s, char *line)
{
  char *words[WORDS_MAX + 1], *state;
  unsigned nr = 0;
  struct link *link;

  for (char *w = strtok_r (line, " \t\r\n", &state);
       w != NULL && nr < WORDS_MAX; w = strtok_r (NULL, " \t\r\n", &state))
    words[nr++] = w;
  words[nr] = NULL;
  if (nr == 0)
    return true;
  if (nr == WORDS_MAX)
    return wrong ("too many words");
  if (strcmp (words[0], "listen") == 0)
    return cmd_listen (s, words + 1);
  if (strcmp (words[0], "stat") == 0)
    return cmd_stat (s, words + 1);
  if (strcmp (words[0], "sleep") == 0)
    return cmd_sleep (s, words + 1);
  for (unsigned i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    if (strcmp (words[0], commands[i].name) != 0)
      continue;
    link = nr < 2 ? NULL : link_find (s->relay, words[1]);
    if (link == NULL)
      return wrong ("%s: no such link", nr < 2 ? "?" : words[1]);
    return commands[i].obey (s, link, words + 2);
  }
  return wrong ("%s: no such command", words[0]);
}

/* Obeys the lines that are there, until one of them is `sleep`. */
static void
obey_lines (struct script *s)
{
  char *end;

  while (!ev_is_active (&s->pause) &&
         (end = memchr (s->line, '\n', s->fill)) != NULL) {
    size_t len = end + 1 - s->line;

    *end = '\0';
    script_obey (s, s->line);
    s->fill -= len;
    memmove (s->line, s->line + len, s->fill);
  }
  if (s->fill == sizeof s->line) {
    wrong ("a line of more than %u bytes", SCRIPT_LINE_MAX);
    ev_break (s->relay->loop, EVBREAK_ALL);
  }
}

static void
on_pause (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct script *s = w->data;

  (void) revents;
  right ();
  ev_io_start (loop, &s->io);
  obey_lines (s);
}

static void
on_input (struct ev_loop *loop, ev_io *w, int revents)
{
  struct script *s = w->data;
  ssize_t n = read (w->fd, s->line + s->fill, sizeof s->line - s->fill);

  (void) revents;
  if (n == -1 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0) {
    ev_break (loop, EVBREAK_ALL);
    return;
  }
  s->fill += n;
  obey_lines (s);
}

void
script_open (struct script *s, struct relay *relay)
{
  s->relay = relay;
  s->fill = 0;
  ev_io_init (&s->io, on_input, STDIN_FILENO, EV_READ);
  s->io.data = s;
  ev_init (&s->pause, on_pause);
  s->pause.data = s;
  ev_io_start (relay->loop, &s->io);
}

void
script_close (struct script *s)
{
  ev_io_stop (s->relay->loop, &s->io);
  ev_timer_stop (s->relay->loop, &s->pause);
}
