/* SPDX-License-Identifier: BSD-2-Clause */
/* A client that does what its standard input says, one line a command, and
 * answers each with one line, so that a shell script can compare errors that
 * other clients hide.  libnbd's own checks are off: bad requests reach the
 * server.
 *
 *   open ADDRESS [NAME]     ADDRESS is a socket's path or a port of 127.0.0.1;
 *                           NAME may have \xNN; on the current handle
 *   probe ADDRESS [NAME]    NBD_OPT_INFO and away
 *   use N                   the handle, 0 to 15, that commands are for
 *   close | abandon         with a good-bye, or without
 *   read OFF LEN | write OFF LEN BYTE | check OFF LEN BYTE
 *   trim OFF LEN | cache OFF LEN | flush | zero OFF LEN [fast] [nohole]
 *   map OFF LEN [one]       "LEN:TYPE ..." of one NBD_CMD_BLOCK_STATUS
 *   show                    size, block sizes, flags, description
 *   long-name ADDRESS N     a name of N bytes, by a raw NBD_OPT_GO
 *
 * An answer is "ok ...", or the name of the errno.  Status 1: a command that
 * is none.  No threads.
 */

#include <config.h>

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <libnbd.h>

#define HANDLES  16
#define LINE_MAX 8192
#define DATA_MAX (UINT32_C (64) << 20)

static struct nbd_handle *handles[HANDLES];
static unsigned current;
static unsigned char *data;

static void
answer (int r)
{
  int err = nbd_get_errno ();

  if (r == 0)
    printf ("ok\n");
  else
    printf ("%s\n", err == 0 ? "FAILED" : strerrorname_np (err));
}

/* The text of \xNN; returns its end. */
static void
unescape (char *text)
{
  char *to = text;

  while (*text != '\0') {
    if (text[0] == '\\' && text[1] == 'x' && text[2] != '\0') {
      char hex[3] = { text[2], text[3], '\0' };

      *to++ = (char) strtoul (hex, NULL, 16);
      text += text[3] != '\0' ? 4 : 3;
    } else
      *to++ = *text++;
  }
  *to = '\0';
}

/* ---- connections ---- */

static int
dial (struct nbd_handle *nbd, const char *address)
{
  if (address[0] == '/')
    return nbd_connect_unix (nbd, address);
  return nbd_connect_tcp (nbd, "127.0.0.1", address);
}

static struct nbd_handle *
make_handle (const char *name)
{
  struct nbd_handle *nbd = nbd_create ();

  if (nbd == NULL || nbd_set_strict_mode (nbd, 0) == -1 ||
      nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1 ||
      nbd_set_full_info (nbd, true) == -1 ||
      nbd_set_export_name (nbd, name) == -1) {
    fprintf (stderr, "nbd-script: %s\n", nbd_get_error ());
    exit (1);
  }
  return nbd;
}

static void
hang_up (void)
{
  if (handles[current] != NULL)
    nbd_close (handles[current]);
  handles[current] = NULL;
}

static void
do_open (const char *address, char *name)
{
  struct nbd_handle *nbd;

  unescape (name);
  hang_up ();
  nbd = make_handle (name);
  if (dial (nbd, address) == -1) {
    answer (-1);
    nbd_close (nbd);
    return;
  }
  handles[current] = nbd;
  printf ("ok %" PRId64 "%s\n", nbd_get_size (nbd),
          nbd_is_read_only (nbd) == 1 ? " read-only" : "");
}

static void
do_probe (const char *address, char *name)
{
  struct nbd_handle *nbd;
  int r;

  unescape (name);
  nbd = make_handle (name);
  nbd_set_opt_mode (nbd, true);
  r = dial (nbd, address);
  if (r == 0)
    r = nbd_opt_info (nbd);
  if (r == 0)
    printf ("ok %" PRId64 "%s\n", nbd_get_size (nbd),
            nbd_is_read_only (nbd) == 1 ? " read-only" : "");
  else
    answer (r);
  nbd_opt_abort (nbd);
  nbd_close (nbd);
}

