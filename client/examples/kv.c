/* SPDX-License-Identifier: BSD-2-Clause */
/* kv: keys and values on an export, an example of libfarpage's file pager.
 *
 *   kv URI put KEY VALUE | get KEY | del KEY | list
 *   kv URI -                          commands are lines of standard input
 *
 * The file is a log; what is where is worked out when it is opened:
 *
 *   0      4096                       end
 *   | head | record | record | record |  what was there before
 *
 *   head    "farpage kv" and a random number
 *   record  checksum, bytes of key, bytes of value (GONE: deleted), key, value
 *
 * `ok' means that the record is durable: it is appended, and the next one only
 * after farpage_file_sync () has said 0.  So whatever dies, program, server or
 * machine, all that was ok lies before the first record that is not whole, and
 * there the log ends.  A checksum goes on from that of the record before it,
 * the first from the random number: remains of a record that was not whole, or
 * of another log, are none.
 *
 * Where the server has a farpage store, a server that dies and comes back is
 * not noticed here at all, but for the time.
 *
 * Not done: to make room of what was replaced, and to tell a record that the
 * medium has lost from the end.  Numbers are of this machine's byte order.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <farpage.h>
#include <isa-l/crc.h>

#define HEAD_BYTES 4096u /* of a file system not all zeros */
#define KEY_MAX    1024u
#define VALUE_MAX  (1u << 20)
#define GONE       UINT32_MAX
#define BUCKETS    4096u

static const char magic[16] = "farpage kv 1\n";

struct head {
  char magic[sizeof magic];
  uint32_t random;
  char zeros[HEAD_BYTES - sizeof magic - sizeof (uint32_t)];
};

struct record {
  uint32_t sum; /* of what follows, on from the record before */
  uint32_t key_bytes, value_bytes;
  char data[]; /* key, value */
};

struct entry {
  struct entry *next;
  uint64_t value_off;
  uint32_t value_bytes, key_bytes;
  char key[];
};

static struct farpage_link *link_;
static struct farpage_file *file;
static uint64_t end; /* of the log */
static uint32_t sum; /* of its last record */
static struct entry *bucket[BUCKETS];

/* ---- trouble ---- */

static void
log_line (void *arg, int priority, const char *line)
{
  (void) arg;
  if (priority <= 4) /* a warning, or worse */
    fprintf (stderr, "kv: %s\n", line);
}

/* What was not said to be ok is as it may be; the next open finds out. */
static void
must (int err, const char *what)
{
  if (err == 0)
    return;
  fprintf (stderr, "kv: %s: %s\n", what, strerror (err));
  exit (1);
}

/* As must (), where there is something to be done about it. */
static void
want (int is, const char *what, const char *why)
{
  if (is)
    return;
  fprintf (stderr, "kv: %s: %s\n", what, why);
  exit (1);
}

static void *
must_malloc (size_t bytes)
{
  void *p = malloc (bytes);

  must (p == NULL ? ENOMEM : 0, "memory");
  return p;
}

/* ---- bytes ---- */

static void
read_all (void *to, size_t len, uint64_t off)
{
  size_t done;
  int err = farpage_file_pread (file, to, len, off, &done);

  must (err != 0 || done == len ? err : EIO, "read");
}

static void
write_durably (const void *from, size_t len, uint64_t off)
{
  size_t done;
  int err = farpage_file_pwrite (file, from, len, off, &done);

  must (err != 0 || done == len ? err : EIO, "write");
  must (farpage_file_sync (file), "sync");
}

/* CRC-32C, on from an earlier one. */
static uint32_t
checksum (uint32_t crc, const void *data, size_t len)
{
  return ~crc32_iscsi ((unsigned char *) (uintptr_t) data, (int) len, ~crc);
}

static size_t
record_bytes (const struct record *r)
{
  return sizeof *r + r->key_bytes +
         (r->value_bytes == GONE ? 0 : r->value_bytes);
}

static uint32_t
record_sum (const struct record *r)
{
  return checksum (sum, &r->key_bytes, record_bytes (r) - sizeof r->sum);
}

/* ---- the index ---- */

static struct entry **
find (const char *key, uint32_t key_bytes)
{
  struct entry **at = &bucket[checksum (0, key, key_bytes) % BUCKETS];

  while (*at != NULL && ((*at)->key_bytes != key_bytes ||
                         memcmp ((*at)->key, key, key_bytes) != 0))
    at = &(*at)->next;
  return at;
}

/* The record lies at the end of the log, and is whole. */
static void
take (const struct record *r)
{
  struct entry **at = find (r->data, r->key_bytes), *e = *at;

  if (e != NULL && r->value_bytes == GONE) {
    *at = e->next;
    free (e);
    e = NULL;
  } else if (e == NULL && r->value_bytes != GONE) {
    e = must_malloc (sizeof *e + r->key_bytes);
    e->next = NULL;
    e->key_bytes = r->key_bytes;
    memcpy (e->key, r->data, r->key_bytes);
    *at = e;
  }
  if (e != NULL) {
    e->value_off = end + sizeof *r + r->key_bytes;
    e->value_bytes = r->value_bytes;
  }
  end += record_bytes (r);
  sum = r->sum;
}

/* ---- the log ---- */

