/* SPDX-License-Identifier: BSD-2-Clause */
/* The stamp in block 0; see stamp.h.  Called by swap.c, which does the I/O:
 *
 *   open:  read.  TAKE: go on.  SOMETHING: EEXIST.  WATCH: read again, up to
 *          STAMP_LOOKS times; alive: EBUSY, else go on and say so.
 *          write OPEN with an id of its own, wait a moment and read; not
 *          ours: two came at once, EBUSY.
 *   while open: each STAMP_BEAT_US read; ours: write beat + 1; not ours: lost.
 *   reconnect: read; not ours: lost (also zeros: the server has forgotten).
 *   close: write CLOSED.
 *
 * A stamp is believed only whole: its CRC holds, spare bytes are zero, state
 * and version are known.  A torn or damaged one counts as something else, so
 * that nobody takes by accident what may be in use.
 */

#include <config.h>

#include "stamp.h"

#include <endian.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"
#include "env.h"

static const char magic[8] = { 'F', 'A', 'R', 'P', 'S', 'W', 'A', 'P' };

struct disk_stamp {
  char magic[8];
  uint32_t version, state;
  uint8_t id[STAMP_ID_BYTES];
  uint64_t beat, nr_blocks;
  uint32_t pid, spare0;
  char host[STAMP_HOST_MAX + 1];
  uint8_t spare1[3972];
  uint32_t crc;
};

_Static_assert(sizeof (struct disk_stamp) == STAMP_BYTES, "stamp");

void
stamp_init (struct stamp *st, uint64_t nr_blocks)
{
  memset (st, 0, sizeof *st);
  st->state = STAMP_OPEN;
  env_random (st->id, sizeof st->id);
  st->nr_blocks = nr_blocks;
  st->pid = (uint32_t) getpid ();
  if (gethostname (st->host, STAMP_HOST_MAX) != 0)
    memset (st->host, 0, sizeof st->host);
}

void
stamp_write (const struct stamp *st, uint8_t *block)
{
  struct disk_stamp d;

  memset (&d, 0, sizeof d);
  memcpy (d.magic, magic, sizeof magic);
  d.version = htole32 (STAMP_VERSION);
  d.state = htole32 (st->state);
  memcpy (d.id, st->id, sizeof d.id);
  d.beat = htole64 (st->beat);
  d.nr_blocks = htole64 (st->nr_blocks);
  d.pid = htole32 (st->pid);
  memcpy (d.host, st->host, strnlen (st->host, STAMP_HOST_MAX));
  d.crc = htole32 (crc32c (0, &d, sizeof d - sizeof d.crc));
  memcpy (block, &d, sizeof d);
}

static bool
is_zero (const void *buf, size_t len)
{
  const uint8_t *p = buf;

  return len == 0 || (p[0] == 0 && memcmp (p, p + 1, len - 1) == 0);
}

/* From the network: only what people can read, whatever it says. */
static void
copy_host (char *to, const char *from)
{
  size_t len = strnlen (from, STAMP_HOST_MAX);

  for (size_t i = 0; i < len; i++)
    to[i] = from[i] > ' ' && from[i] < 127 ? from[i] : '?';
  to[len] = '\0';
}

enum stamp_sort
stamp_read (const uint8_t *block, struct stamp *st)
{
  struct disk_stamp d;
  uint32_t state;

  if (is_zero (block, STAMP_BYTES))
    return STAMP_NONE;
  memcpy (&d, block, sizeof d);
  state = le32toh (d.state);
  if (memcmp (d.magic, magic, sizeof magic) != 0 ||
      le32toh (d.version) != STAMP_VERSION ||
      (state != STAMP_OPEN && state != STAMP_CLOSED) ||
      le32toh (d.crc) != crc32c (0, &d, sizeof d - sizeof d.crc) ||
      d.spare0 != 0 || !is_zero (d.spare1, sizeof d.spare1))
    return STAMP_FOREIGN;
  st->state = state == STAMP_OPEN ? STAMP_OPEN : STAMP_CLOSED;
  memcpy (st->id, d.id, sizeof st->id);
  st->beat = le64toh (d.beat);
  st->nr_blocks = le64toh (d.nr_blocks);
  st->pid = le32toh (d.pid);
  copy_host (st->host, d.host);
  return STAMP_VALID;
}

enum stamp_rule
stamp_look (const uint8_t *block, bool takeover)
{
  struct stamp st;

  switch (stamp_read (block, &st)) {
  case STAMP_NONE:
    return STAMP_TAKE;
  case STAMP_VALID:
    return st.state == STAMP_CLOSED || takeover ? STAMP_TAKE : STAMP_WATCH;
  case STAMP_FOREIGN:
    break;
  }
  return takeover ? STAMP_TAKE : STAMP_SOMETHING;
}

bool
stamp_is_alive (const uint8_t *first, const uint8_t *later)
{
  return memcmp (first, later, STAMP_BYTES) != 0;
}

bool
stamp_is_ours (const uint8_t *block, const struct stamp *ours)
{
  struct stamp st;

  return stamp_read (block, &st) == STAMP_VALID && st.state == STAMP_OPEN &&
         memcmp (st.id, ours->id, sizeof st.id) == 0;
}