static void
do_close (bool politely)
{
  int r = politely ? nbd_shutdown (handles[current], 0) : 0;

  hang_up ();
  answer (r);
}

/* ---- a name that libnbd does not send ---- */

static bool
exchange (int fd, const void *out, size_t out_bytes, void *in, size_t in_bytes)
{
  if (send (fd, out, out_bytes, MSG_NOSIGNAL) != (ssize_t) out_bytes)
    return false;
  return recv (fd, in, in_bytes, MSG_WAITALL) == (ssize_t) in_bytes;
}

static void
do_long_name (const char *path, uint32_t bytes)
{
  static unsigned char option[4 + 8 + 4 + 4 + 4 + 16384 + 2];
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  unsigned char hello[18], reply[20];
  uint32_t be[] = { htonl (7), htonl (4 + bytes + 2), htonl (bytes) };
  uint32_t type;
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (bytes > 16384)
    bytes = 16384;
  snprintf (sun.sun_path, sizeof sun.sun_path, "%s", path);
  memcpy (option, "\0\0\0\3IHAVEOPT", 12);
  memcpy (option + 12, be, sizeof be);
  memset (option + 24, 'n', bytes);
  if (connect (fd, (struct sockaddr *) &sun, sizeof sun) == -1 ||
      !exchange (fd, "", 0, hello, sizeof hello) ||
      !exchange (fd, option, 24 + bytes + 2, reply, sizeof reply))
    printf ("closed\n");
  else {
    memcpy (&type, reply + 12, 4);
    printf ("reply 0x%" PRIx32 "\n", ntohl (type));
  }
  close (fd);
}

/* ---- requests ---- */

static void
do_check (uint64_t off, size_t bytes, unsigned byte)
{
  if (nbd_pread (handles[current], data, bytes, off, 0) == -1) {
    answer (-1);
    return;
  }
  if (bytes > 1 && data[0] == byte && memcmp (data, data + 1, bytes - 1) == 0)
    bytes = 0; /* the quick way */
  for (size_t i = 0; i < bytes; i++)
    if (data[i] != byte) {
      printf ("0x%02x at %" PRIu64 "\n", data[i], off + i);
      return;
    }
  answer (0);
}

static int
print_extents (void *opaque, const char *context, uint64_t off,
               uint32_t *entries, size_t nr, int *error)
{
  (void) opaque;
  (void) context;
  (void) off;
  (void) error;
  printf ("ok");
  for (size_t i = 0; i + 1 < nr; i += 2)
    printf (" %" PRIu32 ":%" PRIu32, entries[i], entries[i + 1]);
  printf ("\n");
  return 0;
}

static void
do_map (uint64_t off, uint64_t bytes, bool one)
{
  nbd_extent_callback callback = { .callback = print_extents };

  if (nbd_block_status (handles[current], bytes, off, callback,
                        one ? LIBNBD_CMD_FLAG_REQ_ONE : 0) == -1)
    answer (-1);
}

static void
do_show (void)
{
  struct nbd_handle *nbd = handles[current];
  char *description = nbd_get_export_description (nbd);

  printf ("ok size=%" PRId64 " min=%" PRId64 " preferred=%" PRId64
          " max=%" PRId64 "%s%s%s%s%s%s%s%s description=%s\n",
          nbd_get_size (nbd), nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM),
          nbd_get_block_size (nbd, LIBNBD_SIZE_PREFERRED),
          nbd_get_block_size (nbd, LIBNBD_SIZE_MAXIMUM),
          nbd_is_read_only (nbd) == 1 ? " read-only" : "",
          nbd_can_multi_conn (nbd) == 1 ? " multi-conn" : "",
          nbd_can_flush (nbd) == 1 ? " flush" : "",
          nbd_can_fua (nbd) == 1 ? " fua" : "",
          nbd_can_trim (nbd) == 1 ? " trim" : "",
          nbd_can_zero (nbd) == 1 ? " zero" : "",
          nbd_can_fast_zero (nbd) == 1 ? " fast-zero" : "",
          nbd_can_cache (nbd) == 1 ? " cache" : "",
          description != NULL ? description : "");
  free (description);
}