/* NULL: the log ends here. */
static struct record *
read_record (void)
{
  const uint64_t left = farpage_file_size (file) - end;
  struct record head, *r;

  if (left < sizeof head)
    return NULL;
  read_all (&head, sizeof head, end);
  if (head.key_bytes == 0 || head.key_bytes > KEY_MAX ||
      (head.value_bytes > VALUE_MAX && head.value_bytes != GONE) ||
      record_bytes (&head) > left)
    return NULL;
  r = must_malloc (record_bytes (&head));
  read_all (r, record_bytes (&head), end);
  if (record_sum (r) == r->sum)
    return r;
  free (r);
  return NULL;
}

/* An export that begins with zeros becomes a new log. */
static void
open_log (const char *uri)
{
  static const struct head nothing;
  struct farpage_options options;
  struct record *r;
  struct head head;

  farpage_options_init (&options);
  options.log = log_line;
  must (farpage_link_open (uri, &options, &link_), uri);
  must (farpage_file_open (link_, NULL, &file), uri);
  want (farpage_file_size (file) >= sizeof head, uri,
        "it is too small (4096 bytes at least)");
  read_all (&head, sizeof head, 0);
  if (memcmp (&head, &nothing, sizeof head) == 0) {
    memcpy (head.magic, magic, sizeof magic);
    must (getrandom (&head.random, sizeof head.random, 0) > 0 ? 0 : errno,
          "random number");
    write_durably (&head, sizeof head, 0);
  }
  want (memcmp (head.magic, magic, sizeof magic) == 0, uri,
        "it holds something else (give an export that begins with zeros)");
  sum = head.random;
  end = sizeof head;
  while ((r = read_record ()) != NULL) {
    take (r);
    free (r);
  }
}

static void
append (const char *key, const char *value)
{
  const size_t key_bytes = strlen (key);
  const size_t value_bytes = value != NULL ? strlen (value) : 0;
  struct record *r;

  want (key_bytes > 0 && key_bytes <= KEY_MAX, "key", "it has 1 to 1024 bytes");
  want (value_bytes <= VALUE_MAX, "value", "it has 1048576 bytes at most");
  r = must_malloc (sizeof *r + key_bytes + value_bytes);
  r->key_bytes = (uint32_t) key_bytes;
  r->value_bytes = value != NULL ? (uint32_t) value_bytes : GONE;
  memcpy (r->data, key, key_bytes);
  if (value != NULL)
    memcpy (r->data + key_bytes, value, value_bytes);
  r->sum = record_sum (r);
  want (record_bytes (r) <= farpage_file_size (file) - end, key,
        "there is no room for it (give a larger export)");
  write_durably (r, record_bytes (r), end);
  take (r);
  free (r);
  puts ("ok");
}

/* ---- commands ---- */

static int
not_there (const char *key)
{
  fprintf (stderr, "kv: %s: not there\n", key);
  return 1;
}

static int
get (const char *key)
{
  const struct entry *e = *find (key, (uint32_t) strlen (key));
  char *value;

  if (e == NULL)
    return not_there (key);
  value = must_malloc (e->value_bytes + 1u);
  read_all (value, e->value_bytes, e->value_off);
  value[e->value_bytes] = '\0';
  puts (value);
  free (value);
  return 0;
}

static int
list (void)
{
  for (unsigned i = 0; i < BUCKETS; i++)
    for (const struct entry *e = bucket[i]; e != NULL; e = e->next)
      printf ("%.*s\n", (int) e->key_bytes, e->key);
  return 0;
}

/* key and value are NULL where there are none.  The exit status; 2: usage. */
static int
obey (const char *command, const char *key, const char *value)
{
  int status = 2;

  if (strcmp (command, "put") == 0 && value != NULL) {
    append (key, value);
    status = 0;
  } else if (strcmp (command, "get") == 0 && key != NULL && value == NULL) {
    status = get (key);
  } else if (strcmp (command, "del") == 0 && key != NULL && value == NULL) {
    if (*find (key, (uint32_t) strlen (key)) == NULL)
      return not_there (key);
    append (key, NULL);
    status = 0;
  } else if (strcmp (command, "list") == 0 && key == NULL) {
    status = list ();
  }
  fflush (stdout);
  return status;
}

static int
obey_lines (void)
{
  char *line = NULL;
  size_t room = 0;
  ssize_t len;
  int status = 0, one = 0;

  while (one != 2 && (len = getline (&line, &room, stdin)) > 0) {
    char *rest = line, *command, *key;

    if (line[len - 1] == '\n')
      line[len - 1] = '\0';
    command = strsep (&rest, " ");
    key = strsep (&rest, " ");
    one = obey (command, key, rest);
    if (one > status)
      status = one;
  }
  free (line);
  return status;
}

int
main (int argc, char **argv)
{
  int status = 2;

  if (argc >= 3 && argc <= 5) {
    open_log (argv[1]);
    if (argc == 3 && strcmp (argv[2], "-") == 0)
      status = obey_lines ();
    else
      status =
          obey (argv[2], argc > 3 ? argv[3] : NULL, argc > 4 ? argv[4] : NULL);
    must (farpage_file_close (file), "close");
    must (farpage_link_close (link_), "close");
  }
  if (status == 2)
    fprintf (stderr, "usage: kv URI put KEY VALUE | get KEY | del KEY | list\n"
                     "       kv URI -\n");
  return status;
}