/* 0, -1 for errno, or 1: it is none of these. */
static int
simple_request (const char *verb, uint64_t off, uint64_t bytes, unsigned byte)
{
  struct nbd_handle *nbd = handles[current];

  if (strcmp (verb, "flush") == 0)
    return nbd_flush (nbd, 0);
  if (strcmp (verb, "trim") == 0)
    return nbd_trim (nbd, bytes, off, 0);
  if (strcmp (verb, "cache") == 0)
    return nbd_cache (nbd, bytes, off, 0);
  if (strcmp (verb, "read") == 0)
    return nbd_pread (nbd, data, bytes, off, 0);
  if (strcmp (verb, "write") != 0)
    return 1;
  memset (data, (int) byte, bytes);
  return nbd_pwrite (nbd, data, bytes, off, 0);
}

static bool
request (const char *verb, const char *args)
{
  uint64_t off = 0, bytes = 0;
  unsigned byte = 0;
  int r;

  sscanf (args, "%" SCNu64 " %" SCNu64 " %u", &off, &bytes, &byte);
  if (strcmp (verb, "zero") == 0) {
    uint32_t flags = (strstr (args, "fast") ? LIBNBD_CMD_FLAG_FAST_ZERO : 0) |
                     (strstr (args, "nohole") ? LIBNBD_CMD_FLAG_NO_HOLE : 0);

    answer (nbd_zero (handles[current], bytes, off, flags));
    return true;
  }
  if (strcmp (verb, "map") == 0) {
    do_map (off, bytes, strstr (args, "one") != NULL);
    return true;
  }
  if (bytes > DATA_MAX && verb[0] != 't' && verb[1] != 'a')
    return false;
  if (strcmp (verb, "check") == 0) {
    do_check (off, bytes, byte);
    return true;
  }
  r = simple_request (verb, off, bytes, byte);
  if (r != 1)
    answer (r);
  return r != 1;
}

static bool
command (char *line)
{
  char *verb = strtok (line, " ");
  char *args = verb != NULL ? strtok (NULL, "") : NULL;
  char *name;

  if (verb == NULL)
    return true;
  if (args == NULL)
    args = verb + strlen (verb);
  if (strcmp (verb, "use") == 0) {
    current = (unsigned) strtoul (args, NULL, 10) % HANDLES;
    return true;
  }
  name = strchr (args, ' ');
  if (name != NULL && strcmp (verb, "long-name") == 0) {
    *name = '\0';
    do_long_name (args, (uint32_t) strtoul (name + 1, NULL, 10));
    return true;
  }
  if (strcmp (verb, "open") == 0 || strcmp (verb, "probe") == 0) {
    if (name != NULL)
      *name++ = '\0';
    else
      name = args + strlen (args);
    (verb[0] == 'o' ? do_open : do_probe) (args, name);
    return true;
  }
  if (handles[current] == NULL) {
    printf ("not open\n");
    return true;
  }
  if (strcmp (verb, "close") == 0 || strcmp (verb, "abandon") == 0)
    do_close (verb[0] == 'c');
  else if (strcmp (verb, "show") == 0)
    do_show ();
  else
    return request (verb, args);
  return true;
}

int
main (void)
{
  static char line[LINE_MAX];

  setvbuf (stdout, NULL, _IOLBF, 0);
  data = malloc (DATA_MAX);
  if (data == NULL)
    return 1;
  while (fgets (line, sizeof line, stdin) != NULL) {
    line[strcspn (line, "\n")] = '\0';
    if (!command (line)) {
      fprintf (stderr, "nbd-script: no such command: %s\n", line);
      return 1;
    }
  }
  for (current = 0; current < HANDLES; current++)
    hang_up ();
  free (data);
  return 0;
}
